"""Archives of which no more than a bounded list of members is read."""

from __future__ import annotations

from typing import Any, BinaryIO

from vaectl.system.reading import HEADER_BYTES, size_text


class Bounded:
    """A file of which no more than a header is read at once: zipfile reads the whole list of an archive's members."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        """Read as a file does.

        Raises:
            ValueError: It would be more than a header.
        """
        content = self._file.read(min(size, HEADER_BYTES + 1) if size >= 0 else HEADER_BYTES + 1)
        if len(content) > HEADER_BYTES:
            raise ValueError(f"the list of its arrays is longer than {size_text(HEADER_BYTES)}")
        return content
