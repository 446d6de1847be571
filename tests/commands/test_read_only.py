"""Runs in a folder that cannot be written: they are used all the same, and what cannot be kept there is said."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli
from tests.support.refusals import snapshot
from vaectl import Run, evaluate_run
from vaectl.model import vae
from vaectl.training.events import Said


def forbid(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder read-only, also for root, who may write to one whose mode forbids it."""

    def guarded(real: Callable[..., Any], writes: Callable[..., bool]) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            inside = isinstance(path, str | Path) and Path(path).resolve().is_relative_to(folder.resolve())
            if inside and writes(*arguments) and not Path(path).is_dir():
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return real(path, *arguments, **options)

        return call

    monkeypatch.setattr(os, "open", guarded(os.open, lambda flags, *rest: bool(flags & (os.O_CREAT | os.O_WRONLY))))
    monkeypatch.setattr(os, "mkdir", guarded(os.mkdir, lambda *rest: True))


@pytest.mark.parametrize("flags", [(), ("-q",), ("--json",)], ids=["text", "quiet", "json"])
@pytest.mark.parametrize("folder", [True, False], ids=["with evaluations", "without"])
def test_eval_prints_what_it_cannot_keep(
    cli: Cli, runs: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], folder: bool
) -> None:
    if not folder:
        (runs / "run1" / "evaluations" / "test-best.json").unlink()
        (runs / "run1" / "evaluations").rmdir()
    expected = json.loads(cli("eval", "run2", "--seed", 3, "--json").stdout)["metrics"].keys()
    before = snapshot(isolated)
    forbid(runs, monkeypatch)
    result = cli("eval", "run1", "--seed", 3, "--per-example", "values.csv", *flags)
    assert result.exit_code == 0, result.output
    assert "warning: this evaluation is not kept in run1: cannot write " in result.stderr
    assert "Read-only file system" in result.stderr
    if flags == ("--json",):
        assert json.loads(result.stdout)["metrics"].keys() == expected
    else:
        assert "-4" in result.stdout
    assert Path("values.csv").stat().st_size > 1000
    Path("values.csv").unlink()
    assert snapshot(isolated) == before


def test_other_commands_evaluate_a_run_that_keeps_nothing(
    cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a run was interrupted before it was evaluated, they need an evaluation, and make one."""
    record = json.loads((runs / "run1" / "run.json").read_text())
    elbo = record["metrics"]["elbo"]
    (runs / "run1" / "run.json").write_text(json.dumps({**record, "evaluations": []}))
    (runs / "run1" / "evaluations" / "test-best.json").unlink()
    forbid(runs, monkeypatch)
    result = cli("compare", "run1", "run2", "--json")
    assert result.exit_code == 0, result.output
    assert "warning: this evaluation is not kept in run1" in result.stderr
    (row,) = [row for row in json.loads(result.stdout)["metrics"] if row["name"] == "elbo"]
    assert row["values"][0] == pytest.approx(elbo)
    assert row["delta_se"][-1] is not None, "the values of each example are at hand, too"
    assert cli("plot-latent", "run1", "--kind", "traversal", "-o", "out.png").exit_code == 0


@pytest.mark.parametrize("command", ["sample", "embed", "plot-latent"])
def test_an_output_without_a_place_is_refused_before_any_work(
    cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    forbid(runs, monkeypatch)
    monkeypatch.setattr(vae.VAE, "__init__", lambda *arguments: pytest.fail("a model was made"))
    result = cli(command, "run1")
    assert result.exit_code == 1
    error, hint = result.stderr.splitlines()
    assert error.startswith("error: runs/run1/")
    assert error.endswith(" cannot be written: Read-only file system")
    assert hint == "hint: name another place with -o"


def test_from_python(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning for the listeners, and the run has its evaluation as long as the object lives."""

    class Ear:
        def __init__(self) -> None:
            self.said: list[Said] = []

        def on(self, event: object) -> None:
            if isinstance(event, Said):
                self.said.append(event)

    run, ear = Run.open("run1"), Ear()
    forbid(runs, monkeypatch)
    document = evaluate_run(run, seed=5, listeners=[ear])
    assert [said.kind for said in ear.said if said.kind != "detail"] == ["warning"]
    kept = run.evaluation("test", "best")
    assert kept is not None
    assert (kept["seed"], kept["metrics"]["elbo"]) == (5, document["metrics"]["elbo"])
    assert len(run.per_example("test", "best")["elbo"]) == document["n"]
    assert Run.open("run1").evaluation("test", "best") != kept
