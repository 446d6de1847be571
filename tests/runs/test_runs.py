"""Run folders: ids, references, records and weights, whole or not there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.conftest import Cli
from tests.support.toys import toy_data
from vaectl.config.recipes import vae
from vaectl.errors import OutputError, RunError, UsageError
from vaectl.model.builder import build, complete
from vaectl.runs import catalog, weights
from vaectl.runs.run import Run
from vaectl.system import files


def facts() -> dict[str, object]:
    """What run.json holds at the start."""
    spec = complete(vae())
    return {
        "argv": ["train"],
        "config": spec.to_json(),
        "sources": dict.fromkeys(spec.flat(), "default"),
        "dataset": toy_data().info.to_json(),
        "data_directory": "data",
        "versions": {},
        "git_commit": None,
        "device": "cpu",
        "parameters": 1,
    }


def create(folder: str) -> str:
    run = Run.create(Path(folder), None, facts())
    run.close()
    return run.id


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A new run, run1 in tmp_path, let go of in the end."""
    made = Run.create(tmp_path, None, facts())
    yield made
    made.close()


@pytest.fixture
def saved(run: Run) -> Run:
    """A new run with weights."""
    model, _ = build(run.spec, run.data_info)
    weights.save(run.path / "model.safetensors", model.state_dict(), run.record["config"])
    return run


METRICS = {"elbo": -1.0, "recon": 1.0, "kl": 0.0, "active_units": 1}


def test_ids_count_up_from_the_highest(tmp_path: Path) -> None:
    assert create(str(tmp_path)) == "run1"
    (tmp_path / "run41").mkdir()
    (tmp_path / "run7x").mkdir()
    assert create(str(tmp_path)) == "run42"


def test_sixteen_processes_get_sixteen_ids(tmp_path: Path) -> None:
    """The id is allocated by an atomic mkdir with retry."""
    # a fork of this process would copy locks that torch's threads hold
    code = "import sys, pathlib, vaectl.runs.catalog as c; print(c.allocate(pathlib.Path(sys.argv[1]), None).name)"
    racers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(16)
    ]
    ids = [racer.communicate(timeout=60)[0].strip() for racer in racers]
    assert sorted(ids) == sorted(f"run{n}" for n in range(1, 17))


def test_a_failed_creation_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Run.create(tmp_path, None, {**facts(), "parameters": float("nan")})
    assert not list(tmp_path.iterdir())


def test_references(tmp_path: Path) -> None:
    """An id, a bare number, a path, latest and latest~N; never a prefix."""
    for name in (None, None, "mine"):
        run = Run.create(tmp_path, name, facts())
        run.finish("completed")
        run.close()
    assert Run.open("run2", tmp_path).id == "run2"
    assert Run.open("2", tmp_path).id == "run2"
    assert Run.open("mine", tmp_path).id == "mine"
    assert Run.open("latest", tmp_path).id == "mine"
    assert Run.open("latest~2", tmp_path).id == "run1"
    assert Run.open(str(tmp_path / "run1"), tmp_path / "elsewhere").id == "run1"
    for missing in ("run", "run3", "latest~3", "min", "../nothing", str(tmp_path), "99999999999999999999"):
        with pytest.raises(RunError):
            Run.open(missing, tmp_path)
    with pytest.raises(RunError) as caught:
        Run.open("run22", tmp_path)
    assert caught.value.hint is not None
    assert "'run2'" in caught.value.hint


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "a" * 65, "-x", "latest", "42", "ünï"])
def test_names_that_are_no_ids(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        Run.create(tmp_path / "runs", name, facts())
    assert not (tmp_path / "runs").exists()


def test_an_existing_name_is_refused(tmp_path: Path) -> None:
    Run.create(tmp_path, "mine", facts()).close()
    with pytest.raises(RunError, match="exists"):
        Run.create(tmp_path, "mine", facts())


def test_a_running_run_is_running_until_its_process_is_gone(tmp_path: Path) -> None:
    """While its process lives others see running; when the process dies, crashed."""
    code = f"""
import sys; from pathlib import Path; from tests.runs.test_runs import *
run = Run.create(Path({str(tmp_path)!r}), None, facts()); print("made", flush=True); sys.stdin.read()
"""
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    with child:
        assert child.stdout.readline() == "made\n"
        assert Run.open("run1", tmp_path).status == "running"
        child.kill()
    assert Run.open("run1", tmp_path).status == "crashed"


def test_evaluations_replace_their_like_and_keep_the_others(saved: Run, tmp_path: Path) -> None:
    run = saved
    for seed, elbo in ((0, -1.0), (1, -2.0), (0, -3.0)):
        key = {"split": "test", "checkpoint": "best", "seed": seed}
        entry = {**key, "n": 1, "measure": "density", "metrics": {**METRICS, "elbo": elbo}, "kl_per_dim": []}
        run.add_evaluation(entry, {"elbo": [elbo]})
    kept = Run.open("run1", tmp_path)
    assert [(e["seed"], e["metrics"]["elbo"]) for e in kept.evaluations()] == [(1, -2.0), (0, -3.0)]
    assert kept.per_example("test", "best") == {"elbo": [-3.0]}


def test_an_evaluation_belongs_to_the_weights_it_was_made_with(saved: Run) -> None:
    """When better weights replace model.safetensors, earlier figures are not the best weights'."""
    place = {"split": "test", "checkpoint": "best", "seed": 0, "n": 1}
    entry = {**place, "measure": "density", "metrics": METRICS, "kl_per_dim": []}
    saved.add_evaluation({**entry, "weights": saved.weights_digest("best")}, {"elbo": [-1.0]})
    assert saved.evaluation("test", "best") is not None
    model = saved.load_model("best", torch.device("cpu"))
    with torch.no_grad():
        next(model.parameters()).add_(1)
    weights.save(saved.path / "model.safetensors", model.state_dict(), saved.record["config"])
    assert saved.evaluation("test", "best") is None
    (saved.path / "model.safetensors").unlink()
    assert saved.weights_digest("best") is None


def test_added_files_are_numbered_over_all_suffixes(run: Run) -> None:
    paths = [run.add_file("samples", suffix, lambda path: path.touch()) for suffix in (".png", ".png", ".npz")]
    assert [path.name for path in paths] == ["0001.png", "0002.png", "0003.npz"]


def test_values_of_another_evaluation_are_not_taken_for_this_one(saved: Run) -> None:
    """A process that is killed between the two files of an evaluation leaves values that belong to no record."""
    entry = {"split": "test", "checkpoint": "best", "n": 1, "measure": "density", "metrics": METRICS, "kl_per_dim": []}
    saved.add_evaluation({**entry, "seed": 0}, {"elbo": [-1.0]})
    files.write_json(saved.evaluation_file("test", "best"), {"seed": 1, "elbo": [-2.0]})
    assert saved.per_example("test", "best") == {}


def test_a_torn_last_line_of_the_history_is_dropped(run: Run) -> None:
    run.append_history({"epoch": 1})
    run.append_history({"epoch": 2})
    file = run.path / "metrics.jsonl"
    file.write_text(file.read_text() + '{"epoch": 3, "lo')
    assert [row["epoch"] for row in run.history()] == [1, 2]
    file.write_text('{"epoch": 1}\n{"epo\n{"epoch": 3}\n')
    with pytest.raises(RunError, match="line 2"):
        run.history()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"schema": 1}', '{"schema": 99}', '{"schema": NaN}', "[" * 100_000, "\xff\xfe"],
)
def test_a_damaged_record_is_named(run: Run, tmp_path: Path, content: str) -> None:
    (run.path / "run.json").write_text(content, encoding="latin-1")
    with pytest.raises(RunError, match=r"run\.json"):
        Run.open("run1", tmp_path)


def test_weights_carry_their_config_and_come_back(saved: Run) -> None:
    run = saved
    model = run.load_model("best", torch.device("cpu"))
    again, _ = build(run.spec, run.data_info)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert not model.training


@pytest.mark.parametrize("place", [4, 40, 2000, -1])
def test_a_flipped_bit_in_the_weights_is_found(saved: Run, place: int) -> None:
    run = saved
    file = run.path / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"model\.safetensors"):
        run.load_model("best", torch.device("cpu"))


@pytest.mark.parametrize("size", [0, 7, 100, 10_000])
def test_truncated_weights_are_named(saved: Run, size: int) -> None:
    run = saved
    file = run.path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(RunError, match=r"model\.safetensors"):
        run.load_model("best", torch.device("cpu"))


def test_an_altered_config_does_not_load_the_weights(saved: Run, tmp_path: Path) -> None:
    """The shapes would fit, but sigma would mean something else: the header's config must be the run's."""
    run = saved
    record = json.loads((run.path / "run.json").read_text())
    record["config"]["posterior"]["scale"] = "log-variance"
    (run.path / "run.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match="altered"):
        Run.open("run1", tmp_path).load_model("best", torch.device("cpu"))


def test_foreign_weights_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(RunError, match="not written by vaectl"):
        weights.read(tmp_path / "foreign.safetensors", {}, {})


def fill_the_disk(target: Path) -> None:
    with files.replacing(target) as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")


def test_a_write_that_fails_keeps_the_old_file(tmp_path: Path) -> None:
    """And no temporary file stays."""
    target = tmp_path / "a.json"
    files.write_json(target, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(target, {"a": float("inf")})
    with pytest.raises(OutputError, match="No space left"):
        fill_the_disk(target)
    assert json.loads(target.read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_listing_is_by_number(tmp_path: Path) -> None:
    for name in ("run10", "run9", "zeta", "alpha"):
        Run.create(tmp_path, name, facts()).close()
    (tmp_path / "empty").mkdir()
    assert [path.name for path in catalog.listing(tmp_path)] == ["run9", "run10", "alpha", "zeta"]
    assert catalog.listing(tmp_path / "nothing") == []


def test_weights_that_are_not_finite_are_refused(saved: Run) -> None:
    """NaN in the weights is an error that names the file, and not one deep in torch."""
    model, _ = build(saved.spec, saved.data_info)
    with torch.no_grad():
        next(model.parameters())[0] = float("nan")
    weights.save(saved.path / "model.safetensors", model.state_dict(), saved.record["config"])
    with pytest.raises(RunError, match="not finite"):
        saved.load_model("best", torch.device("cpu"))


def test_a_hint_lists_the_runs_of_the_folder_that_was_named(cli: Cli) -> None:
    for place in ("elsewhere", "two words"):
        Path(place, "run1").mkdir(parents=True)
        Path(place, "run1", "run.json").write_text("{}")
    assert "list them with: vaectl --runs-dir elsewhere runs" in cli("--runs-dir", "elsewhere", "eval", "run9").stderr
    assert "vaectl --runs-dir 'two words' runs" in cli("--runs-dir", "two words", "eval", "latest~3").stderr
