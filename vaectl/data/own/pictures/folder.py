"""Image files in a folder, an archive or a file of pages, opened as one source.

Shapes: ``N`` images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from vaectl.config.datasets import PICTURES
from vaectl.data.own.ahead import ahead
from vaectl.data.own.pictures.decoding import CHANNELS, FileRows, Header, headers_of, is_opaque, page_name
from vaectl.data.own.pictures.layout import classes_by_folder, layout_of_folders
from vaectl.data.own.pictures.listing import FolderListing, Listing, MemberListing
from vaectl.data.own.pictures.side_tables import attributes_beside, divided, side_tables
from vaectl.data.own.pictures.stores import FolderStore, Store, TarStore, ZipStore
from vaectl.data.own.source import Reading, Source, refuse_options, unlabelled
from vaectl.data.selection import chosen
from vaectl.errors import DataError, SettingError, amount

FILES_AT_ONCE = 32


@dataclass(frozen=True)
class Pictures:
    """Image files with their labels, before any is opened.

    Attributes:
        name: Name of the source in messages.
        store: Where the files are.
        images: Name of each image file by part.
        labels: Class of each file by part, int64 (N,), -1 if it has none.
        classes: Names of the labels 0, 1, ... ; empty if they have no names.
        bad: Name and problem of each file that cannot be used.
        factors: Known factors of the files by part and name (N,).
    """

    name: str
    store: Store
    images: Mapping[str, Sequence[str]]
    labels: Mapping[str, np.ndarray]
    classes: tuple[str, ...]
    bad: list[tuple[str, str]]
    factors: Mapping[str, Mapping[str, np.ndarray]]


def open_folder(root: Path, reading: Reading) -> Source:
    """Open a folder of images.

    Raises:
        DataError: The folder cannot be listed, or holds no images.
        SettingError: The requested change does not apply to these images.
    """
    return _open_listed(root, FolderStore(root), FolderListing(root, reading.most), reading)


def open_members(path: Path, store: ZipStore | TarStore, reading: Reading) -> Source:
    """Open an archive of images as if it were unpacked.

    Raises:
        DataError: The archive holds no images.
        SettingError: The requested change does not apply to these images.
    """
    return _open_listed(path, store, MemberListing(path, store.members(), reading.most), reading)


def open_picture(path: Path, reading: Reading) -> Source:
    """Open an image file: each page of a TIFF file is an example. One image is enough for a model that exists.

    Raises:
        DataError: It is damaged, or one image to be trained on.
        SettingError: The requested change does not apply to its pages.
    """
    store, files = FolderStore(path.parent), {"train": [path.name]}
    headers = headers_of(store, path.name)
    if isinstance(headers, str):
        raise DataError(f"{path} {headers}")
    if len(headers) == 1 and not reading.lenient:
        raise DataError(
            f"{path} is one image, and data are a folder of images or an array: name the folder that it is in"
        )
    refuse_options(reading, {"label_column": f"is for a table of the images by name; {path.name} has none"})
    pictures = Pictures(path.name, store, files, {"train": unlabelled(1)}, (), [], {})
    return open_pictures(pictures, reading)


def _open_listed(path: Path, store: Store, listing: Listing, reading: Reading) -> Source:
    layout = layout_of_folders(path.name, listing, reading.note)
    bad = listing.bad
    if not any(layout.images.values()) and not bad:
        suffixes = " ".join(sorted(suffix[1:] for suffix in PICTURES))
        raise DataError(f"{path} holds no images", hint=f"names of images end in: {suffixes}")
    tables = side_tables(path, store, listing, layout)
    folders = [place.folder for places in layout.places.values() for place in places]
    own = [table.file for table in tables if not table.file.startswith("../")]
    inside = sum(any(not folder or file.startswith(f"{folder}/") for folder in folders) for file in own)
    if ignored := listing.ignored - inside:
        reading.note(f"{path.name}: {amount(ignored, 'file')} without an image suffix ignored")
    _refuse_links(path, layout.images, bad)
    layout = divided(tables, layout, reading, path.name)
    labels, classes, factors = attributes_beside(path, tables, layout.images, reading)
    if labels is None:
        labels, classes = classes_by_folder(path.name, layout, bad, reading.note)
        _, _, factors = attributes_beside(path, tables, layout.images, replace(reading, note=lambda sentence: None))
    return open_pictures(Pictures(path.name, store, layout.images, labels, classes, bad, factors), reading)


def _refuse_links(path: Path, images: Mapping[str, Sequence[str]], bad: Sequence[tuple[str, str]]) -> None:
    """Raise a DataError that says what to do if most images are links that lead elsewhere."""
    links = [entry for entry in bad if "is a link" in entry[1]]
    if len(links) > sum(map(len, images.values())):
        name, problem = links[0]
        raise DataError(
            f"{path}: {amount(len(links), 'entry', 'entries')} of it cannot be used: {name} {problem}",
            hint="links are followed only within the folder: name the folder where the files are, or copy them, "
            f"cp -rL {path.name} COPY",
        )


def open_pictures(pictures: Pictures, reading: Reading, *, keyed: bool = False) -> Source:
    """Open image files: read their headers, and find the size, the channels and the depth of all.

    Args:
        pictures: The files.
        reading: How to read them.
        keyed: Whether the option ``images_key`` names what they are in.

    Raises:
        SettingError: The requested change does not apply to these images.
    """
    refuse_options(reading, {"shape": f"is for rows of numbers; {pictures.name} holds images"})
    for option in ("labels_key",) if keyed else ("labels_key", "images_key"):
        refuse_options(reading, {option: f"is for files of arrays; {pictures.name} holds images"})
    Image.init()  # must not run in several threads at once
    if reading.options.classes is not None:
        pictures = _wanted(pictures, reading.options.classes, reading)
    bad, pairs_by_part = pictures.bad, _headers(pictures, reading)
    places = {part: np.array([place for place, _ in pairs], np.int64) for part, pairs in pairs_by_part.items()}
    headers = {part: [header for _, header in pairs] for part, pairs in pairs_by_part.items()}
    _tell_of_pages(pictures, places, headers, reading)
    sound = [header for part in headers.values() for header in part]
    usable = {part: np.arange(len(part_headers)) for part, part_headers in headers.items()}
    sizes, change = Counter(header.size for header in sound), reading.change
    differ = len(sizes) > 1 and (change is None or not change.makes_one_size)
    if change is not None and change.crop is not None:
        wrong = {size for size in sizes if not change.crop.fits(size)}
        if sound and len(wrong) == len(sizes):
            raise SettingError(
                "data.crop", f"{change.crop.text} is larger than the images: {_by(sizes.most_common(1)[0][0])}"
            )
        problems = {size: f"is {_by(size)}, smaller than the crop {change.crop.text}" for size in wrong}
    elif differ:
        # the most common size is right; of equally common ones, the first
        usual = sizes.most_common(1)[0][0]
        problems = {size: f"is {_by(size)}, not {_by(usual)}" for size in sizes if size != usual}
    else:
        problems = {}
    for part, part_headers in headers.items():
        wrong_rows = [row for row, header in enumerate(part_headers) if header.size in problems]
        bad += [(_name(pictures, part, places[part][row], part_headers[row]), problems[part_headers[row].size])
                for row in wrong_rows]  # fmt: skip
        usable[part] = np.setdiff1d(usable[part], wrong_rows)
    sizes = Counter({size: count for size, count in sizes.items() if size not in problems})
    bands, depth = _common(pictures, headers, places, reading)
    size = next(iter(sizes)) if len(sizes) == 1 else None
    parts, labels, factors = {}, {}, dict[str, Mapping[str, np.ndarray]]()
    for part, rows in usable.items():
        at = places[part][rows]
        pages = np.array([headers[part][row].page for row in rows.tolist()], np.int64)
        parts[part] = FileRows(
            pictures.store,
            _chosen(pictures.images[part], at),
            size,
            bands,
            depth,
            change,
            pages if _repeat(at) else None,
        )
        labels[part] = pictures.labels[part][at]
        factors[part] = {name: values[at] for name, values in pictures.factors.get(part, {}).items()}
    if sound:
        next(iter(parts.values())).shape  # noqa: B018 - raises if the change does not apply to these images
    scaling = {8: "uint8 / 255", 16: "uint16 / 65535", 32: "numbers as they are"}[depth]
    if change is not None:
        scaling += change.text([(CHANNELS[bands], *size) for size in sizes])
    return Source(parts, labels, scaling, pictures.classes, bad, sizes_differ=differ, factors=factors)


def _wanted(pictures: Pictures, classes: Sequence[str], reading: Reading) -> Pictures:
    """Leave out the files of other classes before they are opened; labels and classes stay as they are."""
    rows, _, _ = chosen(pictures.name, classes, pictures.labels, pictures.classes)
    images = {part: [pictures.images[part][row] for row in part_rows.tolist()] for part, part_rows in rows.items()}
    others = sum(map(len, pictures.images.values())) - sum(map(len, images.values()))
    reading.note(f"{pictures.name}: {amount(others, 'image')} of other classes left out")
    factors = {
        part: {name: values[rows[part]] for name, values in part_factors.items()}
        for part, part_factors in pictures.factors.items()
    }
    labels = {part: pictures.labels[part][part_rows] for part, part_rows in rows.items()}
    return replace(pictures, images=images, labels=labels, factors=factors)


def _chosen(files: Sequence[str], at: np.ndarray) -> Sequence[str]:
    return files if len(at) == len(files) and not _repeat(at) else [files[place] for place in at.tolist()]


def _repeat(at: np.ndarray) -> bool:
    """Whether some file has several pages."""
    return len(np.unique(at)) < len(at)


def _name(pictures: Pictures, part: str, place: int, header: Header) -> str:
    file = pictures.images[part][place]
    return page_name(file, header.page) if header.page else file


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _headers(pictures: Pictures, reading: Reading) -> dict[str, list[tuple[int, Header]]]:
    """Read the headers of every image file: by part, the place of its file and the header of each image."""
    total, done = sum(map(len, pictures.images.values())), 0
    pairs: dict[str, list[tuple[int, Header]]] = {}
    for part, files in pictures.images.items():
        chunks = (range(start, min(len(files), start + FILES_AT_ONCE)) for start in range(0, len(files), FILES_AT_ONCE))
        pairs[part] = []

        def read(chunk: range, files: Sequence[str] = files) -> list[tuple[int, list[Header] | str]]:
            return [(place, headers_of(pictures.store, files[place])) for place in chunk]

        with closing(ahead(read, chunks)) as results:
            for result in results:
                for place, headers in result:
                    if isinstance(headers, str):
                        pictures.bad.append((files[place], headers))
                    else:
                        pairs[part] += [(place, header) for header in headers]
                done += len(result)
                reading.progress(f"{pictures.name}: reading image headers", done, total)
    return pairs


def _tell_of_pages(
    pictures: Pictures, places: Mapping[str, np.ndarray], headers: Mapping[str, Sequence[Header]], reading: Reading
) -> None:
    """Say how many pages there are, and of which files only the first frame is read."""
    pages, files = 0, 0
    for at in places.values():
        counts = np.unique(at, return_counts=True)[1]
        pages, files = pages + int(counts[counts > 1].sum()), files + int((counts > 1).sum())
    if files:
        reading.note(f"{pictures.name}: {pages:,} pages in {amount(files, 'file')}; each page is an example")
    if coarse := sum(header.coarse for part in headers.values() for header in part):
        reading.note(
            f"{pictures.name}: {amount(coarse, 'image')} with colours of 16 bits, of which the upper 8 are read; "
            "arrays in .npy keep all 16"
        )
    if moving := sum(header.moving for part in headers.values() for header in part):
        reading.note(f"{pictures.name}: {amount(moving, 'animation')}, of which only the first frame is read")


def _common(
    pictures: Pictures, headers: Mapping[str, Sequence[Header]], places: Mapping[str, np.ndarray], reading: Reading
) -> tuple[str, int]:
    """The channels and the depth that hold every image; a note says so if the images differ."""
    forms = Counter((header.bands, header.depth) for part in headers.values() for header in part)
    colour = any("RGB" in band for band, _ in forms)
    alpha = any(band.endswith("A") for band, _ in forms)
    clear = [
        (pictures.images[part][places[part][row]], header.palette)
        for part, part_headers in headers.items()
        for row, header in enumerate(part_headers)
        if header.bands.endswith("A")
    ] if alpha else []  # fmt: skip
    few = alpha and 2 * len(clear) < sum(forms.values())
    drops_alpha = few and all(palette or is_opaque(pictures.store, file) for file, palette in clear)
    bands = ("RGB" if colour else "L") + ("A" if alpha and not drops_alpha else "")
    depth = max((bits for _, bits in forms), default=8)
    if len(forms) > 1:
        counts = ", ".join(f"{count} {band} with {bits} bits" for (band, bits), count in forms.most_common())
        way = ""
        if drops_alpha:
            way = (
                f"; the transparency of {amount(len(clear), 'image')} is dropped, as it is that of a palette or unused"
            )
        elif few and reading.options.channels is None:
            way = "; --channels 3 drops the transparency"
        reading.note(f"images are of several kinds ({counts}): all are read as {bands} with {depth} bits{way}")
    return bands, depth
