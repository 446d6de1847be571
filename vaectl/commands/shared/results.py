"""Decoded examples as files: pictures, arrays, or rows of a table under the names of its columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vaectl.commands.shared.session import check_destination, deliver
from vaectl.errors import UsageError
from vaectl.runs.run import Run

if TYPE_CHECKING:
    import numpy as np

    from vaectl.data.info import DataInfo
    from vaectl.data.units import Column
    from vaectl.output.arrays import Stream

# formats for examples that are rows of a table
TABLES = (".csv", ".parquet")
# ways of making an example of a likelihood: keys of evaluation.reconstruction.VALUES
MODES = ("mean", "mode", "draw")
# proportions of a picture of pairs, and what a gap in its last row counts beside another proportion
PAIRS_PROPORTION, COST_OF_A_GAP = 1.4, 0.8


@dataclass(frozen=True)
class Place:
    """Where a command writes examples: a folder of pictures, a file, or without ``-o`` the next free file of a run.

    Attributes:
        output: The path of ``-o``, or None.
        run: The run.
        inside: The folder of the run.
        suffix: Format of the file; empty for a folder.
        force: Whether files may be overwritten.
    """

    output: Path | None
    run: Run
    inside: str
    suffix: str
    force: bool

    def write(self, write: Callable[[Path], None]) -> Path:
        """Write the folder or the file, and return its path."""
        if self.suffix or self.output is None:
            return deliver(self.output, self.run, self.inside, self.suffix, write, force=self.force)
        write(self.output)
        return self.output


def check_place(
    output: Path | None, formats: Collection[str], *, force: bool, run: Run, inside: str, folders: bool = True
) -> Place:
    """Check where examples will be written, before any work is done: as a folder if the path has no suffix.

    Args:
        output: The path of ``-o``, or None.
        formats: The suffixes that are allowed, first the one without a path.
        force: Whether files may be overwritten.
        run: The run.
        inside: The folder of the run that the output goes to without a path.
        folders: Whether a folder of pictures is allowed.

    Raises:
        UsageError, OutputError: As ``check_destination`` and ``check_folder``, or the format does not fit the run's
            examples.
    """
    from vaectl.output.arrays import require_format
    from vaectl.output.folders import check_folder

    if folders and output is not None and not output.suffix:
        check_folder(output, force=force)
        if run.data_info.is_table:
            raise UsageError(f"-o {output}: a folder is for images; {run.id} makes rows", hint="write .csv")
        return Place(output, run, inside, "", force)
    suffix = check_destination(output, formats, force=force, run=run, folder=inside)
    require_format(suffix)
    return Place(output, run, inside, suffix, force)


def refuse_rows_of_images(place: Place) -> None:
    """Raise a UsageError if images would be written as rows of a table."""
    if place.suffix in TABLES and not place.run.data_info.is_table:
        raise UsageError(
            f"-o {place.output}: {place.suffix} is for tables; {place.run.id} makes images",
            hint="write .npz or .npy",
        )


def pair_columns(n: int) -> int:
    """Pairs per row for a picture of pleasant proportions, if possible without a gap in the last row."""

    def cost(columns: int) -> float:
        proportion = columns / (2 * math.ceil(n / columns))
        return abs(math.log(proportion / PAIRS_PROPORTION)) + (COST_OF_A_GAP if n % columns else 0)

    return min(range(1, min(n, 1000) + 1), key=cost)


def write(path: Path, streams: dict[str, Stream], columns: int, kind: str, run: Run) -> None:
    """Write images as a grid (reconstructions under their originals), or as arrays, which are written in pieces.

    Rows of a table become a heat map.
    """
    import numpy as np

    from vaectl.output import arrays

    suffix = path.suffix.lower()
    if suffix == ".npz":
        texts = np.array([column.name for column in run.data_info.columns])
        named = {"columns": arrays.Stream(texts.shape, texts.dtype, [texts])} if len(texts) else {}
        arrays.save_npz(streams | named, path)
    elif suffix == ".npy":
        arrays.save_npy(streams["images"], path)
    elif suffix in TABLES:
        arrays.save(_table_rows(streams, run.data_info.columns), len(streams["images"]), path)
    elif run.data_info.is_table:
        _save_heat_map(path, streams, kind, run)
    else:
        _save_grid(path, streams, columns, run.data_info.range)


def _table_rows(streams: dict[str, Stream], columns: Sequence[Column]) -> Iterator[dict[str, np.ndarray]]:
    """The columns of a table under their names, and those of the originals of reconstructions as ``original_NAME``.

    Without names they are x0, x1, ... and original0, ...
    """
    names = [("x", "images"), *([("original", "originals")] if "originals" in streams else [])]
    prefix, taken = "original_", {column.name for column in columns}
    while any(f"{prefix}{name}" in taken for name in taken):
        prefix = f"_{prefix}"
    for parts in zip(*(streams[key].parts for _, key in names), strict=True):
        rows: dict[str, np.ndarray] = {}
        for (name, key), part in zip(names, parts, strict=True):
            flat, before = part.reshape(len(part), -1), prefix if key == "originals" else ""
            named = {f"{before}{column.name}": column.restored(flat[:, i]) for i, column in enumerate(columns)}
            rows |= named or {name: flat}
        yield rows


def _save_grid(path: Path, streams: dict[str, Stream], columns: int, span: tuple[float, float]) -> None:
    import torch

    from vaectl.output.grids import LARGE_TILE_PIXELS, grid, paired, save_png

    images = torch.from_numpy(streams["images"].whole())
    if "originals" in streams:
        originals = torch.from_numpy(streams["originals"].whole())
        picture = paired(originals, images, columns, LARGE_TILE_PIXELS, span)
    else:
        picture = grid(images, columns, LARGE_TILE_PIXELS, span)
    save_png(picture, path)


def _save_heat_map(path: Path, streams: dict[str, Stream], kind: str, run: Run) -> None:
    """Rows of a table as a heat map; a grid of them would be thousands of pixels wide and a few high."""
    from vaectl.output import plots

    tables = [
        (name, streams[key].whole().reshape(len(streams[key]), -1))
        for name, key in (("originals", "originals"), (kind, "images"))
        if key in streams
    ]
    names = run.data_info.column_names
    rows = len(tables[0][1])
    some = f"the first {plots.MOST_ROWS} of {rows}" if rows > plots.MOST_ROWS else str(rows)
    title = f"{run.id}: {some} {kind}; for the numbers write .csv"
    plots.save(plots.heat_map(tables, names, title), path)


def save_pairs(originals: np.ndarray, images: np.ndarray, path: Path, run: Run) -> None:
    """Write a picture of examples and their reconstructions, float32 (n, C, H, W)."""
    from vaectl.output.arrays import Stream

    streams = {
        name: Stream(values.shape, values.dtype, [values])
        for name, values in (("images", images), ("originals", originals))
    }
    write(path, streams, pair_columns(len(images)), "reconstructions", run)


def own_form(info: DataInfo, images: np.ndarray) -> np.ndarray:
    """Decoded examples (B, C, H, W) as a person has them: (B, H, W), (B, H, W, C) or, for rows of a table, (B, W).

    Bytes and binary images are uint8, of which 255 is 1; all others are float32, in the data's units.
    """
    import numpy as np

    if info.is_table:
        return images.reshape(len(images), -1)
    form = images[:, 0] if images.shape[1] == 1 else np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    return _as_bytes(form) if info.support in ("bytes", "binary") else form


def own_stream(info: DataInfo, parts: Iterable[np.ndarray], count: int) -> Stream:
    """Decoded examples (B, C, H, W) as a stream of ``count`` of them in the form that ``own_form`` gives them."""
    import numpy as np

    from vaectl.output.arrays import Stream

    like = own_form(info, np.zeros((1, *info.shape), np.float32))
    return Stream((count, *like.shape[1:]), like.dtype, (own_form(info, images) for images in parts))


def save_examples(
    parts: Iterator[np.ndarray], count: int, path: Path, run: Run, beside: Mapping[str, Stream] | None = None
) -> None:
    """Write decoded examples: a folder of pictures by their places, a picture, an array, or rows of a table.

    Args:
        parts: The examples (B, C, H, W), float32.
        count: Their number.
        path: A file with a suffix of ``.png``, ``.npz``, ``.npy`` or ``TABLES``, or a folder.
        run: The run whose data the examples are like.
        beside: Further arrays of an ``.npz`` file.
    """
    import numpy as np

    from vaectl.output import arrays
    from vaectl.output.folders import save_images

    info, suffix = run.data_info, path.suffix.lower()
    if not suffix:
        pixels = (image for images in parts for image in pixels_of(info, images))
        save_images(((f"{place:06d}", image) for place, image in enumerate(pixels)), path)
    elif suffix == ".npz":
        arrays.save_npz({"images": own_stream(info, parts, count), **(beside or {})}, path)
    elif suffix == ".npy":
        arrays.save_npy(own_stream(info, parts, count), path)
    elif suffix in TABLES:
        arrays.save((row_of(info, images) for images in parts), count, path)
    else:
        pictures = arrays.Stream((count, *info.shape), np.dtype(np.float32), parts)
        write(path, {"images": pictures}, math.ceil(math.sqrt(count)), "examples", run)


def pixels_of(info: DataInfo, images: np.ndarray) -> np.ndarray:
    """Decoded images (B, C, H, W) as pixels of a file, uint8 (B, C, H, W), black to white over the data's range."""
    low, high = info.range
    form = images if images.shape[1] <= 4 else images.mean(1, keepdims=True)
    return _as_bytes((form - low) / max(high - low, 1e-30))


def row_of(info: DataInfo, images: np.ndarray) -> dict[str, np.ndarray]:
    """Decoded rows of a table by the names of its columns; nothing for images."""
    if not info.is_table:
        return {}
    flat = images.reshape(len(images), -1)
    if not info.columns:
        return {"x": flat}
    return {column.name: column.restored(flat[:, index]) for index, column in enumerate(info.columns)}


def _as_bytes(values: np.ndarray) -> np.ndarray:
    import numpy as np

    out: np.ndarray = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return out
