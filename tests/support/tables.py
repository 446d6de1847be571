"""Tables in several formats, loaded as data of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from pyarrow import feather, parquet

from vaectl.data import loading
from vaectl.data.base import Data, Loading


def load(path: Path, notes: list[str] | None = None, demands: dict[str, Any] | None = None, **options: Any) -> Data:
    note = (notes if notes is not None else []).append
    return loading.load(str(path), Loading(Path("nowhere"), note=note, **(demands or {})), **options)


def everything(loaded: Data) -> torch.Tensor:
    """All examples of a file without splits, as the model sees them, in the order of its rows."""
    splits = [loaded.split(name) for name in ("train", "validation", "test")]
    order = torch.cat([split.rows for split in splits]).argsort()
    return torch.cat([split.batch(slice(None)).x for split in splits])[order]


def write(path: Path, names: Sequence[str], rows: Any) -> Path:
    """A .csv file, or another format by its suffix; no names for a file without a header."""
    columns = [list(column) for column in zip(*(list(row) for row in rows), strict=True)]
    if path.suffix == ".csv":
        head = [",".join(names)] if names else []
        path.write_text("\n".join([*head, *(",".join(map(str, row)) for row in rows)]) + "\n")
    elif path.suffix == ".parquet":
        parquet.write_table(pa.table(dict(zip(names, columns, strict=True))), path)
    else:
        feather.write_feather(pa.table(dict(zip(names, columns, strict=True))), path)
    return path
