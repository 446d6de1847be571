"""Tables of text as people write them: delimiters, comments, other forms of numbers, packed files."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.tables import everything, load
from vaectl.errors import DataError, SettingError

NUMBERS = [[1.5 + i / 8, float(i % 7)] for i in range(40)]
PLAIN = "a,b\n" + "".join(f"{a},{b}\n" for a, b in NUMBERS)


def text(form: str, *, head: str = "a,b", delimiter: str = ",", rows: list[list[float]] = NUMBERS) -> str:
    """A table whose numbers are written by a format, with ``@`` for the decimal sign."""
    lines = [delimiter.join(form.format(x).replace(".", "@") for x in row) for row in rows]
    return "\n".join([head.replace(",", delimiter), *lines]) + "\n"


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (text("{:.3f}", delimiter="|").replace("@", "."), ""),
        (text("{:.3f}", delimiter="\t").replace("@", "."), ""),
        (text("{:.3f}", delimiter=" ").replace("@", "."), "parted by blanks"),
        (text("{:12.3f}", delimiter=" ").replace("@", "."), "parted by blanks"),
        (text("{:.3f}", delimiter=";").replace("@", ","), "a comma is read as the decimal sign: 1,500 is 1.5"),
        (text("{:.3f}", delimiter=";").replace("@", ",").split("\n", 1)[1], "a comma is read as the decimal sign"),
        (text("{:.4f}", delimiter="\t").replace("@", ","), "a comma is read as the decimal sign: 1,5000 is 1.5"),
        (text('"{:.4f}"').replace("@", ","), "a comma is read as the decimal sign"),
        (text("{:.3f} %").replace("@", "."), "column 'a' is in percent: 1.500 % is read as 1.5"),
        (text("{:.3f}%").replace("@", "."), "in percent"),
        ("# made by a program\n# in metres\n" + PLAIN, "2 lines before the table that begin with # are left out"),
        ("# a,b\n" + PLAIN.split("\n", 1)[1], ""),
        ("# by a program\n#a,b\n" + PLAIN.split("\n", 1)[1], "1 line before the table"),
        ("sep=;\n" + PLAIN.replace(",", ";"), ""),
        ("\n\n" + PLAIN, ""),
        ("a b\n" + "".join(f'"{i}" {a} {b}\n' for i, (a, b) in enumerate(NUMBERS)), "'Unnamed: 0' only counts"),
        ("\ufeff" + PLAIN.replace("\n", "\r\n"), ""),
    ],
    ids=["bars", "tabs", "blanks", "aligned", "comma", "comma and no header", "comma and tabs", "comma in quotes",
         "percent", "percent sign", "comments", "names in a comment", "both", "sep", "empty lines", "R", "mark"],
)  # fmt: skip
def test_a_table_in_any_form_is_the_same_numbers(tmp_path: Path, content: str, note: str) -> None:
    (tmp_path / "x.csv").write_text(content, encoding="utf-8")
    notes: list[str] = []
    data = load(tmp_path / "x.csv", notes)
    assert torch.equal(everything(data)[:, 0, 0], torch.tensor(NUMBERS))
    if "no header" not in (note or "no header") and data.info.columns:
        assert [column.name for column in data.info.columns] == ["a", "b"]
    assert note in "\n".join(notes)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a;b\n" + "1.234.567,5;0,12\n2;3,5\n" * 20, [1234567.5, 0.12]),
        ("a,b\n" + '"1,234,567.5",0.12\n"2",3.5\n' * 20, [1234567.5, 0.12]),
        ("a,b\n" + '"1,234",5\n999,3.5\n' * 20, [1234, 5]),
        ("a;b\n" + "1,234;5\n9,5;3\n" * 20, [1.234, 5]),
        ("a;b\n" + "1,5E-3;5\n9,5;3\n" * 20, [0.0015, 5]),
        ("a|b\n" + "1,234|5\n999|3\n" * 20, [1234, 5]),
    ],
)
def test_signs_of_thousands_are_told_from_decimal_ones(tmp_path: Path, content: str, expected: list[float]) -> None:
    (tmp_path / "x.csv").write_text(content)
    assert everything(load(tmp_path / "x.csv"))[0, 0, 0].tolist() == pytest.approx(expected)


def test_a_number_of_the_other_form_is_a_bad_row(tmp_path: Path) -> None:
    """In a table of decimal commas 0.5 has no meaning, and 1.234 is a thousand and more."""
    (tmp_path / "x.csv").write_text("a;b\n" + "1,5;2,25\n" * 30 + "0.5;1,5\n1.234;1,5\n")
    with pytest.raises(DataError, match=r"1 of 32 rows cannot be used: row 32: column 'a' holds '0.5'"):
        load(tmp_path / "x.csv")
    data = load(tmp_path / "x.csv", skip_bad=True)
    assert everything(data)[-1, 0, 0].tolist() == [1234, 1.5]


@pytest.mark.parametrize(
    ("cell", "what", "advice"),
    [("2020-01-31", "dates", "--drop-column b"), ("31.12.2020", "dates", "--drop-column b"),
     ("1 2 3 4", "lists of numbers", "a column of its own"), ("[0.1, 0.2]", "lists of numbers", "a column of its own"),
     ("12 kg", "numbers with a unit", "remove the unit"), ("$5.20", "numbers with a unit", "remove the unit"),
     ("red", "text", "--label-column b")],
)  # fmt: skip
def test_a_column_of_text_is_called_what_it_is(tmp_path: Path, cell: str, what: str, advice: str) -> None:
    (tmp_path / "x.csv").write_text("a\tb\n" + f"1.5\t{cell}\n" * 30)
    with pytest.raises(DataError, match=f"column 'b' holds {what}, such as") as caught:
        load(tmp_path / "x.csv")
    assert advice in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("content", "text", "hint"),
    [
        ("A report\n\n" + PLAIN, "41 of 41 rows have another number of cells than the first line", "begin with #"),
        ("a,b,\n" + "1.5,2,\n" * 30, "30 of 30 rows have an empty cell, most often in column '3'", "--drop-column 3"),
        ("a,b,c\n" + "1.5,,2\n" * 20 + "1,2,3\n" * 9, "20 of 29 rows have an empty cell, most often in column 'b'",
         "--drop-column b"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_most_rows_is_named_and_not_to_be_skipped(
    tmp_path: Path, content: str, text: str, hint: str
) -> None:
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(DataError, match=text) as caught:
        load(tmp_path / "x.csv")
    assert hint in (caught.value.hint or "")
    assert "--skip-bad" not in (caught.value.hint or "")


def test_most_rows_can_be_skipped_on_request(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b,c\n" + "1.5,,2\n" * 20 + "1,2,3\n" * 9)
    assert sum(load(tmp_path / "x.csv", skip_bad=True).info.sizes.values()) == 9


def pack(path: Path, content: str) -> Path:
    if path.suffix.lower() == ".gz":
        path.write_bytes(gzip.compress(content.encode()))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("deep/table.csv", content)
            archive.writestr("__MACOSX/._table.csv", "x")
    else:
        path.write_text(content)
    return path


@pytest.mark.parametrize("name", ["x.csv.gz", "x.tsv.gz", "x.csv.zip", "x.zip", "x.tsv", "X.CSV.GZ"])
def test_packed_tables_are_the_same_data(tmp_path: Path, name: str) -> None:
    content = PLAIN.replace(",", "\t") if ".tsv" in name else PLAIN
    data = load(pack(tmp_path / name, content))
    assert data.info.fingerprint == load(pack(tmp_path / "plain.csv", PLAIN)).info.fingerprint
    assert data.info.name == name


def test_an_archive_of_several_tables_names_them(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.csv", PLAIN)
        archive.writestr("b.csv", PLAIN)
    with pytest.raises(DataError, match=r"exactly one table, .* it holds 2: a.csv, b.csv") as caught:
        load(tmp_path / "x.zip")
    assert "unpack" in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["x.csv.gz", "x.csv.zip"])
def test_a_packed_table_that_goes_on_for_ever_is_refused_at_the_limit(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is kept of what is unpacked until its size is known."""
    monkeypatch.setenv("VAECTL_MAX_BYTES", "4MiB")
    path = pack(tmp_path / name, "a,b\n" + "1,2\n" * (1 << 21))
    assert path.stat().st_size < 1 << 16
    with pytest.raises(DataError, match=r"the table .* would take .* of memory; the limit is 4 MiB"):
        load(path)


@pytest.mark.parametrize("name", ["x.csv.gz", "x.csv.zip"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "other"])
def test_a_damaged_packed_table_is_named(tmp_path: Path, name: str, damage: str) -> None:
    content = "a,b\n" + "".join(f"{a},{b}\n" for a, b in np.random.RandomState(0).random_sample((400, 2)))
    whole = pack(tmp_path / name, content).read_bytes()
    broken = whole[: len(whole) // 2] if damage == "cut" else b"not packed at all" * 20
    if damage == "flipped":
        broken = whole[:200] + bytes(byte ^ 255 for byte in whole[200:260]) + whole[260:]
    (tmp_path / name).write_bytes(broken)
    with pytest.raises(DataError, match=rf"{name}"):
        load(tmp_path / name)


def test_a_comment_s_mark_may_be_the_name_of_a_column(tmp_path: Path) -> None:
    """``#,Name,HP`` is a header."""
    rows = "".join(f"{i + 1},monster {i},{i * i}\n" for i in range(30))
    (tmp_path / "x.csv").write_text("#,Name,HP\n" + rows)
    data = load(tmp_path / "x.csv", drop_column=("Name",))
    assert [column.name for column in data.info.columns] == ["#", "HP"]
    with pytest.raises(SettingError, match="Nme"):
        load(tmp_path / "x.csv", drop_column=("Nme",))


def test_a_label_among_decimal_commas_stays_a_text(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a;label\n" + "0,5;x,y\n1,5;z\n" * 20)
    data = load(tmp_path / "x.csv")
    assert data.info.classes == ("x,y", "z")
    assert everything(data)[:2, 0, 0, 0].tolist() == [0.5, 1.5]
