"""Draws the package into docs/architecture.md: every folder and file with the first sentence of its docstring."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "architecture.md"
PACKAGE = REPOSITORY / "vaectl"
BEGIN, END = "<!-- tree: written by `just docs` -->\n", "<!-- end of tree -->\n"
COLUMNS = 120


def sentence(file: Path, columns: int) -> str:
    """The first sentence of a file's docstring.

    Raises:
        ValueError: It is missing, or longer than ``columns``.
    """
    paragraph = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
    first = re.split(r"\.(?=\s+[A-Z]|$)", " ".join(paragraph.split()), maxsplit=1)[0].replace("``", "")
    if not 0 < len(first) <= columns:
        raise ValueError(f"{file}: a docstring begins with a sentence of 1 to {columns} columns; got {first!r}")
    return first


def entries(folder: Path, depth: int = 0) -> Iterator[tuple[str, Path]]:
    """What stands in the margin, and the file whose docstring is told, for a folder and all in it."""
    yield f"{'  ' * depth}{folder.name}/", folder / "__init__.py"
    for file in sorted(folder.glob("*.py")):
        if file.name != "__init__.py":
            yield f"{'  ' * (depth + 1)}{file.name}", file
    for inner in sorted(path.parent for path in folder.glob("*/__init__.py")):
        yield from entries(inner, depth + 1)


def tree(package: Path = PACKAGE) -> str:
    """The package as lines of at most 120 columns."""
    rows = list(entries(package))
    margin = max(len(name) for name, _ in rows) + 2
    return "".join(f"{name:<{margin}}{sentence(file, COLUMNS - margin)}\n" for name, file in rows)


def drawn(page: str) -> str:
    """A page with the tree between its markers.

    Raises:
        ValueError: The page lacks the markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE}: must have the lines {BEGIN.strip()} and {END.strip()}")
    return f"{before}{BEGIN}```\n{tree()}```\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
