"""The options of ``vaectl sample``, and how many images it makes of which examples."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaectl.commands.sample.making import Maker
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
from vaectl.commands.shared.results import MODES, TABLES, pair_columns, write
from vaectl.commands.shared.session import Session, check_destination, deliver
from vaectl.errors import UsageError, amount, check_choice
from vaectl.runs.run import Run

if TYPE_CHECKING:
    from vaectl.model.vae import VAE
    from vaectl.output.arrays import Stream

FORMATS = (".png", ".npz", ".npy")
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
    with ExitStack() as block, torch.no_grad(), seeded(seed), screen.counting(kind, num_samples) as counted:
        maker = Maker(session, model, num_samples, mode, suffix == ".npz", counted, block)
        if kind == "samples":
            streams = maker.samples(1.0 if temperature is None else temperature)
            columns = columns or math.ceil(math.sqrt(num_samples))
        elif kind == "reconstructions":
            streams, columns = _reconstructed(maker, columns)
        else:
            streams, columns = _interpolated(maker, columns or 8)
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


def _reconstructed(maker: Maker, columns: int | None) -> tuple[dict[str, Stream], int]:
    """Reconstructions of test examples, and how many pairs are in a row of a picture.

    Raises:
        UsageError: There are too few test examples.
    """
    import torch

    n, test = maker.n, maker.session.data().test
    order = torch.randperm(len(test))
    if n > len(test):
        raise UsageError(f"-n {n}: the test split has {amount(len(test), 'example')}")
    return maker.reconstructions(test, order[:n]), columns or pair_columns(n)


def _interpolated(maker: Maker, steps: int) -> tuple[dict[str, Stream], int]:
    """Lines of ``steps`` images between pairs of test examples.

    Raises:
        UsageError: There are too few test examples.
    """
    import torch

    n, test = maker.n, maker.session.data().test
    order = torch.randperm(len(test))
    lines = math.ceil(n / steps)
    if 2 * lines > len(test):
        raise UsageError(
            f"-n {n}: {2 * lines} test examples are needed for {amount(lines, 'line')}; the test split has {len(test)}"
        )
    return maker.lines(test, order[:lines], order[lines : 2 * lines], steps), steps
