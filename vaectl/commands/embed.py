"""``vaectl embed``: the codes of a data set, as arrays or a table."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
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
from vaectl.commands._pace import Clock
from vaectl.commands._render import Screen
from vaectl.commands._session import Session, check_choice, check_destination, deliver
from vaectl.errors import DataError, UsageError
from vaectl.runs import Run
from vaectl.spec import SPLITS

if TYPE_CHECKING:
    import numpy as np

    from vaectl.data import Examples
    from vaectl.vae import VAE


def embed_cli(
    context: typer.Context,
    run: RunArgument,
    split: SplitName = "test",
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            metavar="NAME|PATH",
            show_default="the run's own",
            help="Another data set of the same shape, or the path of one; resized as the run's own is.",
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
    model = session.model(checkpoint)
    space = model.space
    if draw and space.codes:
        raise UsageError("--draw is for posteriors that are uncertain; a grid of codes is certain")
    examples = session.data(dataset).split(split)
    count, latent_dim = len(examples), opened.spec.latent_dim
    if count == 0:
        raise DataError(f"--split {split} has no examples")
    clock = Clock()
    with (
        session.screen.counting("encoding", count) as counted,
        closing(rows(model, examples.to(session.device), draw=draw, seed=seed or 0, progress=counted)) as parts,
    ):
        path = deliver(output, opened, "embeddings", suffix, lambda path: arrays.save(parts, count, path))
    pace = clock.pace(count)
    document = {
        "run": opened.id,
        "path": str(path),
        "split": split,
        "n": count,
        "latent_dim": latent_dim,
        "draw": draw,
        **({"grid": list(space.grid), "codes": space.codes} if space.codes else {}),
        **pace.to_json(),
    }
    grid = f"{' x '.join(map(str, space.grid))} codes" if space.codes else "codes"
    text = f"{count} {grid} of {latent_dim} dimensions of {opened.id} ({pace}): {path}"
    screen.result(document, short=str(path), text=text)


def rows(
    model: VAE, examples: Examples, *, draw: bool, seed: int, progress: Callable[[int], None]
) -> Generator[dict[str, np.ndarray]]:
    """The codes of a split, a batch of n examples at a time.

    Yields:
        ``row`` (n,): the example's row in the data set's own training or test array; ``label`` (n,); ``z`` (n, D):
        posterior means, or draws; ``scale`` (n, D): posterior standard deviations. Of a grid of codes instead of the
        scales, ``codes`` (n, h, w): their indices; and ``z`` (n, D h w): their vectors.
    """
    from vaectl import latents

    done = 0
    for codes in latents.encodings(model, examples, seed=seed, progress=progress):
        part = slice(done, done + len(codes.mean))
        yield {
            "row": examples.rows[part].cpu().numpy(),
            "label": examples.labels[part].cpu().numpy(),
            **({"codes": codes.indices.numpy()} if codes.indices.numel() else {}),
            "z": (codes.draw if draw else codes.mean).numpy(),
            **({} if codes.indices.numel() else {"scale": codes.scale.numpy()}),
        }
        done = part.stop
