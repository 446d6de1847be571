"""``vaectl embed``: encode a data set to latents, written as arrays or a table."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaectl.commands.shared.marks import Marks
from vaectl.commands.shared.options import (
    Checkpoint,
    DataDir,
    Device,
    Force,
    Json,
    OtherDataset,
    OtherSplit,
    ProgressMode,
    Quiet,
    RunArgument,
    Verbose,
    check_split,
    output_option,
    seed_option,
    state,
)
from vaectl.commands.shared.pace import Clock
from vaectl.commands.shared.plugins import Plugins, load
from vaectl.commands.shared.render import Screen
from vaectl.commands.shared.session import Session, check_destination, deliver
from vaectl.config.spec import ALL, splits_of
from vaectl.errors import DataError, UsageError, amount
from vaectl.runs.run import Run

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vaectl.data.examples import Examples
    from vaectl.model.vae import VAE


def embed_cli(
    context: typer.Context,
    run: RunArgument,
    split: OtherSplit = None,
    dataset: OtherDataset = None,
    draw: Annotated[bool, typer.Option("--draw", help="Draw from the posterior instead of taking its mean.")] = False,
    output: Annotated[
        Path | None,
        output_option("Where to write: .npz, .csv or .parquet.", "RUN/embeddings/0001.npz"),
    ] = None,
    force: Force = False,
    checkpoint: Checkpoint = "best",
    data_dir: DataDir = None,
    plugin: Plugins = None,
    device: Device = "auto",
    seed: Annotated[int | None, seed_option("Seed of --draw.", "0")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
    progress: ProgressMode = "auto",
) -> None:
    """Encode a data set to latents: posterior mean, scale, label and row of each example."""
    from vaectl.output import arrays

    screen = Screen(quiet, verbose, as_json, progress)
    check_split(split)
    if seed is not None and not draw:
        raise UsageError("--seed is for --draw; the posterior mean is not random")
    load(plugin, screen)
    opened = Run.open(run, state(context).runs_dir)
    suffix = check_destination(output, arrays.FORMATS, force=force, run=opened, folder="embeddings")
    arrays.require_format(suffix)
    session = Session(opened, screen, device, data_dir)
    model = session.model(checkpoint)
    space = model.space
    if draw and space.codebook_size:
        raise UsageError(f"--draw needs a random posterior; the codes of {opened.id} are deterministic")
    data, split = session.examples(dataset, split)
    splits = {name: data.split(name) for name in splits_of(split) if len(data.split(name))}
    count, latent_dim = sum(map(len, splits.values())), opened.spec.latent_dim
    if count == 0:
        raise DataError(f"--split {split} has no examples")
    marks, clock = Marks(data, opened.data_info.classes), Clock()
    with (
        session.screen.counting("encoding", count) as counted,
        closing(rows(model, splits, marks, session.device, draw=draw, seed=seed or 0, progress=counted)) as parts,
    ):
        path = deliver(output, opened, "embeddings", suffix, lambda path: arrays.save(parts, count, path), force=force)
    pace = clock.pace(count)
    document = {
        "run": opened.id,
        "path": str(path),
        "split": split,
        "n": count,
        "latent_dim": latent_dim,
        "draw": draw,
        **({"grid": list(space.grid), "codes": space.codebook_size} if space.codebook_size else {}),
        **pace.to_json(),
    }
    grid = f" of {' x '.join(map(str, space.grid))} codes"
    latents = amount(count, f"grid{grid}", f"grids{grid}") if space.codebook_size else amount(count, "latent")
    which = f"all of {data.info.name}" if split == ALL else f"the {split} split of {data.info.name}"
    text = f"{latents} of {amount(latent_dim, 'dimension')} from {opened.id}, {which} ({pace}): {path}"
    screen.result(document, short=str(path), text=text)


def rows(
    model: VAE,
    splits: Mapping[str, Examples],
    marks: Marks,
    device: torch.device,
    *,
    draw: bool,
    seed: int,
    progress: Callable[[int], None],
) -> Generator[dict[str, np.ndarray]]:
    """Encode splits, one after the other, a batch of n examples at a time.

    Yields:
        ``row`` (n,): the example's row in the data set's own training or test array; ``label`` (n,); ``z`` (n, D):
        posterior means, or draws; ``scale`` (n, D): posterior standard deviations. A grid of codes has no scales
        but ``codes`` (n, h, w): their indices; and ``z`` (n, D h w): their vectors. With several splits ``split`` (n,)
        names the split, because each has rows of its own; ``class`` and ``file`` (n,) are those of ``Marks``.
    """
    import numpy as np

    from vaectl.evaluation import latents

    before, several = 0, len(splits) > 1
    width = max(map(len, splits))
    for index, (name, resident) in enumerate(splits.items()):
        examples, done = resident.to(device), 0
        # each split has noise of its own
        stream = int(np.random.SeedSequence((seed, index)).generate_state(1)[0]) if index else seed

        def advance(count: int, before: int = before) -> None:
            progress(before + count)

        for encoded in latents.encodings(model, examples, seed=stream, progress=advance):
            part = slice(done, done + len(encoded.mean))
            yield {
                **({"split": np.full(len(encoded.mean), name, f"<U{width}")} if several else {}),
                "row": examples.rows[part].cpu().numpy(),
                **marks.of(name, examples.rows[part].cpu().numpy(), examples.labels[part].cpu().numpy()),
                **({"codes": encoded.indices.numpy()} if encoded.indices.numel() else {}),
                "z": (encoded.draw if draw else encoded.mean).numpy(),
                **({} if encoded.indices.numel() else {"scale": encoded.scale.numpy()}),
            }
            done = part.stop
        before += done
