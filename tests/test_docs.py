"""The documentation says what is there: the tree of the package is that of its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs import tree


def test_the_tree_is_that_of_the_files() -> None:
    """Where this fails, ``just docs`` draws it anew."""
    page = tree.PAGE.read_text(encoding="utf-8")
    assert tree.drawn(page) == page
    lines = tree.tree().splitlines()
    assert max(map(len, lines)) <= tree.COLUMNS
    folders = {path.parent for path in tree.PACKAGE.rglob("*.py")}
    assert sum(line.split()[0].endswith("/") for line in lines) == len(folders)
    assert sum(line.split()[0].endswith(".py") for line in lines) == len([*tree.PACKAGE.rglob("*.py")]) - len(folders)


def test_a_tree_shows_folders_after_files_and_first_sentences(tmp_path: Path) -> None:
    package = tmp_path / "house"
    for name, docstring in (
        ("__init__", "The house. It has rooms."),
        ("z", "A file of ``code``, v1.2\nand more.\n\nIts details."),
        ("attic/__init__", "The attic"),
        ("attic/roof", "The roof: flat."),
    ):
        file = package / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'"""{docstring}"""\n')
    assert tree.tree(package).splitlines() == [
        "house/       The house",
        "  z.py       A file of code, v1.2 and more",
        "  attic/     The attic",
        "    roof.py  The roof: flat",
    ]


@pytest.mark.parametrize("text", ["x = 1\n", f'"""{"long " * 30}"""\n'])
def test_a_file_without_a_short_first_sentence_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "__init__.py").write_text('"""The house."""\n')
    (tmp_path / "room.py").write_text(text)
    with pytest.raises(ValueError, match=r"room\.py: a docstring begins with a sentence of 1 to 86 columns"):
        tree.tree(tmp_path)


def test_a_page_without_the_markers_is_an_error() -> None:
    with pytest.raises(ValueError, match="must have the lines"):
        tree.drawn("# Architecture\n")
