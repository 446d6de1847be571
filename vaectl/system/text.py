"""Texts that others wrote, made harmless for terminals, logs and files."""

from __future__ import annotations

import contextlib
import re
import unicodedata

# control codes, invisible formats (among them those that reverse the direction of reading), characters that are private
# or not assigned, halves of characters, and separators of lines and paragraphs
UNSHOWN = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
# formats that Persian words and emoji are written with
JOINERS = "\u200c\u200d"
# beginnings of cells that a spreadsheet computes or splits, also in their full width
FORMULA = re.compile("'*[=+@\t\r\n\uff1d\uff0b\uff0d\uff20-]")


def harmless(text: str) -> str:
    r"""The text in one line, with escapes such as ``\x1b``, ``\n`` and ``\u202e`` for what would not be seen."""
    if text.isprintable():
        return text
    return "".join(
        letter.encode("unicode_escape").decode()
        if unicodedata.category(letter) in UNSHOWN and letter not in JOINERS
        else letter
        for letter in text
    )


def as_cell(text: str) -> str:
    """The text as a cell of a .csv file that no spreadsheet takes for a formula: an apostrophe is put before it.

    Numbers stay as they are. ``from_cell`` gives the text back.

    References:
        CSV injection, OWASP, https://owasp.org/www-community/attacks/CSV_Injection
    """
    if not FORMULA.match(text):
        return text
    with contextlib.suppress(ValueError):
        float(text)
        return text
    return f"'{text}"


def from_cell(cell: str) -> str:
    """The text of a cell that ``as_cell`` wrote."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
