"""``vaectl edit``: examples moved along the vectors of attributes, such as a smile."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    Place,
    check_place,
    own_form,
    own_stream,
    pixels_of,
    refuse_rows_of_images,
    row_of,
)
from vaectl.commands.shared.session import Session
from vaectl.errors import UsageError, amount, check_choice
from vaectl.runs.run import Run

if TYPE_CHECKING:
    import numpy as np

    from vaectl.evaluation.attributes import Attribute, Edits

FORMATS = (".png", ".npz", ".npy", ".csv", ".parquet")
# columns of a picture after the original -> how far along the vector they are
STEPS = {"reconstruction": 0.0, "half": 0.5, "edited": 1.0}
# examples in a picture, and characters of their names
PICTURED, LONGEST = 8, 30
HEAVIEST = 1e6


def edit_cli(
    context: typer.Context,
    run: RunArgument,
    path: PathArgument = None,
    add: Annotated[
        list[str] | None,
        typer.Option(
            "--add",
            metavar="NAME:WEIGHT",
            show_default=False,
            help="An attribute and how much of it: a class, a factor, or factor=value; may be given several times.",
        ),
    ] = None,
    split: OtherSplit = None,
    rows: Rows = None,
    label: Label = None,
    mode: Annotated[str, choice("--mode", MODES, "Write the mean or mode of p(x|z), or a draw from it.")] = "mean",
    most: Annotated[
        int, typer.Option("-n", metavar="N", parser=number(int, 1, 1000), help="Examples in a picture, the first.")
    ] = PICTURED,
    output: Annotated[
        Path | None,
        output_option(
            "Where to write: a folder for one .png per image, a .png of all steps, .npz, .npy; for tables .csv or "
            ".parquet.",
            "RUN/edits/0001.png",
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
    """Edit examples along attribute vectors, found from labels or factors."""
    screen = Screen(quiet, verbose, as_json, progress)
    check_choice("--mode", mode, MODES)
    check_split(split)
    weights, picked = parse_weights(add or ()), Choice.of(rows, label)
    load(plugin, screen)
    opened = Run.open(run, state(context).runs_dir)
    place = check_place(output, FORMATS, force=force, run=opened, inside="edits")
    refuse_rows_of_images(place)
    session = Session(opened, screen, device, data_dir)
    model = session.model(checkpoint)
    if model.space.codebook_size:
        raise UsageError(
            f"{opened.id} cannot be edited: its latents are grids of codes, which cannot be added to",
            hint="train a model with real latents, such as --model vae",
        )
    chosen = choose(session, picked, path, split)
    found_in = session.data().train

    from vaectl.evaluation.attributes import combined, directions, edits

    named = [_attribute(name, session) for name in weights]
    with screen.counting("encoding", len(found_in)) as counted:
        vectors = directions(model, found_in.to(session.device), named, progress=counted)
    editor = Editor(session, chosen, weights, most if place.suffix == ".png" else len(chosen))
    clock = Clock()
    with (
        screen.counting("editing", editor.count) as counted,
        closing(
            edits(
                model, editor.examples, combined(vectors, weights), editor.steps(place),
                mode, seed=seed, progress=counted,
            )
        ) as parts,
    ):  # fmt: skip
        written = place.write(lambda file: editor.write(parts, file))
    pace = clock.pace(editor.count)
    facts = [
        {
            "name": each.name, "weight": weights[each.name], "with": each.having, "without": each.lacking,
            "length": float((each.vector**2).sum() ** 0.5),
        }
        for each in vectors
    ]  # fmt: skip
    document = {
        "run": opened.id, "dataset": chosen.data.info.name, "path": str(written), "split": chosen.split,
        "n": editor.count, "mode": mode, "seed": seed, "attributes": facts, **pace.to_json(),
    }  # fmt: skip
    title = f"{amount(editor.count, 'example')} of {chosen.text} edited by {opened.id} ({pace}): {written}"
    columns = [("attribute", "left"), *((name, "right") for name in ("weight", "rows with", "without", "length"))]
    lines = [
        [str(fact["name"]), f"{fact['weight']:g}", f"{fact['with']:,}", f"{fact['without']:,}", f"{fact['length']:.3f}"]
        for fact in facts
    ]
    note = f"vectors are differences of the mean latents of {amount(len(found_in), 'training row')}"
    if len(facts) > 1:
        note += ", each with the other attributes held equal"
    screen.result(document, short=str(written), text=[title, screen.table(columns, lines), note])


def _attribute(name: str, session: Session) -> Attribute:
    """An attribute of the training examples; errors name the flag."""
    from vaectl.evaluation.attributes import attribute

    try:
        return attribute(name, session.data().info, session.data().train)
    except UsageError as error:
        raise UsageError(f"--add {name}: {error.message}", hint=error.hint) from None


def parse_weights(texts: Sequence[str]) -> dict[str, float]:
    """The attributes of ``--add``, each with its weight, which is 1 if it is not given.

    Raises:
        UsageError: There are none or too many, or one is given twice or has no finite weight.
    """
    from vaectl.evaluation.attributes import MOST

    weights: dict[str, float] = {}
    for text in texts:
        name, colon, weight = text.rpartition(":")
        try:
            number = float(weight) if colon else 1.0
        except ValueError:  # a colon may be part of the name
            name, number = text, 1.0
        name = name if colon else text
        if not name or not math.isfinite(number) or abs(number) > HEAVIEST:
            raise UsageError(f"--add must be an attribute and its weight, such as smiling:1.5; got '{text}'")
        if name in weights:
            raise UsageError(f"--add {name} was given twice")
        weights[name] = number
    if not 1 <= len(weights) <= MOST:
        given = f"; {len(weights)} were given" if weights else ""
        raise UsageError(f"edit needs --add with one to {MOST} attributes, such as --add smiling:1.5{given}")
    return weights


class Editor:
    """Writes edited examples.

    Args:
        session: The run.
        chosen: The examples.
        weights: Attributes with their weights.
        most: How many of the examples are edited.
    """

    def __init__(self, session: Session, chosen: Chosen, weights: dict[str, float], most: int) -> None:
        self._run, self._info, self._weights = session.run, session.run.data_info, weights
        self.examples = chosen.taken().first(most).to(session.device)
        self.count = len(self.examples)
        self._marks = {name: mark[: self.count] for name, mark in chosen.marks(self._info.classes).items()}

    def steps(self, place: Place) -> list[float]:
        """How far along the vector images are written: all steps, or the last alone."""
        return list(STEPS.values())[0 if place.suffix in (".png", ".npz") else -1 :]

    def write(self, parts: Generator[Edits], path: Path) -> None:
        """Write a folder of pictures, a picture of all steps, or a file of edited examples."""
        from vaectl.output import arrays
        from vaectl.output.folders import save_images

        suffix, info = path.suffix.lower(), self._info
        last = (part.images[:, -1].numpy() for part in parts)
        if not suffix:
            pixels = (image for images in last for image in pixels_of(info, images))
            save_images(((file_of(self._marks, place), image) for place, image in enumerate(pixels)), path)
        elif suffix == ".png":
            self._draw(list(parts), path)
        elif suffix == ".npy":
            arrays.save_npy(own_stream(info, last, self.count), path)
        elif suffix in TABLES:
            arrays.save(self._beside(row_of(info, images) for images in last), self.count, path)
        else:
            arrays.save(self._beside(self._arrays(part) for part in parts), self.count, path)

    def _beside(self, parts: Iterator[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        """Each part after the marks of its examples."""
        done = 0
        for part in parts:
            end = done + len(next(iter(part.values())))
            yield {name: mark[done:end] for name, mark in self._marks.items()} | part
            done = end

    def _arrays(self, part: Edits) -> dict[str, np.ndarray]:
        form, images = own_form, part.images.numpy()
        return {
            "images": form(self._info, images[:, -1]), "reconstructions": form(self._info, images[:, 0]),
            "originals": form(self._info, part.originals.numpy()), "z": part.z.numpy(),
        }  # fmt: skip

    def _draw(self, parts: list[Edits], path: Path) -> None:
        """Draw each original beside its reconstruction and the steps; rows of a table as heat maps."""
        import numpy as np
        import torch

        from vaectl.output import grids, plots

        steps = ", ".join(f"{name}:{weight:g}" for name, weight in self._weights.items())
        title = f"{self._run.id}: examples edited by {steps}"
        originals = torch.cat([part.originals for part in parts])
        images = torch.cat([part.images for part in parts])  # (n, S, *X)
        labels = ["original", *STEPS]
        if self._info.is_table:
            width = self._info.shape[2]
            columns = [originals, *(images[:, step] for step in range(len(STEPS)))]
            tables = [
                (label, np.asarray(column).reshape(-1, width)) for label, column in zip(labels, columns, strict=True)
            ]
            plots.save(plots.heat_map(tables, self._info.column_names, f"{title}; for the numbers write .csv"), path)
            return
        tiles = torch.cat((originals[:, None], images), 1).flatten(0, 1)
        figure = plots.sheet(
            grids.grid(tiles, len(labels), span=self._info.range), title, x=("", labels),
            y=("", [name_of(self._marks, place)[-LONGEST:] for place in range(self.count)]),
        )  # fmt: skip
        plots.save(figure, path)
