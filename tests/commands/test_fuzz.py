"""Fuzz: files of a run, configs and data sets, broken in every way that hypothesis thinks of, in every command.

Whatever they hold, a command ends with exit code 0, 1 or 2 and a sentence, and changes nothing but the run's folder.
"""

from __future__ import annotations

import contextlib
import copy
import gzip
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from tests.support.idx import write_mnist
from tests.support.refusals import snapshot
from vaectl.cli import app
from vaectl.runs import weights
from vaectl.system.text import harmless

pytestmark = pytest.mark.usefixtures("offline")

# examples of each test in the usual suite; `just slow` draws many more, and anew at each call
FEW, MANY = 40, 3000

LOOKS = (
    "runs", "runs run1", "runs run1 --json", "runs -q --sort elbo", "compare run1 run2", "compare run1 run2 --json",
    "compare run2 run1 --group", "train --from run1 --dry-run", "eval run1", "eval run1 --split validation --json",
    "sample run1 -n 4 -q", "sample run1 --reconstruct -n 4", "embed run1", "eval run1 --checkpoint last",
    "train --resume run1", "train --resume run1 --epochs 4", "train --resume run1 --epochs 5 -q",
)  # fmt: skip
DRAWS = ("plot-latent run1", "plot-latent run1 --kind traversal", "compare run1 run2 -o report.html",
         "compare run1 run2 -o report.md")  # fmt: skip
FILES = ("run.json", "config.json", "metrics.jsonl", "evaluations/test-best.json", "model.safetensors",
         "last.safetensors", "train.log", "state.json", "optimizer.safetensors")  # fmt: skip

NASTY: list[Any] = [
    None, True, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e-320, 1e30, 1e308, float("nan"), float("inf"),
    "", "x", "1", "9" * 5000, "../../outside", "/dev/zero", "a\nb\tc", "\x1b[2J\x1b]0;x\x07", "\ud800", "$x^{$", "\x00",
    "ε" * 300, [], {}, [[]], [None], [1e999], {"": {}}, "digits", "mnist", "latest",
]  # fmt: skip


def nested(levels: int) -> Any:
    """Lists within each other."""
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


NASTY += [nested(12), nested(40), nested(200), list(range(300)), {str(i): i for i in range(300)}]
ANYTHING = st.one_of(
    st.sampled_from(NASTY),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.recursive(st.none() | st.floats() | st.integers(), lambda inner: st.lists(inner, max_size=4), max_leaves=8),
)


def fuzz(examples: int, *, anew: bool = False) -> Callable[[Any], Any]:
    """Hypothesis as these tests use it: the same examples at every call, unless ``anew``."""
    # what fails is printed as drawn: to shrink it takes minutes, and the draws are few
    return settings(
        max_examples=examples, derandomize=not anew, deadline=None, print_blob=True, database=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate],
    )  # fmt: skip


@contextlib.contextmanager
def place(trained: Path) -> Iterator[Path]:
    """A working folder with a copy of the trained runs, a data set, and files that are no one's business."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        shutil.copytree(trained, folder / "runs")
        (folder / "outside").mkdir()
        (folder / "outside" / "precious").write_text("untouched")
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(before)


def check(line: str, folder: Path, *, changes: str = "runs/run1") -> Result:
    """Run a command line and assert what holds whatever the files are.

    Args:
        line: The command line.
        folder: What it may not change.
        changes: What in there it may.
    """

    def kept() -> dict[str, str]:
        allowed = (changes, "report.")
        return {name: digest for name, digest in snapshot(folder).items() if not name.startswith(allowed)}

    before = kept()
    result = CliRunner().invoke(app, line.split())
    shown = f"{line}: {result.output[-2000:]}"
    assert result.exception is None or isinstance(result.exception, SystemExit), shown
    assert result.exit_code in (0, 1, 2), shown
    assert "Traceback" not in result.output, shown
    assert "internal error" not in result.output, shown
    assert len(result.stderr) < 10_000, shown
    assert all(harmless(text) == text for text in re.split(r"[\n\t]", result.output)), shown
    if "--json" in line and result.stdout:
        json.loads(result.stdout, parse_constant=pytest.fail)
    assert kept() == before, shown
    return result


# --- ways to break a file ---------------------------------------------------------------------------------------------


def places(document: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON document."""
    found: list[tuple[Any, Any]] = []
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        found.append((document, key))
        if isinstance(value, dict | list):
            found += places(value)
    return found


def spliced(draw: st.DrawFn, text: str) -> str:
    """JSON with one to three of its values replaced by anything, left out, or under another name."""
    document = json.loads(text)
    for _ in range(draw(st.integers(1, 3))):
        known = places(document)
        if not known:
            break
        container, key = known[draw(st.integers(0, len(known) - 1))]
        action = draw(st.sampled_from(["replace", "replace", "replace", "drop", "rename"]))
        if action == "replace":
            container[key] = copy.deepcopy(draw(ANYTHING))  # which the next splice may change
        elif action == "drop" or isinstance(container, list):
            del container[key]
        else:
            container[draw(st.text(max_size=10))] = container.pop(key)
    return json.dumps(document)


def mangled(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes that are cut short, flipped, put in, or others altogether."""
    where = draw(st.integers(0, max(0, len(content) - 1)))
    action = draw(st.sampled_from(["cut", "flip", "insert", "random", "repeat"]))
    if action == "cut":
        return content[:where]
    if action == "flip":
        changed = bytearray(content or b"\0")
        changed[where] ^= 1 << draw(st.integers(0, 7))
        return bytes(changed)
    if action == "insert":
        return content[:where] + draw(st.binary(max_size=30)) + content[where:]
    return draw(st.binary(max_size=200)) if action == "random" else content + content[:where]


def reweighed(draw: st.DrawFn, file: Path) -> None:
    """Weights that are well signed, but of other numbers, shapes, types or names; or someone else's."""
    config = json.loads((file.parent / "run.json").read_text())["config"]
    state = load_file(file)
    name = draw(st.sampled_from(sorted(state)))
    tensor = state[name]
    action = draw(st.sampled_from(["nan", "huge", "shape", "type", "rename", "drop", "swap", "foreign", "empty"]))
    if action in ("nan", "huge"):
        state[name] = torch.full_like(tensor, float("nan") if action == "nan" else draw(st.floats(width=32)))
    elif action == "shape":
        state[name] = torch.zeros(draw(st.lists(st.integers(0, 5), max_size=4)))
    elif action == "type":
        kinds = [torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.bool, torch.float8_e4m3fn]
        state[name] = tensor.to(draw(st.sampled_from(kinds)))
    elif action == "rename":
        state[draw(st.text(max_size=10))] = state.pop(name)
    elif action == "drop":
        del state[name]
    elif action == "swap":
        other = draw(st.sampled_from(sorted(state)))
        state[name], state[other] = state[other], state[name].clone()
    if action == "foreign":
        save_file({"x": torch.zeros(3)}, file, metadata=draw(st.dictionaries(st.text(max_size=5), st.text(max_size=5))))
    else:
        with contextlib.suppress(ValueError):  # a config of no JSON, of a run.json that was broken before
            weights.save(file, {} if action == "empty" else state, config)


def break_run(draw: st.DrawFn, run: Path) -> None:
    """Break one file of a run."""
    file = run / draw(st.sampled_from([*FILES, "run.json", "run.json", "run.json"]))
    # a file that was mangled before parses no more
    try:
        json.loads((run / "run.json").read_text())["config"]
        if file.suffix == ".safetensors":
            sound = bool(load_file(file))
        else:
            text = file.read_text()
            rows = text.splitlines() if file.suffix == ".jsonl" else [text] if file.suffix == ".json" else []
            sound = (bool(rows) or file.suffix != ".jsonl") and all(isinstance(json.loads(row), dict) for row in rows)
    except Exception:
        sound = False
    if not sound or draw(st.sampled_from(["splice", "splice", "splice", "mangle"])) == "mangle":
        file.write_bytes(mangled(draw, file.read_bytes()))
    elif file.suffix == ".safetensors":
        reweighed(draw, file)
    elif file.suffix == ".jsonl":
        lines = file.read_text().splitlines()
        row = draw(st.integers(0, len(lines) - 1))
        lines[row] = spliced(draw, lines[row])
        file.write_text("\n".join(lines) + "\n")
    elif file.suffix == ".json":
        file.write_text(spliced(draw, file.read_text()))
        # weights that go with an altered config are what someone would send who means harm
        if file.name == "run.json" and draw(st.booleans()):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                config = json.loads(file.read_text())["config"]
                weights.save(run / "model.safetensors", load_file(run / "model.safetensors"), config)


# --- the tests --------------------------------------------------------------------------------------------------------


def broken_run(trained: Path, data: st.DataObject, lines: tuple[str, ...]) -> None:
    with place(trained) as folder:
        for _ in range(data.draw(st.integers(1, 2))):
            break_run(lambda strategy: data.draw(strategy), folder / "runs" / "run1")  # type: ignore[arg-type]
        check(data.draw(st.sampled_from(lines)), folder)


@fuzz(3 * FEW)
@given(data=st.data())
def test_broken_runs(trained: Path, data: st.DataObject) -> None:
    """A run with any of its files broken: the commands that print."""
    broken_run(trained, data, LOOKS)


@fuzz(FEW // 4)
@given(data=st.data())
def test_broken_runs_in_pictures(trained: Path, data: st.DataObject) -> None:
    """A run with any of its files broken: the commands that draw."""
    broken_run(trained, data, DRAWS)


TOML = """model = "beta-vae"
beta = 4
hidden_dims = [32, 16]
[training]
epochs = 1
lr = 1e-3
[encoder]
activation = "relu"
[data]
name = "digits"
"""


def broken_config(trained: Path, data: st.DataObject) -> None:
    with place(trained) as folder:
        text = (folder / "runs" / "run1" / "config.json").read_text()
        file = folder / data.draw(st.sampled_from(["a.toml", "a.json"]))
        if file.suffix == ".json" and data.draw(st.booleans()):
            file.write_text(spliced(lambda strategy: data.draw(strategy), text))  # type: ignore[arg-type]
        else:
            content = (TOML if file.suffix == ".toml" else text).encode()
            file.write_bytes(mangled(lambda strategy: data.draw(strategy), content))  # type: ignore[arg-type]
        check(f"train -c {file.name} --dataset digits --dry-run", folder)


@fuzz(FEW)
@given(data=st.data())
def test_broken_configs(trained: Path, data: st.DataObject) -> None:
    """A config file that is broken, or whose values are anything."""
    broken_config(trained, data)


def broken_data(trained: Path, data: st.DataObject) -> None:
    with place(trained) as folder:
        raw = write_mnist(folder / "data")
        for _ in range(data.draw(st.integers(1, 2))):
            file = data.draw(st.sampled_from(sorted(raw.iterdir())))
            # most of what can be wrong is in the sixteen bytes at the front
            content = file.read_bytes()
            front = data.draw(st.booleans())
            changed = mangled(lambda strategy: data.draw(strategy), content[:16] if front else content)  # type: ignore[arg-type]
            content = changed + content[16:] if front else changed
            if file.suffix != ".gz" and data.draw(st.booleans()):
                file.unlink()
                file = file.with_name(file.name + ".gz")
                content = gzip.compress(content, 1)
                if data.draw(st.booleans()):
                    content = mangled(lambda strategy: data.draw(strategy), content)  # type: ignore[arg-type]
            file.write_bytes(content)
        check("train --dataset mnist --hidden-dims 4 --dry-run", folder)


@fuzz(FEW)
@given(data=st.data())
def test_broken_data(trained: Path, data: st.DataObject) -> None:
    """IDX files that are broken, gzipped or not."""
    broken_data(trained, data)


@pytest.mark.slow
@pytest.mark.parametrize("seek", [lambda t, d: broken_run(t, d, LOOKS), lambda t, d: broken_run(t, d, DRAWS),
                                  broken_config, broken_data],
                         ids=["runs", "pictures", "configs", "data"])  # fmt: skip
def test_thousands_more(trained: Path, seek: Callable[[Path, st.DataObject], None]) -> None:
    """Many examples, other ones at every call."""

    @fuzz(MANY, anew=True)
    @given(data=st.data())
    def search(data: st.DataObject) -> None:
        seek(trained, data)

    search()
