"""Arrays of examples as files: ``.npz``, or tables as ``.csv`` and ``.parquet``.

Shapes: ``N`` examples; an array is (N,) or (N, D), and a table has one column for each of the D.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from vaectl.errors import VaectlError
from vaectl.files import replacing

FORMATS = (".npz", ".csv", ".parquet")


def require_format(suffix: str) -> None:
    """Raise a VaectlError where a format needs a package that is not installed."""
    if suffix == ".parquet" and find_spec("pyarrow") is None:
        raise VaectlError("a .parquet file needs the package pyarrow", hint="install it with: pip install pyarrow")


def save(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write arrays of N rows; in a table the columns of an array ``z`` (N, D) are z0, z1, ... .

    Args:
        arrays: Name -> numbers (N,) or (N, D); of any shape for ``.npz``.
        path: The file; its suffix is one of ``FORMATS``.

    Raises:
        OutputError: The file cannot be written.
    """
    with replacing(path) as temporary:
        if path.suffix.lower() == ".npz":
            with temporary.open("wb") as file:  # given a name, numpy may add a suffix to it
                np.savez(file, **arrays)  # type: ignore[arg-type]
        else:
            _save_table(arrays, temporary)


def _save_table(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    columns: dict[str, np.ndarray] = {}
    for name, values in arrays.items():
        columns |= {name: values} if values.ndim == 1 else {f"{name}{i}": values[:, i] for i in range(values.shape[1])}
    if path.suffix.lower() == ".csv":
        # nine significant digits bring a float32 back exactly, seventeen a float64
        digits = {"i": "%d", "f": "%.9g"}
        form = ["%.17g" if column.dtype == np.float64 else digits[column.dtype.kind] for column in columns.values()]
        table = np.column_stack(list(columns.values()))
        np.savetxt(path, table, form, ",", header=",".join(columns), comments="")
    else:
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.table(columns), path)
