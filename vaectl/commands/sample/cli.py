"""The options of ``vaectl sample``, and how many images it makes of which examples."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaectl.commands.sample.making import Maker
from vaectl.commands.shared.chosen import Choice, Chosen, choose
from vaectl.commands.shared.options import (
    Checkpoint,
    DataDir,
    Device,
    Force,
    Json,
    Label,
    OtherDataset,
    Pair,
    ProgressMode,
    Quiet,
    Rows,
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
from vaectl.commands.shared.results import (
    MODES,
    TABLES,
    check_place,
    pair_columns,
    refuse_rows_of_images,
    write,
)
from vaectl.commands.shared.session import Session
from vaectl.errors import UsageError, amount, check_choice
from vaectl.runs.run import Run

if TYPE_CHECKING:
    from torch import Tensor

    from vaectl.model.vae import VAE

FORMATS = (".png", ".npz", ".npy")
# images, and images of a line, unless others are asked for; and the most in a picture
USUAL, STEPS, MOST_TILES = 64, 8, 10_000


def sample_cli(
    context: typer.Context,
    run: RunArgument,
    num_samples: Annotated[
        int | None,
        typer.Option(
            "--num-samples",
            "-n",
            metavar="N",
            parser=number(int, 1, 1_000_000),
            show_default="64; no more than were chosen",
            help="Number of images; with --interpolate, over all lines.",
        ),
    ] = None,
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
        bool, typer.Option("--reconstruct", help="Show images, each above its reconstruction; by default test images.")
    ] = False,
    interpolate: Annotated[
        bool,
        typer.Option(
            "--interpolate", help="Show lines between the latents of pairs of images; by default test images."
        ),
    ] = False,
    dataset: OtherDataset = None,
    rows: Rows = None,
    label: Label = None,
    pair: Pair = None,
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
    picked = Choice.of(rows, label, pair)
    given = (("--data-dir", data_dir), ("--dataset", dataset), (picked.flag, picked.flag or None))
    for flag, value in given if not uses_data else ():
        if value is not None:
            raise UsageError(f"{flag} is for --reconstruct and --interpolate; samples need no data")
    load(plugin, screen)
    opened = Run.open(run, state(context).runs_dir)
    place = check_place(output, (*FORMATS, *TABLES), force=force, run=opened, inside="samples", folders=False)
    refuse_rows_of_images(place)
    suffix = place.suffix
    if columns is not None and suffix != ".png" and not interpolate:
        raise UsageError(f"--columns is for pictures; {suffix} has none")
    _check_tiles(num_samples or USUAL, suffix)
    import torch

    from vaectl.system.runtime import seeded

    session = Session(opened, screen, device, data_dir)
    kind = "reconstructions" if reconstruct else "interpolations" if interpolate else "samples"
    model = session.model(checkpoint)
    if kind == "samples":
        _warn_of_noise(session, model)
        n = num_samples or USUAL
    else:
        chosen, steps = choose(session, picked, dataset), columns or STEPS
        n = _count(num_samples, chosen, dataset, steps if interpolate else None)
        _check_tiles(n, suffix)
    clock = Clock()
    with ExitStack() as block, torch.no_grad(), seeded(seed), screen.counting(kind, n) as counted:
        maker = Maker(session, model, n, mode, suffix == ".npz", counted, block)
        if kind == "samples":
            streams = maker.samples(1.0 if temperature is None else temperature)
            columns = columns or math.ceil(math.sqrt(n))
        elif kind == "reconstructions":
            streams = maker.reconstructions(chosen.examples, chosen.order()[:n])
            columns = columns or pair_columns(n)
        else:
            streams, columns = maker.lines(chosen.examples, *_ends(chosen, math.ceil(n / steps)), steps), steps
        path = place.write(lambda path: write(path, streams, columns, kind, opened))
    pace = clock.pace(n)
    lines = f" in lines of {columns}" if interpolate else ""
    which = f" from {chosen.text}" if uses_data and (dataset or picked.flag) else ""
    document = {
        "run": opened.id,
        "path": str(path),
        "kind": kind,
        "n": n,
        "mode": mode,
        "seed": seed,
        **pace.to_json(),
    }
    screen.result(
        document, short=str(path), text=f"{amount(n, kind[:-1])}{lines} of {opened.id}{which} ({pace}): {path}"
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


def _check_tiles(n: int, suffix: str) -> None:
    """Raise a UsageError if a picture would show too many images."""
    if suffix == ".png" and n > MOST_TILES:
        raise UsageError(f"-n {n} is too many for one picture; at most {MOST_TILES}", hint="write .npz or .npy")


def _count(n: int | None, chosen: Chosen, dataset: str | None, steps: int | None) -> int:
    """How many images to make of the examples.

    Args:
        n: The number on the command line, or None.
        chosen: The examples.
        dataset: Other data that were named, or None.
        steps: Images of a line between two examples; None for reconstructions.

    Raises:
        UsageError: There are too few examples, or an odd number of rows for lines.
    """
    there = len(chosen)
    if chosen.in_order and steps is not None and there % 2:
        raise UsageError(
            f"{chosen.choice.flag} must name an even number of rows for --interpolate, two for each line; got {there}"
        )
    most = there if steps is None else there // 2 * steps
    if n is None and chosen.in_order:
        return most
    if n is None and most and (dataset is not None or chosen.choice.flag):
        return min(USUAL, most)
    n = n or USUAL
    if steps is None and n > there:
        raise UsageError(f"-n {n}: {chosen.text} has {amount(there, 'example')}")
    if steps is not None and 2 * math.ceil(n / steps) > there:
        lines = math.ceil(n / steps)
        raise UsageError(
            f"-n {n}: {2 * lines} examples are needed for {amount(lines, 'line')}; {chosen.text} has {there}"
        )
    return n


def _ends(chosen: Chosen, lines: int) -> tuple[Tensor, Tensor]:
    """The positions of the examples at which lines begin and end (lines,): two by two as chosen, or at random."""
    order = chosen.order()
    if chosen.in_order:
        return order[0 : 2 * lines : 2], order[1 : 2 * lines : 2]
    return order[:lines], order[lines : 2 * lines]
