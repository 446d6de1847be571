"""``vaectl embed``: encode a data set to latents, written as arrays or a table."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
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
    Verbose,
    choice,
    output_option,
    seed_option,
    state,
)
from vaectl.commands.shared.pace import Clock
from vaectl.commands.shared.plugins import Plugins, load
from vaectl.commands.shared.render import Screen
from vaectl.commands.shared.session import Session, check_destination, deliver
from vaectl.config.datasets import BUILT_IN
from vaectl.config.spec import SPLITS
from vaectl.config.table import BY_NAME
from vaectl.errors import DataError, UsageError, check_choice
from vaectl.runs.run import Run

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vaectl.data.base import Data
    from vaectl.data.examples import Examples
    from vaectl.model.vae import VAE

# value of --split for all splits
ALL = "all"
DATASET = BY_NAME["dataset"]


def embed_cli(
    context: typer.Context,
    run: RunArgument,
    split: Annotated[
        str | None,
        choice(
            "--split",
            (*SPLITS, ALL),
            "Split of the data set; all takes one split after the other.",
            show_default="test; all for another data set by path",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        choice(
            "--dataset",
            BUILT_IN,
            "Another data set of the same shape, by name or path; its images are resized as the run's were.",
            metavar=DATASET.placeholder,
            parser=DATASET.spelled,
            show_default="the run's own",
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
    if split is not None:
        check_choice("--split", split, (*SPLITS, ALL))
    if seed is not None and not draw:
        raise UsageError("--seed is for --draw; the posterior mean is not random")
    load(plugin, screen)
    opened = Run.open(run, state(context).runs_dir)
    suffix = check_destination(output, arrays.FORMATS, force=force)
    arrays.require_format(suffix)
    session = Session(opened, screen, device, data_dir)
    model = session.model(checkpoint)
    space = model.space
    if draw and space.codebook_size:
        raise UsageError(f"--draw needs a random posterior; the codes of {opened.id} are deterministic")
    other = session.is_other_path(dataset)
    split = split or (ALL if other else "test")
    data = session.data(dataset, divided=not (other and split == ALL))
    splits = {name: data.split(name) for name in (SPLITS if split == ALL else (split,)) if len(data.split(name))}
    count, latent_dim = sum(map(len, splits.values())), opened.spec.latent_dim
    if count == 0:
        raise DataError(f"--split {split} has no examples")
    marks, clock = Marks(data, opened.data_info.classes), Clock()
    with (
        session.screen.counting("encoding", count) as counted,
        closing(rows(model, splits, marks, session.device, draw=draw, seed=seed or 0, progress=counted)) as parts,
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
        **({"grid": list(space.grid), "codes": space.codebook_size} if space.codebook_size else {}),
        **pace.to_json(),
    }
    more = "" if count == 1 else "s"
    latents = f"grid{more} of {' x '.join(map(str, space.grid))} codes" if space.codebook_size else f"latent{more}"
    which = f"all of {data.info.name}" if split == ALL else f"the {split} split of {data.info.name}"
    dimensions = f"{latent_dim} dimension{'' if latent_dim == 1 else 's'}"
    text = f"{count} {latents} of {dimensions} from {opened.id}, {which} ({pace}): {path}"
    screen.result(document, short=str(path), text=text)


class Marks:
    """The class and the file of each example, as columns beside its latent.

    Args:
        data: The data set.
        classes: Names of the run's classes; classes of the same name get the same number in other data.
    """

    def __init__(self, data: Data, classes: Sequence[str]) -> None:
        import numpy as np

        names, self._files = data.info.classes, data.files
        # the names of labels -1, 0, 1, ...
        self._names = np.array(["", *names]) if names else None
        numbers = {name: number for number, name in enumerate(classes or names)}
        self._numbers = np.array([-1, *(numbers.get(name, -1) for name in names)])
        # if the run's classes are called by whole numbers, labels of other data may be such numbers
        whole = classes and not names and all(name.removeprefix("-").isdecimal() for name in classes)
        self._called = numbers if whole else None
        self._width = max((len(file) for files in data.files.values() for file in files), default=0)

    def of(self, split: str, rows: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """The columns ``label`` and, if they are known, ``class`` and ``file`` for examples of a split (n,).

        Args:
            split: Name of the split.
            rows: Row of each example.
            labels: Class of each, -1 if it has none.
        """
        import numpy as np

        columns = {"label": labels}
        if self._called is not None:
            columns = {"label": np.array([self._called.get(str(label), -1) for label in labels.tolist()], np.int64)}
        if self._names is not None:
            columns = {"label": self._numbers[labels + 1], "class": self._names[labels + 1]}
        if split in self._files:
            # bytes of a name that are not UTF-8 cannot be written
            files = [self._files[split][row].encode("utf-8", "replace").decode() for row in rows.tolist()]
            columns["file"] = np.array(files, f"<U{self._width}")
        return columns


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
