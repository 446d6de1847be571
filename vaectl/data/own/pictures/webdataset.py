"""Tar archives in the format of WebDataset, where labels are files beside images.

References:
    The WebDataset format, https://github.com/webdataset/webdataset
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vaectl.data.info import LONGEST_CLASS
from vaectl.data.own.pictures.folder import Pictures, open_pictures
from vaectl.data.own.pictures.listing import JUNK, is_picture
from vaectl.data.own.pictures.stores import TarStore, UnreadableError
from vaectl.data.own.source import Reading, Source, check_count, classes_of, unlabelled
from vaectl.data.own.tables.roles import LABEL_NAMES
from vaectl.errors import DataError, SettingError, amount
from vaectl.system.reading import parse_json

LABEL, RECORD = "cls", "json"
# limit for a file that holds a label
LABEL_BYTES = 1 << 16
SHOWN = 5


def has_labels(store: TarStore) -> bool:
    """Whether an archive has labels as files beside its images."""
    return any(_key(member.name)[1] == LABEL for member in store.members())


def open_shards(path: Path, shards: Mapping[str, Mapping[str, Path]], reading: Reading) -> Source:
    """Open the images of archives; the label of each is in ``.cls``, or in ``.json`` under a usual name.

    Args:
        path: The data set: the archive, or the folder of the archives.
        shards: The archives by part, and by the beginning of their members' names.
        reading: How to read them.

    Raises:
        DataError: An archive is damaged or compressed, or there are no images.
        SettingError: An option does not apply to these data.
    """
    store = TarStore({prefix: file for part in shards.values() for prefix, file in part.items()})
    owner = {prefix: part for part, files in shards.items() for prefix in files}
    images: dict[str, list[str]] = {part: [] for part in shards}
    others: dict[str, dict[str, str]] = {LABEL: {}, RECORD: {}}
    bad, ignored = list[tuple[str, str]](), Counter[str]()
    for member in store.members():
        base = member.name.rpartition("/")[2]
        if base.startswith(".") or JUNK in member.name.split("/"):
            continue
        part = next(part for prefix, part in owner.items() if member.name.startswith(prefix))
        key, kind = _key(member.name)
        if not is_picture(member.name):
            ignored[kind] += 1
            if kind in others and member.problem is None:
                others[kind][key] = member.name
        elif member.problem is None:
            images[part].append(member.name)
        else:
            bad.append((member.name, member.problem))
    if not any(images.values()) and not bad:
        raise DataError(f"{path} holds no images")
    check_count(path, images.values())
    labels, classes, kind = _labels(path, store, images, others, reading)
    if unread := ", ".join(
        f"{amount(count, f'.{name} file')}" for name, count in ignored.most_common(SHOWN) if name != kind
    ):
        reading.note(f"{path.name}: {unread} ignored")
    return open_pictures(Pictures(path.name, store, images, labels, classes, bad, {}), reading)


def _key(name: str) -> tuple[str, str]:
    """What a file's name says: the example that it belongs to, and what of it the file holds."""
    folder, _, base = name.rpartition("/")
    key, _, kind = base.partition(".")
    return f"{folder}/{key}", kind.lower().rpartition(".")[2]


def _labels(
    path: Path,
    store: TarStore,
    images: Mapping[str, Sequence[str]],
    others: Mapping[str, Mapping[str, str]],
    reading: Reading,
) -> tuple[dict[str, np.ndarray], tuple[str, ...], str]:
    """Labels by part, the names of classes, and the kind of the files that hold them."""
    kind = RECORD if reading.label_column is not None else LABEL if others[LABEL] else RECORD
    field = _field(store, others[RECORD], reading) if kind == RECORD else None
    if not others[kind] or (kind == RECORD and field is None):
        if reading.demands_label:
            raise SettingError("data.label_column", f"names no field of the .json files in {path.name}")
        return {part: unlabelled(len(files)) for part, files in images.items()}, (), ""
    texts = {
        part: [_label(store, others[kind].get(_key(file)[0]), field) for file in files]
        for part, files in images.items()
    }
    if missing := sum(text == "" for part in texts.values() for text in part):
        reading.note(f"{path.name}: {amount(missing, 'image')} without a label")
    whole = all(text.lstrip("-").isdecimal() and len(text) < 18 for part in texts.values() for text in part if text)
    labels = {part: unlabelled(len(part_texts)).copy() for part, part_texts in texts.items()}
    values = {part: np.array([text for text in part_texts if text], np.int64 if whole else str)
              for part, part_texts in texts.items()}  # fmt: skip
    numbers, classes = classes_of(values)
    for part, part_texts in texts.items():
        labels[part][[text != "" for text in part_texts]] = numbers[part]
    reading.note(f"{path.name}: labels from .{kind} files" + (f", field '{field}'" if field else ""))
    return labels, classes, kind


def _field(store: TarStore, records: Mapping[str, str], reading: Reading) -> str | None:
    """The field of the first record that holds the label."""
    names = (reading.label_column,) if reading.label_column is not None else LABEL_NAMES
    for record in list(records.values())[:1]:
        try:
            document = parse_json(_text(store, record), any_number=True)
        except ValueError:
            return None
        return next((name for name in names if isinstance(document, dict) and name in document), None)
    return None


def _label(store: TarStore, name: str | None, field: str | None) -> str:
    """The label in a file as text; empty if there is none."""
    text = "" if name is None else _text(store, name)
    if field is None or not text:
        return text.strip()[:LONGEST_CLASS]
    try:
        document = parse_json(text, any_number=True)
    except ValueError:
        return ""
    value = document.get(field) if isinstance(document, dict) else None
    return str(value).strip()[:LONGEST_CLASS] if isinstance(value, int | str) else ""


def _text(store: TarStore, name: str) -> str:
    try:
        with store.open(name) as file:
            return file.read(LABEL_BYTES).decode("utf-8", "replace")
    except (OSError, UnreadableError):
        return ""
