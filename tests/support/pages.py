"""The pages of the documentation as programs: their blocks, and a place in which their commands run at a small size."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import REPOSITORY, Cli
from tests.support.idx import mnist_files, write_mnist

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(vaectl [^`]+)`")
# a page's numbers of epochs, of which a tenth is trained
LENGTHS = ("--epochs", "--warmup-epochs", "--prior-epochs")
# what a shell does and the command line alone does not
SHELL = re.compile(r"\$\(|\| ")


def pages() -> list[Path]:
    """Every page that people read: README, CONTRIBUTING and docs."""
    return [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def blocks(page: Path) -> list[tuple[str, str]]:
    """The blocks of a page as (language, text)."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def lines(language: str, text: str) -> list[str]:
    """The commands of a block: the lines after ``$`` of a console, every line of a shell."""
    if language == "console":
        return [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    return text.splitlines() if language == "sh" else []


def commands() -> Iterator[tuple[Path, str]]:
    """Every command line of every page, in its order."""
    for page in pages():
        for language, text in blocks(page):
            yield from ((page, line) for line in lines(language, text) if line.strip())


def inline() -> Iterator[tuple[Path, str]]:
    """Every ``vaectl ...`` in the text of a page."""
    for page in pages():
        text = BLOCK.sub("", page.read_text(encoding="utf-8"))
        yield from ((page, match) for match in INLINE.findall(text))


def words(line: str) -> list[str]:
    """The words of a command line without its comment."""
    return shlex.split(line, comments=True)


def shrunk(arguments: list[str]) -> list[str]:
    """The arguments of a command with a tenth of the epochs; a training without a number of them gets three."""
    out = list(arguments)
    for index, text in enumerate(out[:-1]):
        if text in LENGTHS and out[index + 1].isdecimal():
            out[index + 1] = str(-(-int(out[index + 1]) // 10))
    if out[0] == "train" and not {"--epochs", "--resume", "--dry-run"} & {*out}:
        out += ["--epochs", "3"]
    return out


def furnish(folder: Path) -> None:
    """Put into a folder what the pages speak of: a small MNIST in ./data, and data of a person's own."""
    write_mnist(folder / "data", mnist_files(240, 80, 28))
    random = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for index, pixels in enumerate(random.integers(256, size=(40, 32, 32, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / "photos" / f"{index}.png")
    np.save(folder / "scans.npy", random.random((60, 1, 8, 8), dtype=np.float32))
    rows = ["width,height,weight,species"]
    rows += [f"{a:.3f},{b:.3f},{c:.3f},{index % 3}" for index, (a, b, c) in enumerate(random.random((60, 3)))]
    (folder / "cells.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


@dataclass
class Reader:
    """A person who reads a page and types every command; all but new trainings twice.

    Attributes:
        cli: The command line.
        codes: Command line -> the exit code that the page says, if it is not 0.
        typed: The commands that were run.
        names: The names that the Python of the page has made.
    """

    cli: Cli
    codes: Mapping[str, int] = field(default_factory=dict)
    typed: list[str] = field(default_factory=list)
    names: dict[str, object] = field(default_factory=dict)

    def read(self, page: Path, *, runs_code: bool = False, keep_code: str = "") -> None:
        """Run a page from top to bottom.

        Args:
            page: The page.
            runs_code: Whether its Python is run, too.
            keep_code: The file into which its Python is written.
        """
        for language, text in blocks(page):
            if language == "python" and keep_code:
                Path(keep_code).write_text(text, encoding="utf-8")
            elif language == "python" and runs_code:
                exec(compile(text, str(page), "exec"), self.names)
            elif language == "sh" and SHELL.search(text) and "vaectl" in text and "pip install" not in text:
                self._shell(text)
            else:
                for line in lines(language, text):
                    if line.startswith("vaectl "):
                        self.type(line)

    def type(self, line: str) -> None:
        """Run a command, and again unless it begins a training, which is another run each time."""
        arguments = shrunk(words(line)[1:])
        begins = arguments[0] == "train" and not {"--resume", "--dry-run"} & {*arguments}
        for _ in range(1 if begins else 2):
            result = self.cli(*arguments)
            assert result.exit_code == self.codes.get(line, 0), f"{line}\n{result.output}"
        self.typed.append(line)

    def _shell(self, text: str) -> None:
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY),
        }  # fmt: skip
        script = f"set -euo pipefail\n{text}"
        done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{text}\n{done.stderr}"
        self.typed.append(text)
