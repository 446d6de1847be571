"""``vaectl reconstruct``: a person's own examples through the model, beside what comes out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaectl.commands.shared.chosen import Choice, Chosen, choose
from vaectl.commands.shared.marks import file_of, name_of
from vaectl.commands.shared.options import (
    Checkpoint,
    DataDir,
    Device,
    Force,
    Json,
    Label,
    OtherSplit,
    Pair,
    PathArgument,
    ProgressMode,
    Quiet,
    Rows,
    RunArgument,
    Seed,
    Verbose,
    check_split,
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
    own_form,
    own_stream,
    pixels_of,
    row_of,
    save_pairs,
)
from vaectl.commands.shared.session import Session
from vaectl.errors import amount, check_choice
from vaectl.runs.lines import plus_minus
from vaectl.runs.run import Run
from vaectl.stats import mean_and_se
from vaectl.system.files import finite

if TYPE_CHECKING:
    import numpy as np

    from vaectl.data.examples import Examples
    from vaectl.model.vae import VAE

    # originals and reconstructions (B, *X), and the columns of marks and values (B,)
    Parts = Iterable[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]

FORMATS = (".png", ".npz", ".npy", ".csv", ".parquet")
# examples in a picture of pairs, and lines of the table of examples
PAIRS, LINES = 32, 10


def reconstruct_cli(
    context: typer.Context,
    run: RunArgument,
    path: PathArgument = None,
    split: OtherSplit = None,
    mode: Annotated[str, choice("--mode", MODES, "Write the mean or mode of p(x|z), or a draw from it.")] = "mean",
    rows: Rows = None,
    label: Label = None,
    pair: Pair = None,
    most: Annotated[
        int,
        typer.Option("-n", metavar="N", parser=number(int, 1, 10_000), help="Examples in a picture of pairs."),
    ] = PAIRS,
    output: Annotated[
        Path | None,
        output_option(
            "Where to write: a folder for one .png per image, a .png of pairs, .npz, .npy, .csv or .parquet.",
            "RUN/reconstructions/0001.png",
        ),
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
    """Reconstruct your own images or rows, with the bound of each."""
    screen = Screen(quiet, verbose, as_json, progress)
    check_choice("--mode", mode, MODES)
    check_split(split)
    picked = Choice.of(rows, label, pair)
    load(plugin, screen)
    opened = Run.open(run, state(context).runs_dir)
    place = check_place(output, FORMATS, force=force, run=opened, inside="reconstructions")
    session = Session(opened, screen, device, data_dir)
    model = session.model(checkpoint)
    chosen = choose(session, picked, path, split)
    gathered, clock = Gathered(session, chosen, most), Clock()
    with (
        screen.counting("reconstructing", gathered.count) as counted,
        closing(gathered.parts(model, mode, seed, counted)) as parts,
    ):
        written = place.write(lambda path: gathered.write(parts, path))
    pace = clock.pace(gathered.count)
    means = {name: mean_and_se(values) for name, values in gathered.values.items()}
    metrics = {key: value for name, (mean, se) in means.items() for key, value in ((name, mean), (f"{name}_se", se))}
    document = {
        "run": opened.id, "dataset": chosen.data.info.name, "path": str(written), "split": chosen.split,
        "n": gathered.count, "mode": mode, "seed": seed, "metrics": metrics, "examples": gathered.lines(),
        **pace.to_json(),
    }  # fmt: skip
    title = f"{amount(gathered.count, 'reconstruction')} by {opened.id} of {chosen.text} ({pace}): {written}"
    columns = [("example", "left"), *((name, "right") for name in gathered.values)]
    lines = [[str(value) if isinstance(value, str) else f"{value:.2f}" for value in line.values()]
             for line in gathered.lines()[:LINES]]  # fmt: skip
    lines.append([f"mean of {gathered.count}", *(f"{mean:.2f}{plus_minus(se)}" for mean, se in means.values())])
    screen.result(finite(document), short=str(written), text=[title, screen.table(columns, lines)])


class Gathered:
    """Reconstructions as they are made: the values of all, and the first ones for a picture.

    Args:
        session: The run.
        chosen: The examples.
        most: How many examples a picture can show.
    """

    def __init__(self, session: Session, chosen: Chosen, most: int) -> None:
        self._examples: Examples = chosen.taken().to(session.device)
        self.count = len(chosen)
        self._info, self._run, self._most = session.run.data_info, session.run, most
        self._marks = chosen.marks(self._info.classes)
        self.values: dict[str, list[float]] = {}
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []

    def parts(
        self, model: VAE, mode: str, seed: int, progress: Callable[[int], None]
    ) -> Generator[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]:
        """Yield originals and reconstructions (B, *X), and the columns of marks and values (B,), by batch."""
        from vaectl.evaluation.reconstruction import reconstructions

        done = 0
        with closing(reconstructions(model, self._examples, mode, seed=seed, progress=progress)) as batches:
            for batch in batches:
                originals, images = batch.originals.numpy(), batch.images.numpy()
                part = slice(done, done + len(images))
                values = {name: value.numpy() for name, value in batch.values.items()}
                for name, numbers in values.items():
                    self.values.setdefault(name, []).extend(numbers.tolist())
                if done < self._most:
                    self._pairs.append((originals[: self._most - done], images[: self._most - done]))
                yield originals, images, {name: mark[part] for name, mark in self._marks.items()} | values
                done = part.stop

    def write(self, parts: Parts, path: Path) -> None:
        """Write a picture of the first pairs, or all reconstructions: as a folder of pictures, or a file."""
        import numpy as np

        from vaectl.output import arrays
        from vaectl.output.folders import save_images

        suffix, info = path.suffix.lower(), self._info
        if not suffix:
            save_images(self._pictures(parts), path)
        elif suffix == ".png":
            for _ in parts:
                pass  # their values count
            originals, images = (np.concatenate(pair) for pair in zip(*self._pairs, strict=True))
            save_pairs(originals, images, path, self._run)
        elif suffix == ".npy":
            arrays.save_npy(own_stream(info, (images for _, images, _ in parts), self.count), path)
        elif suffix in TABLES:
            rows = (columns | row_of(info, images) for _, images, columns in parts)
            arrays.save(rows, self.count, path)
        else:
            named = (
                {"images": own_form(info, images), "originals": own_form(info, originals)} | columns
                for originals, images, columns in parts
            )
            arrays.save(named, self.count, path)

    def _pictures(self, parts: Parts) -> Iterator[tuple[str, np.ndarray]]:
        done = 0
        for _, images, _ in parts:
            for pixels in pixels_of(self._info, images):
                yield file_of(self._marks, done), pixels
                done += 1

    def lines(self) -> list[dict[str, Any]]:
        """Name and values of each of the first examples."""
        return [
            {"example": name_of(self._marks, place)} | {name: values[place] for name, values in self.values.items()}
            for place in range(min(self.count, self._most))
        ]
