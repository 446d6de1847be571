"""The class and the file of each example of a data set, beside what a command computes for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vaectl.config.spec import splits_of

if TYPE_CHECKING:
    import numpy as np

    from vaectl.data.base import Data


class Marks:
    """The class and the file of each example, as columns beside its latent.

    Args:
        data: The data set.
        classes: Names of the run's classes; classes of the same name get the same number in other data.
    """

    def __init__(self, data: Data, classes: Sequence[str]) -> None:
        import numpy as np

        names, self._files = data.info.classes, data.files
        self._data = data
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

    def of_all(self, split: str) -> dict[str, np.ndarray]:
        """The columns ``split`` if there are several, ``row`` and those of ``of`` for a split, or ``all`` of them."""
        import numpy as np

        names = [name for name in splits_of(split) if len(self._data.split(name))]
        parts = []
        for name in names:
            rows, labels = (t.cpu().numpy() for t in (self._data.split(name).rows, self._data.split(name).labels))
            which = {"split": np.full(len(rows), name)} if len(names) > 1 else {}
            parts.append({**which, "row": rows, **self.of(name, rows, labels)})
        return {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}


def name_of(columns: Mapping[str, np.ndarray], place: int) -> str:
    """The name of an example by its columns of ``Marks.of_all``: that of its file, or its split and row."""
    if "file" in columns:
        return str(columns["file"][place])
    split = f"{columns['split'][place]} " if "split" in columns else ""
    return f"{split}row {columns['row'][place]}"


def file_of(columns: Mapping[str, np.ndarray], place: int) -> str:
    """The name of an example's picture in a folder: that of its file, or its split and row."""
    if "file" in columns:
        return str(columns["file"][place])
    split = f"{columns['split'][place]}/" if "split" in columns else ""
    return f"{split}{columns['row'][place]:06d}"
