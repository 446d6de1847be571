"""The house: imports go one way, heavy packages stay where they belong, and the cheap commands stay cheap."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vaectl
from vaectl.commands.shared.deferred import COMMANDS, function_of

PACKAGE = Path(vaectl.__file__).parent

# from the ground up: a room imports only from rooms before it
ROOMS = ("synonyms", "errors", "stats", "system", "config", "parallel", "output", "data", "model", "evaluation",
         "training", "plugins", "runs", "commands", "cli", "__init__", "__main__")  # fmt: skip

# package -> the places that may import it
OWNERS = {
    "typer": ("cli", "commands"),
    "rich": ("cli", "commands"),
    "matplotlib": ("output.plots",),
    "tensorboard": ("training.tensorboard",),
    "safetensors": ("runs.weights", "data.own"),
    "sklearn": ("data.builtin", "evaluation"),
    "PIL": ("output", "data", "training.tensorboard"),
}

TORCH_FREE = (
    "synonyms",
    "errors",
    "stats",
    "system",
    "config",
    "plugins",
    "runs",
    "evaluation.doctor",
    "cli",
    "commands",
)
# files of those places that are imported where torch is there anyway
WITH_TORCH = ("runs.weights", "commands.train.screen")
HEAVY = ("torch", "torchvision", "numpy", "matplotlib", "sklearn", "scipy", "safetensors", "tensorboard")

FILES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted(Path(__file__).parent.rglob("*.py"))


def place(file: Path) -> str:
    """Where a file is: ``data.own.rows``, and of a folder's own file the folder."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def within(name: str, places: tuple[str, ...]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def imports(tree: ast.Module, *, top_level: bool) -> Iterator[str]:
    """Every imported module, with ``from a import b`` as both a and a.b; blocks for type checkers left out."""
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            skipped.update(child for statement in node.body for child in ast.walk(statement))
        if top_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            skipped.update(ast.walk(node))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, "imports are absolute"
            assert node.level == 0, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_tests_do_not_import_each_other(file: Path) -> None:
    """Shared things are in ``tests/support``; the code of another process may import the test that starts it."""
    for name in imports(ast.parse(file.read_text()), top_level=False):
        assert not (name.startswith("tests.") and ".test_" in name), name


@pytest.mark.parametrize("file", FILES, ids=place)
def test_imports_go_one_way(file: Path) -> None:
    """A room imports only rooms below it, also inside functions; families of parts do not import each other."""
    here = place(file)
    room, family = here.split(".")[0], here.split(".")[1:2]
    assert room in ROOMS, f"{room} has no place in the house yet"
    for name in imports(ast.parse(file.read_text()), top_level=False):
        there = name.split(".")[1:]
        if not name.startswith("vaectl.") or there[0] not in ROOMS:
            continue
        assert there[0] == room or ROOMS.index(there[0]) < ROOMS.index(room), f"{here} imports {name}"
        families = {"networks", "likelihoods", "posteriors", "priors", "objectives"}
        if room == "model" and {*family} <= families and there[:1] == ["model"] and there[1:2] != family:
            assert not {*there[1:2]} & families, f"{here} imports {name}"


@pytest.mark.parametrize("file", FILES, ids=place)
def test_packages_stay_in_their_rooms(file: Path) -> None:
    """Core never imports typer or rich; plots alone imports matplotlib; and so on."""
    for name in imports(ast.parse(file.read_text()), top_level=False):
        package = name.split(".")[0]
        assert package not in OWNERS or within(place(file), OWNERS[package]), f"{file} imports {name}"


def test_torch_free_files_import_nothing_heavy() -> None:
    """Of the places that are torch-free no file imports, at its top, a heavy package or a file that does."""
    files = {place(file): ast.parse(file.read_text()) for file in FILES}
    above = {name: {*imports(tree, top_level=True)} for name, tree in files.items()}
    heavy = {name for name, names in above.items() if any(n.split(".")[0] in HEAVY for n in names)}
    while more := {
        name for name in files.keys() - heavy if any(n.removeprefix("vaectl.") in heavy for n in above[name])
    }:
        heavy |= more
    assert [name for name in sorted(heavy) if within(name, TORCH_FREE) and not within(name, WITH_TORCH)] == []


def test_no_print_and_no_bare_except_in_the_package() -> None:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", file
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, file


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_their_help_says(name: str) -> None:
    """A command is listed without its file, by a line that must be the one of its function."""
    assert COMMANDS[name] == inspect.getdoc(function_of(name))


def test_every_command_is_listed() -> None:
    entries = {path.stem.replace("_", "-") for path in (PACKAGE / "commands").glob("[!_]*") if path.stem != "shared"}
    assert entries == set(COMMANDS)


def test_importing_vaectl_imports_no_torch() -> None:
    """``import vaectl`` is cheap, and its public names are there when asked for."""
    code = "import sys, vaectl; assert 'torch' not in sys.modules; vaectl.Spec; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_are_what_they_say() -> None:
    from vaectl.config import spec
    from vaectl.evaluation import metrics
    from vaectl.model import builder
    from vaectl.runs import run as runs
    from vaectl.training import trainer

    assert vaectl.build is builder.build
    assert vaectl.evaluate is metrics.evaluate
    assert vaectl.fit is trainer.fit
    assert vaectl.Run is runs.Run
    assert vaectl.Spec is spec.Spec
    with pytest.raises(AttributeError):
        _ = vaectl.nothing
