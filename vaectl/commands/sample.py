"""``vaectl sample``: decode draws of the prior, reconstructions or interpolations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaectl.commands.shared.options import (
    Checkpoint,
    DataDir,
    Device,
    Force,
    Json,
    ProgressMode,
    Quiet,
    RunArgument,
    Seed,
    Verbose,
    choice,
    number,
    output_option,
    state,
)
from vaectl.commands.shared.pace import Clock
from vaectl.commands.shared.plugins import Plugins, load
from vaectl.commands.shared.render import Screen
from vaectl.commands.shared.results import TABLES, pair_columns, write
from vaectl.commands.shared.session import Session, check_destination, deliver
from vaectl.errors import UsageError, amount, check_choice
from vaectl.runs.run import Run

if TYPE_CHECKING:
    import numpy as np
    from torch.distributions import Distribution

    from vaectl.model.vae import VAE
    from vaectl.output.arrays import Stream

FORMATS = (".png", ".npz", ".npy")
MODES = ("mean", "mode", "draw")
# images decoded at once; fewer if they are large
CHUNK = 1000
MOST_TILES = 10_000


def sample_cli(
    context: typer.Context,
    run: RunArgument,
    num_samples: Annotated[
        int,
        typer.Option(
            "--num-samples",
            "-n",
            metavar="N",
            parser=number(int, 1, 1_000_000),
            help="Number of images; with --interpolate, over all lines.",
        ),
    ] = 64,
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature",
            metavar="X",
            parser=number(float, 0, 10),
            show_default="1.0",
            help="Scales a draw's distance from the prior's mean (0 to 10); for a VQ-VAE, divides the logits.",
        ),
    ] = None,
    columns: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            parser=number(int, 1, 1000),
            show_default="as wide as suits; --interpolate: 8",
            help="Tiles per row; with --interpolate, steps per line.",
        ),
    ] = None,
    mode: Annotated[
        str,
        choice(
            "--mode",
            MODES,
            "Show the mean or mode of p(x|z), or draw from it. A picture clamps values to the range of the data.",
        ),
    ] = "mean",
    reconstruct: Annotated[
        bool, typer.Option("--reconstruct", help="Show test images, each above its reconstruction.")
    ] = False,
    interpolate: Annotated[
        bool, typer.Option("--interpolate", help="Show lines between the latents of pairs of test images.")
    ] = False,
    output: Annotated[
        Path | None,
        output_option("Where to write: .png, .npz or .npy; for tables also .csv or .parquet.", "RUN/samples/0001.png"),
    ] = None,
    force: Force = False,
    checkpoint: Checkpoint = "best",
    data_dir: DataDir = None,
    plugin: Plugins = None,
    device: Device = "auto",
    seed: Seed = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
    progress: ProgressMode = "auto",
) -> None:
    """Decode samples of the prior to an image grid or an array."""
    screen = Screen(quiet, verbose, as_json, progress)
    check_choice("--mode", mode, MODES)
    if reconstruct and interpolate:
        raise UsageError("--reconstruct and --interpolate cannot be given together")
    uses_data = reconstruct or interpolate
    if temperature is not None and uses_data:
        raise UsageError("--temperature is for samples of the prior, not for --reconstruct or --interpolate")
    if data_dir is not None and not uses_data:
        raise UsageError("--data-dir is for --reconstruct and --interpolate; samples need no data")
    load(plugin, screen)
    opened = Run.open(run, state(context).runs_dir)
    suffix = check_destination(output, (*FORMATS, *TABLES), force=force, run=opened, folder="samples")
    if suffix in TABLES:
        if not opened.data_info.is_table:
            raise UsageError(
                f"-o {output}: {suffix} is for tables; {opened.id} makes images", hint="write .npz or .npy"
            )
        from vaectl.output.arrays import require_format

        require_format(suffix)
    if columns is not None and suffix != ".png" and not interpolate:
        raise UsageError(f"--columns is for pictures; {suffix} has none")
    if suffix == ".png" and num_samples > MOST_TILES:
        raise UsageError(
            f"-n {num_samples} is too many for one picture; at most {MOST_TILES}", hint="write .npz or .npy"
        )
    import torch

    from vaectl.system.runtime import seeded

    session = Session(opened, screen, device, data_dir)
    kind = "reconstructions" if reconstruct else "interpolations" if interpolate else "samples"
    model = session.model(checkpoint)
    if uses_data:
        session.data()
    if kind == "samples":
        _warn_of_noise(session, model)
    clock = Clock()
    with torch.no_grad(), seeded(seed), screen.counting(kind, num_samples) as counted:
        streams, columns = make(
            session, model, kind, num_samples, mode=mode, columns=columns, progress=counted,
            temperature=1.0 if temperature is None else temperature,
        )  # fmt: skip
        path = deliver(
            output, opened, "samples", suffix, lambda path: write(path, streams, columns, kind, opened), force=force
        )
    pace = clock.pace(num_samples)
    lines = f" in lines of {columns}" if interpolate else ""
    document = {
        "run": opened.id,
        "path": str(path),
        "kind": kind,
        "n": num_samples,
        "mode": mode,
        "seed": seed,
        **pace.to_json(),
    }
    screen.result(
        document, short=str(path), text=f"{amount(num_samples, kind[:-1])}{lines} of {opened.id} ({pace}): {path}"
    )


def _warn_of_noise(session: Session, model: VAE) -> None:
    """Warn if codes are drawn uniformly, which gives noise, because no prior was fitted to them."""
    from vaectl.model.distributions.codes import CodeDistribution

    prior = model.prior_at()
    if isinstance(prior, CodeDistribution) and prior.is_uniform:
        learnable = any(True for _ in model.prior.parameters())
        command = (
            f"--resume {session.run.reference}" if learnable else f"--from {session.run.reference} --prior transformer"
        )
        session.screen.warn(
            f"the codes of {session.run.id} are drawn uniformly, so these samples are noise; fit a prior to them with: "
            f"vaectl train {command} --prior-epochs 30"
        )


def make(
    session: Session,
    model: VAE,
    kind: str,
    n: int,
    *,
    mode: str,
    columns: int | None,
    temperature: float,
    progress: Callable[[int], None],
) -> tuple[dict[str, Stream], int]:
    """Decode images of a kind as they are taken, and choose the number of columns to show them in.

    Returns:
        ``images`` float32 (n, C, H, W), which may be outside [0, 1] for a likelihood of real numbers; reconstructions
        also have ``originals`` and ``labels``.

    Raises:
        UsageError: There are too few test examples for so many reconstructions or interpolations.
    """
    import numpy as np
    import torch

    from vaectl.data.examples import given_for
    from vaectl.evaluation import latents
    from vaectl.output.arrays import Stream
    from vaectl.system.runtime import at_once

    shape, pixels, device = (n, *session.run.data_info.shape), np.dtype(np.float32), session.device
    chunk = at_once(CHUNK, shape[1:])
    if kind == "samples":
        # samples of a conditional model get the conditions of the test examples
        given = given_for(session.data().test, n, device) if session.run.data_info.given else None
        samples = (
            model.sample(min(chunk, n - start), temperature, None if given is None else given[start : start + chunk])
            for start in range(0, n, chunk)
        )
        return {"images": Stream(shape, pixels, _decode(samples, n, mode, progress))}, columns or math.ceil(
            math.sqrt(n)
        )
    test = session.data().test
    order = torch.randperm(len(test))
    if kind == "reconstructions":
        if n > len(test):
            raise UsageError(f"-n {n}: the test split has {amount(len(test), 'example')}")
        parts = torch.split(order[:n], chunk)
        means = (model.reconstruct(test.batch(rows).to(device)) for rows in parts)
        streams = {
            "images": Stream(shape, pixels, _decode(means, n, mode, progress)),
            "originals": Stream(shape, pixels, (test.batch(rows).x.numpy() for rows in parts)),
            "labels": Stream((n,), np.dtype(np.int64), [test.labels[order[:n]].numpy()]),
        }
        return streams, columns or pair_columns(n)
    steps = columns or 8
    lines = math.ceil(n / steps)
    if 2 * lines > len(test):
        raise UsageError(
            f"-n {n}: {2 * lines} test examples are needed for {amount(lines, 'line')}; the test split has {len(test)}"
        )
    together = max(1, chunk // steps)
    starts, ends = (torch.split(rows, together) for rows in (order[:lines], order[lines : 2 * lines]))
    between = (
        latents.interpolate(model, test.batch(a).to(device), test.batch(b).to(device), steps)
        for a, b in zip(starts, ends, strict=True)
    )
    return {"images": Stream(shape, pixels, _decode(between, n, mode, progress))}, steps


def _decode(chunks: Iterator[Distribution], n: int, mode: str, progress: Callable[[int], None]) -> Iterator[np.ndarray]:
    """The first ``n`` images of likelihoods, float32 (chunk, C, H, W) at a time."""
    from vaectl.evaluation.reconstruction import VALUES

    done = 0
    for px in chunks:
        images = VALUES[mode](px)[: n - done].float().cpu()
        yield images.numpy()
        done += len(images)
        progress(done)
