"""``vaectl embed``: the codes of a data set, as arrays or a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaectl.commands._options import (
    Checkpoint,
    DataDir,
    Device,
    Force,
    Json,
    ProgressMode,
    Quiet,
    RunArgument,
    SplitName,
    Verbose,
    output_option,
    seed_option,
    state,
)
from vaectl.commands._render import Screen
from vaectl.commands._session import Session, check_choice, check_destination, deliver
from vaectl.errors import DataError, UsageError
from vaectl.runs import Run
from vaectl.spec import SPLITS

if TYPE_CHECKING:
    import numpy as np


def embed_cli(
    context: typer.Context,
    run: RunArgument,
    split: SplitName = "test",
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            metavar="NAME",
            show_default="the run's own",
            help="Another data set of the same shape.",
        ),
    ] = None,
    draw: Annotated[bool, typer.Option("--draw", help="Draw from the posterior instead of taking its mean.")] = False,
    output: Annotated[
        Path | None,
        output_option("Where to write: .npz, .csv or .parquet.", "RUN/embeddings/0001.npz"),
    ] = None,
    force: Force = False,
    checkpoint: Checkpoint = "best",
    data_dir: DataDir = None,
    device: Device = "auto",
    seed: Annotated[int | None, seed_option("Seed of --draw.", "0")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
    progress: ProgressMode = "auto",
) -> None:
    """Encode a data set to latent codes: posterior mean, scale, label and row of each example."""
    from vaectl import arrays

    screen = Screen(quiet, verbose, as_json, progress)
    check_choice("--split", split, SPLITS)
    if seed is not None and not draw:
        raise UsageError("--seed is for --draw; the posterior mean is the same at every call")
    opened = Run.open(run, state(context).runs_dir)
    suffix = check_destination(output, arrays.FORMATS, force=force)
    arrays.require_format(suffix)
    session = Session(opened, screen, device, data_dir)
    codes = embed(session, split, dataset, checkpoint=checkpoint, draw=draw, seed=seed or 0)
    path = deliver(output, opened, "embeddings", suffix, lambda path: arrays.save(codes, path))
    count, latent_dim = codes["z"].shape
    document = {"run": opened.id, "path": str(path), "split": split, "n": count, "latent_dim": latent_dim, "draw": draw}
    screen.result(document, short=str(path), text=f"{count} codes of {latent_dim} dimensions of {opened.id}: {path}")


def embed(
    session: Session, split: str, dataset: str | None, *, checkpoint: str, draw: bool, seed: int
) -> dict[str, np.ndarray]:
    """The codes of a split.

    Returns:
        ``row`` (N,): the example's row in the data set's own training or test array; ``label`` (N,); ``z`` (N, D):
        posterior means, or draws; ``scale`` (N, D): posterior standard deviations.

    Raises:
        DataError: The split is empty.
    """
    from vaectl import latents

    model = session.model(checkpoint)
    examples = session.data(dataset).split(split)
    if len(examples) == 0:
        raise DataError(f"--split {split} has no examples")
    with session.screen.counting("encoding", len(examples)) as progress:
        codes = latents.encode(model, examples.to(session.device), seed=seed, progress=progress)
    return {
        "row": examples.rows.numpy(),
        "label": examples.labels.numpy(),
        "z": (codes.draw if draw else codes.mean).numpy(),
        "scale": codes.scale.numpy(),
    }
