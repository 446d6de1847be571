"""The options of ``vaectl plot-latent``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vaectl.commands.plot_latent.figures import DEFAULT_POINTS, codes, manifold, scatter, traversal
from vaectl.commands.shared.chosen import Choice, choose
from vaectl.commands.shared.options import (
    Checkpoint,
    DataDir,
    Device,
    Force,
    Json,
    Label,
    OtherDataset,
    ProgressMode,
    Quiet,
    Rows,
    RunArgument,
    Verbose,
    choice,
    number,
    output_option,
    seed_option,
    state,
)
from vaectl.commands.shared.plugins import Plugins, load
from vaectl.commands.shared.render import Screen
from vaectl.commands.shared.session import Session, check_destination, deliver
from vaectl.errors import UsageError, check_choice
from vaectl.runs.run import Run

FORMATS = (".png", ".svg", ".pdf")
KINDS = ("scatter", "manifold", "traversal", "codes")


def plot_latent_cli(
    context: typer.Context,
    run: RunArgument,
    kind: Annotated[
        str,
        choice("--kind", KINDS, "What to plot; codes is for VQ-VAEs."),
    ] = "scatter",
    dims: Annotated[
        str | None,
        typer.Option(
            "--dims",
            metavar="N,N",
            show_default="scatter: both, or principal components; else those of highest KL",
            help="Latent dimensions, counted from 0.",
        ),
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--points",
            metavar="N",
            parser=number(int, 2, 1_000_000),
            show_default=f"{DEFAULT_POINTS}",
            help="Number of test examples to plot, or whose codes to count.",
        ),
    ] = None,
    dataset: OtherDataset = None,
    rows: Rows = None,
    label: Label = None,
    output: Annotated[
        Path | None,
        output_option("Where to write: .png, .svg or .pdf.", "RUN/plots/0001.png"),
    ] = None,
    force: Force = False,
    checkpoint: Checkpoint = "best",
    data_dir: DataDir = None,
    plugin: Plugins = None,
    device: Device = "auto",
    seed: Annotated[int | None, seed_option("Seed that picks a traversal's test image.", "a typical one")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
    progress: ProgressMode = "auto",
) -> None:
    """Plot the latent space: scatter, manifold grid or traversal."""
    screen = Screen(quiet, verbose, as_json, progress)
    check_choice("--kind", kind, KINDS)
    if points is not None and kind not in ("scatter", "codes"):
        raise UsageError(f"-n is for --kind scatter and codes; --kind {kind} has no points")
    if dims is not None and kind == "codes":
        raise UsageError("--dims is not for --kind codes, which shows whole codes")
    if seed is not None and kind != "traversal":
        raise UsageError(f"--seed is for --kind traversal; --kind {kind} has nothing random")
    if dataset is not None and kind == "manifold":
        raise UsageError("--dataset is not for --kind manifold, which decodes the prior and needs no examples")
    picked = Choice.of(rows, label)
    if picked.flag and kind != "traversal":
        raise UsageError(f"{picked.flag} is for --kind traversal; --kind {kind} shows many examples")
    if picked.rows is not None and (len(picked.rows) > 1 or seed is not None):
        raise UsageError(
            f"--rows names where a traversal begins, one row; got {rows}" + (" and --seed" if seed is not None else "")
        )
    load(plugin, screen)
    opened = Run.open(run, state(context).runs_dir)
    along = parse_dims(dims, opened.spec.latent_dim, 64 if kind == "traversal" else 2)
    suffix = check_destination(output, FORMATS, force=force, run=opened, folder="plots")
    session = Session(opened, screen, device, data_dir)
    if kind == "manifold":
        figure, facts = manifold(session, checkpoint, along)
    else:
        chosen = choose(session, picked, dataset)
        if kind == "scatter":
            figure, facts = scatter(session, checkpoint, chosen, along, points or DEFAULT_POINTS)
        elif kind == "codes":
            figure, facts = codes(session, checkpoint, chosen, points)
        else:
            figure, facts = traversal(session, checkpoint, chosen, along, seed)
    from vaectl.output import plots

    path = deliver(output, opened, "plots", suffix, lambda path: plots.save(figure, path), force=force)
    document = {"run": opened.id, "path": str(path), "kind": kind, **facts}
    text = f"{kind} of {opened.id}: {path}"
    if facts.get("explained_variance"):
        first, second = facts["explained_variance"]
        text += f"  (two principal components explain {first + second:.1%} of the training latents' variance)"
    screen.result(document, short=str(path), text=text)


def parse_dims(text: str | None, latent_dim: int, most: int) -> list[int] | None:
    """The dimensions of ``--dims``.

    Raises:
        UsageError: It is not a list of one to ``most`` different dimensions of the run.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    dims = [int(part) for part in parts if part.isdecimal() and len(part) < 7]
    if len(dims) != len(parts) or len(set(dims)) != len(dims) or len(dims) > most or max(dims) >= latent_dim:
        if latent_dim == 1:
            raise UsageError(f"--dims must be 0, the only latent dimension; got '{text}'")
        raise UsageError(
            f"--dims must be one to {most} different dimensions from 0 to {latent_dim - 1}, such as 0,1; got '{text}'"
        )
    return dims
