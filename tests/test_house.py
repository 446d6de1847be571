"""The house: imports go one way, heavy packages stay where they belong, and the cheap commands stay cheap."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vaectl
from vaectl.commands._deferred import COMMANDS

PACKAGE = Path(vaectl.__file__).parent

# an import must go to a lower number; folders may import within themselves
LEVELS = {
    "errors": 0,
    "launcher": 0,
    "signals": 0,
    "schedules": 0,
    "stats": 0,
    "spec": 1,
    "board": 1,
    "shares": 1,
    "distributions": 1,
    "bernoulli": 1,
    "linear": 0,
    "codes": 1,
    "readout": 1,
    "optimizer": 1,
    "replay": 1,
    "files": 1,
    "reading": 1,
    "runtime": 1,
    "distributed": 2,
    "records": 2,
    "doctor": 3,
    "recipes": 2,
    "catalog": 3,
    "history": 2,
    "train_log": 2,
    "weights": 2,
    "checkpoints": 3,
    "grids": 2,
    "plots": 2,
    "networks": 2,
    "posteriors": 2,
    "priors": 2,
    "likelihoods": 2,
    "vae": 2,
    "settings": 3,
    "objectives": 3,
    "oracles": 3,
    "data": 3,
    "builder": 4,
    "metrics": 4,
    "importance": 4,
    "information": 4,
    "disentanglement": 4,
    "arrays": 2,
    "train_state": 4,
    "train_step": 5,
    "trainer": 6,
    "latents": 5,
    "selftest": 5,
    "runs": 5,
    "comparison": 6,
    "grouping": 7,
    "tracking": 7,
    "commands": 8,
    "cli": 9,
    "__init__": 10,
    "__main__": 10,
}

# package -> the rooms that may import it
OWNERS = {
    "typer": {"cli", "commands"},
    "rich": {"cli", "commands"},
    "matplotlib": {"plots"},
    "tensorboard": {"tracking"},
    "safetensors": {"weights", "data"},
    "sklearn": {"latents", "data", "disentanglement"},
    "PIL": {"grids", "data", "tracking"},
}

TORCH_FREE = ("errors", "launcher", "doctor", "schedules", "stats", "spec", "files", "reading", "records", "history",
              "train_log", "checkpoints", "recipes", "catalog", "settings", "runs", "comparison", "grouping",
              "runtime")  # fmt: skip

FILES = sorted(PACKAGE.rglob("*.py"))


def room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


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


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_one_way(file: Path) -> None:
    """A room imports only rooms below it, also inside functions."""
    here = room(file)
    assert here in LEVELS, f"{here} has no level yet"
    for name in imports(ast.parse(file.read_text()), top_level=False):
        parts = name.split(".")
        if parts[0] != "vaectl" or len(parts) < 2 or parts[1] not in LEVELS:
            continue
        if parts[1] == here and here in ("commands", "data", "objectives", "posteriors", "priors"):
            continue
        assert LEVELS[parts[1]] < LEVELS[here], f"{here} imports {name}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_packages_stay_in_their_rooms(file: Path) -> None:
    """Core never imports typer or rich; plots alone imports matplotlib; and so on."""
    for name in imports(ast.parse(file.read_text()), top_level=False):
        for package, owners in OWNERS.items():
            if name == package or name.startswith(package + "."):
                assert room(file) in owners, f"{file} imports {name}"


@pytest.mark.parametrize("name", TORCH_FREE)
def test_torch_free_files_import_no_torch_at_the_top(name: str) -> None:
    heavy = ("torch", "torchvision", "numpy", "matplotlib", "sklearn", "scipy", "vaectl.data", "vaectl.builder")
    for imported in imports(ast.parse((PACKAGE / f"{name}.py").read_text()), top_level=True):
        assert not imported.startswith(heavy), f"{name} imports {imported}"


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
    stem = name.replace("-", "_")
    function = getattr(importlib.import_module(f"vaectl.commands.{stem}"), f"{stem}_cli")
    assert COMMANDS[name] == inspect.getdoc(function)


def test_every_command_is_listed() -> None:
    files = {path.stem.replace("_", "-") for path in (PACKAGE / "commands").glob("[!_]*.py")}
    assert files == set(COMMANDS)


def test_importing_vaectl_imports_no_torch() -> None:
    """``import vaectl`` is cheap, and its public names are there when asked for."""
    code = "import sys, vaectl; assert 'torch' not in sys.modules; vaectl.Spec; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_are_what_they_say() -> None:
    from vaectl import builder, metrics, runs, spec, trainer

    assert vaectl.build is builder.build
    assert vaectl.evaluate is metrics.evaluate
    assert vaectl.fit is trainer.fit
    assert vaectl.Run is runs.Run
    assert vaectl.Spec is spec.Spec
    with pytest.raises(AttributeError):
        _ = vaectl.nothing
