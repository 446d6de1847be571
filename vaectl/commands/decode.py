"""``vaectl decode``: codes to pictures, arrays or rows of a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaectl.commands.shared.options import (
    Checkpoint,
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
from vaectl.commands.shared.results import MODES, check_place, refuse_rows_of_images, save_examples
from vaectl.commands.shared.session import Session
from vaectl.errors import DataError, UsageError, amount, check_choice
from vaectl.runs.run import Run

if TYPE_CHECKING:
    from vaectl.data.own.codes import Codes, Form
    from vaectl.model.distributions.codes import LatentSpace

FORMATS = (".png", ".npz", ".npy", ".csv", ".parquet")
# codes in a picture
PICTURED, MOST_TILES = 64, 10_000


def decode_cli(
    context: typer.Context,
    run: RunArgument,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CODES]",
            readable=False,
            show_default=False,
            help="Codes as embed and sample write them: z0, z1, ... of a table, or z (N, D) of .npz or .npy.",
        ),
    ] = None,
    z: Annotated[
        list[str] | None,
        typer.Option(
            "--z",
            metavar="X,X,...",
            show_default=False,
            help="A code by its numbers, such as 0.5,-1.2, instead of a file; may be given several times.",
        ),
    ] = None,
    mode: Annotated[str, choice("--mode", MODES, "Write the mean or mode of p(x|z), or a draw from it.")] = "mean",
    most: Annotated[
        int, typer.Option("-n", metavar="N", parser=number(int, 1, MOST_TILES), help="Codes in a picture, the first.")
    ] = PICTURED,
    output: Annotated[
        Path | None,
        output_option(
            "Where to write: a folder for one .png per image, a .png of all, .npz, .npy; for tables .csv or .parquet.",
            "RUN/decoded/0001.png",
        ),
    ] = None,
    force: Force = False,
    checkpoint: Checkpoint = "best",
    plugin: Plugins = None,
    device: Device = "auto",
    seed: Seed = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
    progress: ProgressMode = "auto",
) -> None:
    """Decode codes to images or rows, in the form and units of the data."""
    screen = Screen(quiet, verbose, as_json, progress)
    check_choice("--mode", mode, MODES)
    if (file is None) == (z is None):
        raise UsageError(
            "decode needs codes: a file, or --z" if z is None else f"both {file} and --z were given; one is needed",
            hint="vaectl embed writes such files: .npz, .csv or .parquet",
        )
    load(plugin, screen)
    opened = Run.open(run, state(context).runs_dir)
    place = check_place(output, FORMATS, force=force, run=opened, inside="decoded")
    refuse_rows_of_images(place)
    if opened.data_info.given:
        raise UsageError(
            f"{opened.id} is conditioned on {amount(opened.data_info.given, 'number')} of each example, which codes "
            "do not have",
            hint="decode from Python: model.decode(z, given)",
        )
    session = Session(opened, screen, device)
    model = session.model(checkpoint)
    codes = codes_of(file, z or (), model.space, opened.id)
    count = min(len(codes), most) if place.suffix == ".png" else len(codes)

    import torch

    from vaectl.evaluation.metrics import EVALUATION_BATCH
    from vaectl.evaluation.reconstruction import decoded
    from vaectl.output.arrays import Stream
    from vaectl.system.runtime import at_once

    size, clock = at_once(EVALUATION_BATCH, opened.data_info.shape), Clock()
    kind = next(codes.parts(1)).dtype
    beside = {codes.form.name: Stream((count, *codes.form.shape), kind, codes.parts(size))}
    parts = (torch.from_numpy(part) for part in islice(codes.parts(size), math.ceil(count / size)))
    with (
        screen.counting("decoding", count) as counted,
        closing(decoded(model, parts, mode, seed=seed, progress=counted)) as images,
    ):
        left = (image[: count - number * size].numpy() for number, image in enumerate(images))
        written = place.write(lambda path: save_examples(left, count, path, opened, beside))
    pace = clock.pace(count)
    document = {
        "run": opened.id, "path": str(written), "codes": None if file is None else str(file), "n": count,
        "of": len(codes), "mode": mode, "seed": seed, **pace.to_json(),
    }  # fmt: skip
    some = f"the first {count} of {amount(len(codes), 'code')}" if count < len(codes) else amount(count, "code")
    screen.result(document, short=str(written), text=f"{some} decoded by {opened.id} ({pace}): {written}")


def codes_of(file: Path | None, typed: Sequence[str], space: LatentSpace, owner: str) -> Codes:
    """The codes of a file, or those that were typed.

    Raises:
        DataError: The file does not hold codes of the model.
        UsageError: What was typed is no code of the model.
    """
    from vaectl.data.own.codes import Form, read_codes

    vectors = Form("z", (math.prod(space.shape),))
    forms = [Form("codes", space.grid, space.codebook_size), vectors] if space.codebook_size else [vectors]
    return _typed(typed, forms[0], owner) if file is None else read_codes(file, forms, owner)


def _typed(texts: Sequence[str], form: Form, owner: str) -> Codes:
    import numpy as np

    from vaectl.data.own.codes import Codes

    rows = []
    for text in texts:
        try:
            row = [float(part) for part in text.split(",")]
        except ValueError:
            row = []
        if len(row) != form.width:
            raise UsageError(f"--z must be {form.text}, with commas between them, for a code of {owner}; got '{text}'")
        rows.append(row)
    try:
        return Codes("--z", form, np.array(rows), lambda place: f"'{texts[place]}'").checked()
    except DataError as error:
        raise UsageError(error.message) from None
