"""Splits and classes of image files by the names of their folders.

Shapes: ``N`` images.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vaectl.data.own.pictures.listing import DEEPEST, Listing, is_picture
from vaectl.data.own.source import named, unlabelled
from vaectl.errors import DataError, amount

# split -> names of its folder, in lower case
SPLIT_FOLDERS = {
    "train": ("train", "training"), "validation": ("validation", "val", "valid"), "test": ("test", "testing"),
}  # fmt: skip
# the place of a split's name in that of a folder
MARK, SEPARATORS = "\0", "-_. " + "\0"
SHOWN = 3
# tables that may lie beside images; CelebA's lists, as its authors have them and as tables
TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet", "labels.csv", "labels.tsv", "train.csv")
ATTRIBUTES, PARTITION = "list_attr_celeba", "list_eval_partition"
LISTS = tuple(name + suffix for name in (ATTRIBUTES, PARTITION) for suffix in (".txt", ".csv"))
# folders beside each other of which only one may hold images
MOST_BESIDE = 10
# folders that hold one thing of each example, or a piece of the examples, rather than a class
ASPECTS = (
    "images", "imgs", "jpegimages", "masks", "labels", "annotations", "groundtruth", "ground_truth", "gt",
    "segmentationclass", "segmentationobject",
)  # fmt: skip
PIECES = re.compile(r"(^|[-_. ])(part|batch|chunk|shard|fold|split)[-_. ]?\d+$", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """A folder of a split.

    Attributes:
        folder: Its path, empty for the root.
        kind: The class of all images in it; None if its sub-folders are the classes.
    """

    folder: str
    kind: str | None = None


@dataclass(frozen=True)
class Layout:
    """The images of each split, and the folders that they are in.

    Attributes:
        base: The folder that holds the splits or the classes, empty for the root.
        places: The folders of each split.
        images: Path of each image by split.
        owned: Whether the source has splits of its own.
    """

    base: str
    places: Mapping[str, Sequence[Place]]
    images: dict[str, list[str]]
    owned: bool


def layout_of_folders(name: str, listing: Listing, note: Callable[[str], None]) -> Layout:
    """Find the splits, below folders that hold nothing but one other folder, and list their images.

    Args:
        name: Name of the source.
        listing: Its files.
        note: Called with a sentence on what is read and what is not.

    Raises:
        DataError: A split has two folders.
    """
    base = ""
    for _ in range(DEEPEST):
        inside = listing.folders(base)
        if _splits(name, base, inside) or any(map(is_picture, listing.files(base))):
            break
        if 1 < len(inside) <= MOST_BESIDE:
            inside = [folder for folder in inside if listing.has_images(posixpath.join(base, folder))]
        if len(inside) != 1 or not listing.may_enter(posixpath.join(base, inside[0])):
            break
        base = posixpath.join(base, inside[0])
    splits = _splits(name, base, listing.folders(base))
    if base:
        note(f"{name}: {base} in it is read, the only folder of images there")
    places = _lowered(name, splits, listing, note) or {"train": [Place(base)]}
    images = {
        part: [image for place in folders for image in listing.images(place.folder)]
        for part, folders in places.items()
    }  # fmt: skip
    if splits:
        read = {posixpath.relpath(place.folder, base or ".") for folders in splits.values() for place in folders}
        told = {*read, *TABLES, *LISTS}  # whatever comes of a table beside is said when it is read
        if beside := [entry for entry in sorted(listing.folders(base) + listing.files(base)) if entry not in told]:
            note(f"{name}: {', '.join(beside[:SHOWN])} ignored, outside its split folders")
        if any(place.kind is not None for place in splits["train"]):
            named_so = ", ".join(place.folder for place in splits["train"])
            note(f"{name}: {named_so} are read as classes; --classes keeps one of them")
        elif changed := [f"{place.folder} is the {part} split" for part, (place,) in splits.items()
                         if posixpath.basename(place.folder).lower() not in SPLIT_FOLDERS[part]]:  # fmt: skip
            note(f"{name}: {', '.join(changed)}")
    layout = Layout(base, places, images, bool(splits))
    _tell_of_deeper(name, layout, note)
    return layout


def part_of(name: str) -> str | None:
    """The split that a folder's name is; None if it is none."""
    return next((part for part, names in SPLIT_FOLDERS.items() if name.lower() in names), None)


def _splits(name: str, base: str, folders: Sequence[str]) -> dict[str, list[Place]]:
    """The folders of each split; none without a ``train`` folder."""
    exact: dict[str, list[str]] = {part: [] for part in SPLIT_FOLDERS}
    for folder in folders:
        if (part := part_of(folder)) is not None:
            exact[part].append(folder)
    if exact["train"]:
        for matches in exact.values():
            if len(matches) > 1:
                raise DataError(
                    f"{posixpath.join(name, base)} has two folders for one split: {' and '.join(matches[:2])}",
                    hint="keep one of them",
                )
        return {part: [Place(posixpath.join(base, *matches))] for part, matches in exact.items() if matches}
    return _affixed(base, folders)


def _affixed(base: str, folders: Sequence[str]) -> dict[str, list[Place]]:
    """The folders of splits whose names share a prefix or suffix: seg_train and seg_test; trainA, trainB, testA, ..."""
    sets = dict[str, dict[str, str]]()
    for folder in folders:
        for part, rest in _readings(folder):
            sets.setdefault(rest, {}).setdefault(part, folder)
    whole = {rest: parts for rest, parts in sets.items() if "train" in parts and len(parts) > 1}
    splits: dict[str, list[Place]] = {}
    for rest, parts in sorted(whole.items()):
        # several sets, such as the two domains of CycleGAN, are the classes
        kind = rest.strip(SEPARATORS).replace(MARK, " ") if len(whole) > 1 else None
        for part in SPLIT_FOLDERS:
            if part in parts:
                splits.setdefault(part, []).append(Place(posixpath.join(base, parts[part]), kind))
    return splits


def _lowered(
    name: str, splits: dict[str, list[Place]], listing: Listing, note: Callable[[str], None]
) -> dict[str, list[Place]]:
    """The folders of splits, or the single ones in them that hold the classes: seg_train/seg_train/sea, ..."""
    lowered, kinds = dict[str, list[Place]](), set[str]()
    for part, places in splits.items():
        lowered[part] = []
        for place in places:
            inside = listing.folders(place.folder)
            below = posixpath.join(place.folder, *inside[:1])
            alone = (
                len(inside) == 1 and inside[0] not in kinds and not any(map(is_picture, listing.files(place.folder)))
            )
            if place.kind is None and alone and listing.may_enter(below) and listing.folders(below):
                note(f"{name}: {below} is read, the only folder in {place.folder}")
                place = Place(below)
            lowered[part].append(place)
            kinds.update(listing.folders(place.folder))
    return lowered


def _readings(folder: str) -> Iterator[tuple[str, str]]:
    """The splits that a folder's name may mean, each with what is left of the name."""
    for part, names in SPLIT_FOLDERS.items():
        for word in sorted(names, key=len, reverse=True):
            if (start := folder.lower().find(word)) >= 0:
                yield part, f"{folder[:start]}{MARK}{folder[start + len(word) :]}"
                break


def _tell_of_deeper(name: str, layout: Layout, note: Callable[[str], None]) -> None:
    """Say so if the images of a folder that is called as a split is are read as those of another one."""
    deeper = dict[str, None]()
    for part, files in layout.images.items():
        skipped = min(len(place.folder.split("/")) if place.folder else 0 for place in layout.places[part])
        for folder in dict.fromkeys(posixpath.dirname(file) for file in files):
            steps = folder.split("/")
            for index in range(skipped, len(steps)):
                if (other := part_of(steps[index])) and not (layout.owned and other == part):
                    deeper["/".join(steps[: index + 1])] = None
    if any(part_of(posixpath.basename(folder)) != "train" for folder in deeper):
        listing = ", ".join([*deeper][:SHOWN]) + (f" and {len(deeper) - SHOWN} more" if len(deeper) > SHOWN else "")
        note(
            f"{name}: {listing} are called as splits are, yet all their images are read as "
            f"{' and '.join(layout.places)} images: name the folder that holds the splits you mean"
        )


def classes_by_folder(
    name: str, layout: Layout, bad: list[tuple[str, str]], note: Callable[[str], None]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Labels by part and class names: the folders directly below each split.

    Images outside of the class folders are bad if they are few, and taken out of the layout; if they are most, there
    are no classes.
    """
    images = layout.images
    kinds = {
        part: [place.kind or _below(file, place.folder) for file, place in _placed(files, layout.places[part])]
        for part, files in images.items()
    }
    outside = sum(not kind for part_kinds in kinds.values() for kind in part_kinds)
    total = sum(map(len, images.values()))
    inside = sorted({kind for part_kinds in kinds.values() for kind in part_kinds if kind})
    if inside and 2 * outside > total:
        note(
            f"{name}: most images are outside of its sub-folders, so there are no classes; "
            f"{amount(total - outside, 'image')} in {', '.join(inside[:SHOWN])} are read with the others"
        )
        inside = []
    if not inside and layout.base and not layout.owned:
        # the folder above is their only class
        top = layout.base.split("/")[0]
        return {part: np.zeros(len(files), np.int64) for part, files in images.items()}, named([top])
    if not inside:
        return {part: unlabelled(len(files)) for part, files in images.items()}, ()
    training_kinds = {kind for kind in kinds["train"] if kind}
    labels = {}
    for part, files in images.items():
        own = {kind for kind in kinds[part] if kind}
        if (
            part != "train"
            and training_kinds
            and len(own) <= 1
            and not own & training_kinds
            and not (own and "" in kinds[part])
        ):
            where = f"all in {own.pop()}, which is no class in training" if own else "in no class folder"
            note(f"{name}: the {part} images are {where}: they have no label")
            kinds[part] = [MARK] * len(files)
        bad += [
            (file, "is outside the class folders") for file, kind in zip(files, kinds[part], strict=True) if not kind
        ]
        images[part] = [file for file, kind in zip(files, kinds[part], strict=True) if kind]
    names = sorted({kind for part_kinds in kinds.values() for kind in part_kinds if kind and kind != MARK})
    if any(kind.lower() in ASPECTS or PIECES.search(kind) for kind in names) and len(names) > 1:
        some = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        note(f"{name}: its folders {some} are read as classes; --classes {names[0]} keeps one of them")
    number = {kind: index for index, kind in enumerate(names)} | {MARK: -1}
    labels = {part: np.array([number[kind] for kind in kinds[part] if kind], np.int64) for part in images}
    return labels, named(names)


def _placed(files: Sequence[str], places: Sequence[Place]) -> Iterator[tuple[str, Place]]:
    """Each image with the folder of its split."""
    for file in files:
        yield file, next(place for place in places if not place.folder or file.startswith(f"{place.folder}/"))


def _below(file: str, folder: str) -> str:
    steps = (file[len(folder) + 1 :] if folder else file).split("/")
    return steps[0] if len(steps) > 1 else ""
