"""Texts that others wrote, made harmless for terminals, logs and files."""

from __future__ import annotations

import unicodedata

# control codes, invisible formats (among them those that reverse the direction of reading), halves of characters, and
# separators of lines and paragraphs
UNSHOWN = ("Cc", "Cf", "Cs", "Zl", "Zp")
# formats that Persian words and emoji are written with
JOINERS = "\u200c\u200d"


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
