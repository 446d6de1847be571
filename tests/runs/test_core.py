"""What the core does of itself: it trains, resumes and evaluates runs that are those of the command line."""

from __future__ import annotations

import dataclasses
import json
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import Cli
from tests.support.runs import assert_same_run
from tests.support.toys import toy_data
from vaectl import Run, compare_runs, evaluate_run, load_data, resume_run, train_run, vae, vq_vae
from vaectl.config.spec import Spec
from vaectl.errors import DataError, DivergedError, InterruptedRunError, RunError, SettingError, UsageError
from vaectl.runs.events import DataLoaded, Evaluated, RunBegan, RunEnded, TrainingBegan
from vaectl.runs.listeners import Log
from vaectl.training.events import Found, Pictured, Progress, Said, Trained
from vaectl.training.trainer import Epoch, Logged, PriorBegan, RolledBack, Step, Stopped

SMALL = ("train", "--dataset", "digits", "--hidden-dims", "16", "--latent-dim", "2", "--batch-size", "500")


def small(epochs: int = 2, **settings: Any) -> Spec:
    """The spec of ``SMALL``."""
    return vae(dataset="digits", hidden_dims=16, latent_dim=2, batch_size=500, epochs=epochs, **settings)


class Recorder:
    """Keeps the events that it is told."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def on(self, event: object) -> None:
        self.events.append(event)

    def of(self, *kinds: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]

    @property
    def kinds(self) -> list[type]:
        """The type of each event but for repetitions and what may come anywhere."""
        kinds = [type(event) for event in self.events if not isinstance(event, Progress | Said | Found)]
        return [kind for place, kind in enumerate(kinds) if place == 0 or kinds[place - 1] != kind]


class Raiser:
    """Lets a signal come after so many steps."""

    def __init__(self, steps: int, signum: int = signal.SIGINT) -> None:
        self._left, self._signum = steps, signum

    def on(self, event: object) -> None:
        if isinstance(event, Step):
            self._left -= 1
            if self._left == 0:
                signal.raise_signal(self._signum)


# --- the same folder --------------------------------------------------------------------------------------------------


def test_the_run_is_the_one_that_the_command_makes(cli: Cli, isolated: Path) -> None:
    """Every file is there and equal, but for the clock, the command and who set what."""
    result = cli(*SMALL, "--epochs", 2)
    assert result.exit_code == 0, result.output
    mine = train_run(small(), None, isolated / "core")
    theirs = isolated / "runs" / "run1"
    names = {str(path.relative_to(theirs).parts[0]) for path in theirs.rglob("*")}
    assert {str(path.relative_to(mine.path).parts[0]) for path in mine.path.rglob("*")} == names
    assert_same_run(mine.path, theirs)
    ours, record = (json.loads((path / "run.json").read_text()) for path in (mine.path, theirs))
    assert ours.keys() == record.keys()
    for name in ("config", "dataset", "data_directory", "device", "parameters", "best_epoch", "validation", "metrics"):
        assert ours[name] == record[name], name
    assert (ours["argv"], set(ours["sources"].values())) == ([], {"default"})
    assert ours["sources"].keys() == record["sources"].keys()
    assert ours["evaluations"] == record["evaluations"]
    logs = [(path / "train.log").read_text().splitlines() for path in (mine.path, theirs)]
    assert len(logs[0]) == len(logs[1]) == 7
    # a title, a header and two rows, whose last column is the time, a finding of the doctor, and two lines of the end
    assert logs[0][4] == logs[1][4]
    assert logs[0][6] == logs[1][6]
    logs = [[*log[:5], log[5].replace(log[5].split()[3], "1.0s:")] for log in logs]
    assert [line.split()[:7] for line in logs[0]] == [line.split()[:7] for line in logs[1]]


def test_resuming_is_as_of_the_command(cli: Cli, isolated: Path) -> None:
    """A run of the command line goes on from Python, and one from Python on the command line."""
    for name in ("one", "two"):
        assert cli(*SMALL, "--epochs", 2, "--name", name).exit_code == 0
    resumed = resume_run("one", epochs=3)
    assert cli("train", "--resume", "two", "--epochs", 3).exit_code == 0
    assert_same_run(resumed.path, isolated / "runs" / "two")
    assert resumed.record["sources"]["training.epochs"] == "flag"
    mine = train_run(small(), name="mine")
    assert cli("train", "--resume", "mine", "--epochs", 3).exit_code == 0
    assert_same_run(mine.path, isolated / "runs" / "two")


def test_a_run_that_is_whole_ends_at_once(runs: Path) -> None:
    recorder = Recorder()
    before = (runs / "run1" / "run.json").read_text()
    resume_run(Run.open("run1"), listeners=[recorder])
    (end,) = recorder.of(RunEnded)
    assert end.reason == "nothing left"
    assert end.document["metrics"] == json.loads(before)["metrics"]
    assert (runs / "run1" / "run.json").read_text() == before


def test_evaluations_are_those_of_the_command(cli: Cli, runs: Path) -> None:
    recorder = Recorder()
    document = evaluate_run("run1", split="validation", importance_samples=3, listeners=[recorder])
    result = cli("eval", "run1", "--split", "validation", "--importance-samples", 3, "--json")
    theirs = json.loads(result.stdout)
    assert json.loads(json.dumps(document)) == {name: theirs[name] for name in document}
    (event,) = recorder.of(Evaluated)
    assert len(event.values["elbo"]) == document["n"]
    assert {progress.what for progress in recorder.of(Progress)} == {
        "evaluating validation", "aggregate posterior", "3 importance samples",
    }  # fmt: skip


def test_comparison_from_python(cli: Cli, runs: Path) -> None:
    comparison = compare_runs(["run1", runs / "run2"])
    theirs = json.loads(cli("compare", "run1", "run2", "--json").stdout)
    assert [row.values for row in comparison.rows] == [metric["values"] for metric in theirs["metrics"]]
    with pytest.raises(UsageError, match="two runs or more; got 1"):
        compare_runs(["run1"])


def test_a_comparison_evaluates_what_was_not(isolated: Path) -> None:
    for name in ("one", "two"):
        train_run(small(), name=name)
    path = isolated / "runs" / "two" / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"evaluations": []}))
    comparison = compare_runs(["one", "two"])
    assert comparison.rows[0].cells[1].delta == 0.0


# --- listeners --------------------------------------------------------------------------------------------------------


def test_events_come_in_order() -> None:
    recorder = Recorder()
    run = train_run(small(), listeners=[recorder])
    assert recorder.kinds == [
        DataLoaded, RunBegan, TrainingBegan, Step, Logged, Step, Pictured, Epoch, Step, Logged, Step, Pictured, Epoch,
        Stopped, Pictured, Trained, Evaluated, RunEnded,
    ]  # fmt: skip
    (began,), (end,) = recorder.of(RunBegan), recorder.of(RunEnded)
    assert began.run is end.run is run
    assert began.line.startswith("run1  digits ")
    assert (end.reason, run.status) == ("completed", "completed")
    assert end.document["metrics"]["elbo"] == run.record["metrics"]["elbo"]
    assert [set(event.pictures) for event in recorder.of(Pictured)] == [{"Reconstruction", "Samples"}] * 2 + [
        {"Latent"}
    ]


def test_an_epoch_is_kept_before_a_listener_hears_of_it(isolated: Path) -> None:
    """Whatever a listener does with an epoch, that is in the history and in the checkpoint."""

    class Reader:
        def __init__(self) -> None:
            self.rows: list[int] = []

        def on(self, event: object) -> None:
            if isinstance(event, Epoch):
                folder = isolated / "runs" / "run1"
                assert json.loads((folder / "state.json").read_text())["epoch"] == event.epoch
                self.rows.append(len((folder / "metrics.jsonl").read_text().splitlines()))

    reader = Reader()
    train_run(small(), listeners=[reader])
    assert reader.rows == [1, 2]


def test_listeners_hear_of_rollbacks_and_stages() -> None:
    recorder = Recorder()
    hopeless = small(8, lr=100.0, grad_clip=0.0, posterior_scale="log-variance", on_nonfinite="rollback")
    training = dataclasses.replace(hopeless.training, batch_size=100, max_rollbacks=1)
    hopeless = dataclasses.replace(hopeless, training=training)
    with pytest.raises(DivergedError) as caught:
        train_run(hopeless, listeners=[recorder])
    assert len(recorder.of(RolledBack)) == 1
    assert "--from run1" in str(caught.value.hint)
    assert recorder.of(Stopped)[0].reason == "diverged"
    assert recorder.of(RunEnded)[0].reason == "stopped"
    assert Run.open("run1").status == "failed"
    staged = vq_vae(dataset="digits", width=4, depth=1, epochs=1, prior_epochs=1, batch_size=500)
    train_run(staged, listeners=[recorder])
    assert len(recorder.of(PriorBegan)) == 1
    assert recorder.of(RunEnded)[-1].reason == "completed"


def test_what_a_listener_raises_ends_the_training() -> None:
    class Broken:
        def on(self, event: object) -> None:
            if isinstance(event, Epoch):
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train_run(small(), listeners=[Broken()])
    assert Run.open("run1").status == "failed"
    assert resume_run("run1").status == "completed"


# --- interruption -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_finishes_the_batch_and_saves(isolated: Path, signum: int, code: int) -> None:
    recorder = Recorder()
    with pytest.raises(InterruptedRunError) as caught:
        train_run(small(3), listeners=[recorder, Raiser(4, signum)])
    assert "in epoch 2, after 1 of 3 batches; progress is saved" in caught.value.message
    assert caught.value.hint == "resume with: vaectl train --resume run1"
    assert caught.value.exit_code == code
    assert [end.reason for end in recorder.of(RunEnded)] == ["stopped"]
    assert Run.open("run1").status == "interrupted"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = resume_run("run1")
    assert_same_run(resumed.path, train_run(small(3), name="whole").path)


def test_a_training_in_a_thread(isolated: Path) -> None:
    """Off the main thread no signal can be handled, and none is needed."""
    runs: list[Run] = []
    thread = threading.Thread(target=lambda: runs.append(train_run(small())))
    thread.start()
    thread.join()
    assert runs[0].status == "completed"
    assert_same_run(runs[0].path, train_run(small()).path)


# --- data -------------------------------------------------------------------------------------------------------------


def test_data_remember_where_they_are_from(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's config names the data that were given, with their options, and not what the spec names."""
    (isolated / "elsewhere").mkdir()
    data = load_data("digits", isolated / "elsewhere", binarize="static")
    run = train_run(dataclasses.replace(small(), data=vae().data), data)
    assert run.spec.data.name == "digits"
    assert run.spec.data.options["binarize"] == "static"
    assert run.record["data_directory"] == str(isolated / "elsewhere")
    assert evaluate_run(run)["metrics"]["elbo"] == run.record["metrics"]["elbo"]
    with pytest.raises(DataError, match="digits has support bytes; run1 was trained on data with support binary"):
        evaluate_run(run, load_data("digits"))
    with pytest.raises(DataError, match="not what run1 was trained on"):
        resume_run(run, toy_data(), epochs=3)


def test_data_of_python_are_trained_evaluated_and_resumed(cli: Cli, isolated: Path) -> None:
    data = toy_data()
    run = train_run(small(), data)
    assert run.spec.data.name == "python:toy"
    assert evaluate_run(run, data)["metrics"] == evaluate_run("run1", data)["metrics"]
    resumed = resume_run("run1", data, epochs=3)
    assert_same_run(resumed.path, train_run(small(3), data).path)
    for line in (
        "eval run1", "train --resume run1 --epochs 5", "embed run1", "plot-latent run1", "sample run1 --reconstruct",
    ):  # fmt: skip
        result = cli(*line.split())
        assert result.exit_code == 1, line
        assert "run1 was trained on toy, a Data object passed from Python" in result.stderr
    for line in ("train --from run1", "train -c runs/run1/config.json"):
        result = cli(*line.split())
        assert result.exit_code == 1, line
        assert "hint: name another data set with --dataset" in result.stderr
    for line in ("sample run1 -n 4", "compare run1 run2", "runs", "runs run1", "plot-latent run1 --kind manifold"):
        result = cli(*line.split())
        assert result.exit_code == 0, result.output


# --- arguments --------------------------------------------------------------------------------------------------------


def test_runs_are_where_the_environment_says(trained: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``VAECTL_RUNS_DIR`` is read where no folder is given; a ``Path`` is always the path of a run."""
    monkeypatch.setenv("VAECTL_RUNS_DIR", str(isolated / "mine"))
    run = train_run(small(1))
    assert run.path == isolated / "mine" / "run1"
    assert Run.open("run1").path == run.path
    assert Run.open("run2", str(trained)).id == "run2"
    assert Run.open(trained / "run2").path == (trained / "run2").resolve()
    other = Run.create(None, "other", run.record)
    other.close()
    assert other.path == isolated / "mine" / "other"
    with pytest.raises(RunError, match="no run at 'run1'"):
        Run.open(Path("run1"))


def test_weights_are_loaded_by_default(runs: Path) -> None:
    model = Run.open("run1").load_model()
    assert next(model.parameters()).device.type == "cpu"
    assert not model.training
    with pytest.raises(UsageError, match="--checkpoint must be one of best, last; got 'first'"):
        Run.open("run1").load_model("first")


def test_bad_arguments_are_refused(runs: Path) -> None:
    with pytest.raises(RunError, match="run 'run1' exists"):
        train_run(small(), name="run1")
    with pytest.raises(UsageError, match="--device must be"):
        train_run(small(), device="tpu")
    whole = small(patience=2, validation_fraction=0.0)
    with pytest.raises(SettingError, match=r"training\.patience needs a validation split"):
        train_run(whole)
    with pytest.raises(UsageError, match="--split must be one of"):
        evaluate_run("run1", split="all")
    with pytest.raises(UsageError, match="importance_samples must be at least 1; got 0"):
        evaluate_run("run1", importance_samples=0)
    with pytest.raises(UsageError, match="--epochs must be at least the 3"):
        resume_run("run1", epochs=2)
    with pytest.raises(SettingError) as caught:
        resume_run("run1", patience="many")
    assert caught.value.message.startswith("--patience must be a whole number")
    with pytest.raises(UsageError, match="the data set must be one of auto, mnist"):
        load_data("digit")
    with pytest.raises(SettingError, match=r"data.binarize must be one of none, static, dynamic; got 'yes'"):
        load_data("digits", binarize="yes")
    with pytest.raises(SettingError, match=r"data.size is not an option of data sets"):
        load_data("digits", size=3)
    assert sorted(path.name for path in runs.iterdir()) == ["run1", "run2"]


def test_the_log_says_what_the_screen_says() -> None:
    """Warnings begin as they do there, and details, which are for ``-v``, are left out."""
    lines: list[str] = []
    log = Log(SimpleNamespace(spec=small(), log=lines.append))  # type: ignore[arg-type]
    for event in (Said("a note"), Said("a detail", "detail"), Said("it is late", "warning")):
        log.on(event)
    assert lines == ["a note", "warning: it is late"]
