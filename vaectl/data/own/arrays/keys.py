"""The roles of a file's arrays by the names of their keys: images and labels, alone or by part.

Shapes: ``N`` examples.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vaectl.data.own.arrays.members import TEXTS, Member, listing
from vaectl.data.own.source import Reading
from vaectl.errors import DataError, SettingError, nearest

PARTS = {"train": ("train", "training"), "validation": ("validation", "val", "valid"), "test": ("test", "testing")}
IMAGES, LABELS = ("images", "image", "x", "data", "arr_0"), ("labels", "label", "y", "targets", "target", "classes")
# names that are looked for where none of these is there
MORE_IMAGES = ("imgs", "img", "features", "pixels", "inputs", "input", "faces", "samples", "observations")
# the part in a key: a word of it as above, or the beginning of trX and teY
PART_WORDS = {"train": "train|training", "validation": "validation|val|valid|dev", "test": "test|testing"}
PART_STARTS = {"train": "tr", "validation": "va", "test": "te"}
# the least columns of an array of two axes that is taken for the images unasked
MANY_COLUMNS = 8


@dataclass(frozen=True)
class Roles:
    """The keys of images and labels by part, and a remark on how they were told if it is not plain."""

    images: Mapping[str, str]
    labels: Mapping[str, str]
    remark: str = ""


def roles_of(path: Path, members: Mapping[str, Member], reading: Reading) -> Roles:
    """Tell the arrays of images and of labels.

    Keys are ``images`` and ``labels`` (or x, data, y, targets), alone or with a part before or after (``train_images``,
    ``x_test``), or a single key of any name; else the one array that can be images. The options ``images_key`` and
    ``labels_key`` come first.

    Raises:
        SettingError: An option names no array.
        DataError: No array can be told to be the images.
    """
    images_key, labels_key = (_wanted(members, name, reading) for name in ("images_key", "labels_key"))
    others = [key for key in members if key != labels_key]
    if images_key is not None:
        images = _named(path, images_key, members)
        roles = Roles(images, _labels_for(images, [key for key in members if key not in images.values()]))
    else:
        roles = _usual(others) or _likely({key: members[key] for key in others}) or _none(path, members)
    if labels_key is None:
        return roles
    if labels_key not in members:
        raise _unknown("labels_key", labels_key, path, members)
    return Roles(roles.images, {"train": labels_key, **_parts_like(labels_key, roles.images, members)}, roles.remark)


def refuse_keys(path: Path, reading: Reading) -> None:
    """Raise a SettingError if keys are named for a file that has none."""
    for name in ("images_key", "labels_key"):
        if getattr(reading.options, name) is not None and not reading.lenient:
            raise SettingError(f"data.{name}", f"is for files of several arrays; {path.name} has no keys")


def _wanted(members: Mapping[str, Member], name: str, reading: Reading) -> str | None:
    """The key that an option names; a lenient reader passes over one that is not there."""
    key: str | None = getattr(reading.options, name)
    return None if key is not None and reading.lenient and key not in members else key


def _unknown(name: str, key: str, path: Path, members: Mapping[str, Member]) -> SettingError:
    near = nearest(key, members)
    return SettingError(
        f"data.{name}",
        f"names no array of {path.name}: '{key:.100}'",
        hint=f"{f'{near} ' if near else ''}its arrays: {listing(members)}",
    )


def _named(path: Path, key: str, members: Mapping[str, Member]) -> dict[str, str]:
    """The keys of images for the option: an array as a whole, or the parts with its name."""
    if key in members:
        return {"train": key}
    parts = {part: other for other, part, stem in _with_parts(members) if stem.lower() == key.lower()}
    if "train" not in parts:
        raise _unknown("images_key", key, path, members)
    return parts


def _labels_for(images: Mapping[str, str], keys: Collection[str]) -> dict[str, str]:
    """The keys of the labels that go by their names with named images."""
    plain_keys, labels = {_plain(key): key for key in keys}, dict[str, str]()
    for part, key in images.items():
        words = next((PARTS[its] for its, _ in _part_of(key)), ()) if len(images) == 1 else PARTS[part]
        forms = [form for word in words for name in LABELS for form in (f"{word}_{name}", f"{name}_{word}")]
        if form := next((form for form in (*forms, *LABELS) if form in plain_keys), None):
            labels[part] = plain_keys[form]
    return labels or _beside(images, keys)


def _beside(images: Mapping[str, str], keys: Collection[str]) -> dict[str, str]:
    """The keys of labels that differ from those of images in one word: train_set_y, emnist-letters-train-labels."""
    labels = dict[str, str]()
    for part, image in images.items():
        own = _words(image)
        alike = [key for key in keys if _words(key)[:2] == own[:2] and _words(key)[2] in LABELS]
        if len(alike) == 1:
            labels[part] = alike[0]
    return labels


def _words(key: str) -> tuple[str | None, str, str]:
    """The part in a key, what is left of it but the last word, and that word."""
    part, stem = next(iter(_part_of(key)), (None, key))
    before, _, word = _plain(stem).rpartition("_")
    return part, before, word


def _usual(keys: Collection[str]) -> Roles | None:
    """The roles of keys with the usual names, or of a single key."""
    plain_keys = {_plain(key): key for key in keys}
    images, labels = dict[str, str](), dict[str, str]()
    for roles, names in ((images, IMAGES), (labels, LABELS)):
        for part, words in PARTS.items():
            forms = [f"{word}_{name}" for word in words for name in names]
            forms += [f"{name}_{word}" for word in words for name in names]
            if form := next((form for form in forms if form in plain_keys), None):
                roles[part] = plain_keys[form]
    if "train" not in images:
        alone = next((plain_keys[name] for name in IMAGES if name in plain_keys), None)
        if alone is None and len(keys) == 1:
            (alone,) = keys
        if alone is None:
            return None
        images = {"train": alone, **{part: key for part, key in images.items() if part != "train"}}
        if label := next((plain_keys[name] for name in LABELS if plain_keys.get(name, alone) != alone), None):
            labels["train"] = label
    return Roles(images, {part: key for part, key in labels.items() if part in images})


def _likely(members: Mapping[str, Member]) -> Roles | None:
    """The roles of keys with other names: parts of one name, or the one array that can be images."""
    stems = dict[str, dict[str, str]]()
    for key, part, stem in _with_parts(members):
        stems.setdefault(stem, {})[part] = key
    firsts = {
        parts["train"]: members[parts["train"]] for parts in stems.values() if "train" in parts and len(parts) > 1
    }
    if (first := _only(firsts)) is not None:
        images = next(parts for parts in stems.values() if parts.get("train") == first)
        others = (parts for stem, parts in stems.items() if stem.lower() in LABELS and parts is not images)
        labels = next(others, dict[str, str]())
        labels = {part: key for part, key in labels.items() if part in images}
        return Roles(images, labels or _beside(images, [key for key in members if key not in images.values()]))
    alone = _only(members)
    if alone is None:
        return None
    labels = _labels_for({"train": alone}, [key for key in members if key != alone])
    remark = f"'{alone}' is taken for the images, as the one array that can be; --images-key names another"
    return Roles({"train": alone}, labels, remark)


def _only(members: Mapping[str, Member]) -> str | None:
    """The key of the only array that can be images, or whose name says so."""
    numbers = {key: member for key, member in members.items() if member.is_numbers and _words(key)[2] not in LABELS}
    pictures = [key for key, member in numbers.items() if len(member.shape) in (3, 4)]
    tables = [key for key, member in numbers.items() if len(member.shape) == 2]
    wide = [key for key in tables if members[key].shape[1] >= MANY_COLUMNS]
    by_name = [key for key in (pictures or tables) if _plain(key) in MORE_IMAGES]
    for keys in (pictures, by_name, [] if pictures else wide):
        if len(keys) == 1:
            return keys[0]
    return None


def _none(path: Path, members: Mapping[str, Member]) -> Roles:
    raise DataError(
        f"{path}: no array is called images; its arrays: {listing(members)}",
        hint="name the array of images with --images-key, and that of labels with --labels-key",
    )


def maybe_labels(images: Member, members: Mapping[str, Member], used: Collection[str]) -> str | None:
    """The key of an array that may hold the labels, to be named in a remark."""
    count = images.shape[:1]
    keys = [key for key, member in members.items() if key not in used and not member.problem
            and member.shape in (count, (*count, 1)) and member.dtype.kind in {"i", "u", *TEXTS}]  # fmt: skip
    return keys[0] if len(keys) == 1 else None


def _parts_like(key: str, images: Mapping[str, str], members: Mapping[str, Member]) -> dict[str, str]:
    """The keys of the other parts that have the name of one part's labels."""
    stem = next((stem for _, stem in _part_of(key)), None)
    return {part: other for other, part, its in _with_parts(members)
            if stem is not None and its == stem and part in images and part != "train"}  # fmt: skip


def _with_parts(keys: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """The keys that name a part, with the part and the rest of the name."""
    for key in keys:
        for part, stem in _part_of(key):
            yield key, part, stem


def _part_of(key: str) -> list[tuple[str, str]]:
    """The part that a key names and the rest of the name; empty if it names none."""
    for part, words in PART_WORDS.items():
        match = re.search(rf"(?:^|[_\-./ ])({words})(?=$|[_\-./ ])", key, re.IGNORECASE)
        match = match or re.match(rf"({words})(?=[A-Z])", key) or re.match(f"({PART_STARTS[part]})(?=[A-Z]$)", key)
        if match:
            return [(part, (key[: match.start()] + key[match.end() :]).strip("_-./ "))]
    return []


def _plain(key: str) -> str:
    return key.lower().replace("-", "_").replace(".", "_").replace("/", "_")
