"""Run folders: ids, ``run.json``, history, weights. Torch is imported only when weights are read or written."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaectl.config.recipes import filled
from vaectl.config.spec import Spec
from vaectl.errors import RunError, SettingError, UsageError, VaectlError, check_choice
from vaectl.plugins import require
from vaectl.runs import checkpoints, history
from vaectl.runs import log as train_log
from vaectl.runs.catalog import allocate, check_name, find, runs_directory
from vaectl.runs.log import TrainLog, is_held
from vaectl.runs.records import SCHEMA, is_evaluation, read_record
from vaectl.system.files import sweep, write_json, write_numbered, writing
from vaectl.system.reading import SERIES_BYTES, has_numbers, is_number, parse_json, path_within, read_text
from vaectl.system.runtime import arithmetic

if TYPE_CHECKING:
    import torch

    from vaectl.data.info import DataInfo
    from vaectl.model.vae import VAE
    from vaectl.training.state import TrainState

CHECKPOINTS = {"best": checkpoints.BEST, "last": checkpoints.LAST}


def now() -> str:
    """The time in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass
class Run:
    """A run folder and the content of its ``run.json``.

    Attributes:
        path: The folder.
        record: The content of ``run.json``.
    """

    path: Path
    record: dict[str, Any]
    _log: TrainLog | None = field(default=None, repr=False)
    # per-example values, by split and checkpoint, that could not be written
    _values: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict, repr=False)

    @property
    def id(self) -> str:
        """The run's id: its folder's name."""
        return self.path.name

    @property
    def reference(self) -> str:
        """The text that names this run in a command: its id, or its path if it is not in the usual folder of runs."""
        if os.path.realpath(self.path.parent) == os.path.realpath(runs_directory()):
            return self.id
        path = str(self.path)
        return shlex.quote(path if os.sep in path else f".{os.sep}{path}")

    @property
    def spec(self) -> Spec:
        """The run's spec, with the defaults of options that did not exist yet when it was begun.

        Raises:
            RunError: ``run.json`` holds no valid spec.
        """
        try:
            return filled(Spec.from_json(self.record["config"]))
        except VaectlError as error:
            raise RunError(f"{self.path / 'run.json'} is damaged: config: {error.message}") from None

    def file(self, name: str) -> Path:
        """The path of a file or folder of the run; everything that reads or writes one gets its path here.

        Raises:
            RunError: A link leads out of the run's folder.
        """
        return path_within(self.path, name)

    def check_plugins(self, *, exactly: bool = False) -> list[str]:
        """Check that the plug-ins whose parts the run has are loaded, as ``plugins.require``."""
        return require(self.record.get("plugins", ()), self.id, exactly=exactly)

    def complete_spec(self) -> Spec:
        """The run's spec with every option of its parts checked; needs torch.

        Raises:
            RunError: ``run.json`` holds no valid spec, or a plug-in that the run needs is not loaded.
        """
        from vaectl.model.builder import complete

        self.check_plugins()
        try:
            return complete(self.spec)
        except UsageError as error:
            # a Python program may have registered the part itself
            unknown = isinstance(error, SettingError) and error.path.endswith(".name")
            hint = error.hint if unknown else None
            raise RunError(f"{self.path / 'run.json'} is damaged: config: {error.message}", hint=hint) from None

    @property
    def status(self) -> str:
        """running, completed, interrupted or failed; crashed if the process of a running run is gone."""
        status: str = self.record["status"]
        if status == "running" and self._log is None and not self._is_alive():
            # it may have ended since its record was read
            status = read_record(self.path)["status"]
            return "crashed" if status == "running" else status
        return status

    @classmethod
    def create(cls, runs_dir: str | Path | None, name: str | None, record: Mapping[str, Any]) -> Run:
        """Create a run folder with ``run.json`` and ``config.json``; an atomic mkdir allocates its id.

        Args:
            runs_dir: Folder of all runs, created if missing; None for ``VAECTL_RUNS_DIR``, else ``runs``.
            name: The id, or None for the next ``run<N>``.
            record: The fields of ``run.json`` that are known at the start.

        Raises:
            UsageError: The name is not allowed.
            RunError: The name is taken.
            OutputError: The folder cannot be written.
        """
        folder = runs_directory(runs_dir)
        if name is not None:
            check_name(name, folder)
        path = allocate(folder, name)
        run = cls(path, {})
        try:
            run._log = TrainLog(run.file(train_log.NAME))
            run.record = {
                "schema": SCHEMA,
                "id": path.name,
                "status": "running",
                **record,
                "started": now(),
                "finished": None,
                "best_epoch": None,
                "validation": {},
                "metrics": {},
                "evaluations": [],
            }
            write_json(path / "config.json", run.record["config"])
            write_json(path / "run.json", run.record)
        except BaseException:
            run.close()
            shutil.rmtree(path, ignore_errors=True)
            raise
        return run

    @classmethod
    def open(cls, reference: str | Path, runs_dir: str | Path | None = None) -> Run:
        """Open the run that an id, a bare number, a path, ``latest`` or ``latest~N`` names.

        Args:
            reference: The name; a ``Path`` is the path of a run's folder.
            runs_dir: Folder of all runs; None for ``VAECTL_RUNS_DIR``, else ``runs``.

        Raises:
            RunError: There is no such run, or its ``run.json`` is damaged.
        """
        path = find(reference, runs_directory(runs_dir))
        return cls(path, read_record(path))

    @classmethod
    def resume(cls, reference: str | Path, runs_dir: str | Path | None = None) -> Run:
        """Open a run and lock it for this process, as ``create`` does, to continue it.

        Raises:
            RunError: As ``open``; or another process trains it.
            OutputError: Its folder cannot be written.
        """
        run = cls.open(reference, runs_dir)
        run._log = TrainLog(run.file(train_log.NAME))
        try:
            with run._locked():
                sweep(run.path)
                # it may have ended since its record was read
                run.record = read_record(run.path)
        except BaseException:
            run.close()
            raise
        return run

    def update(self, **changes: Any) -> None:
        """Change fields of ``run.json``, keeping what other processes wrote there meanwhile."""
        with self._locked():
            self.record = read_record(self.path) | changes
            write_json(self.file("run.json"), self.record)

    def add_evaluation(self, evaluation: Mapping[str, Any], per_example: Mapping[str, list[float]]) -> None:
        """Add an evaluation to ``run.json``, replacing an older one with the same split, checkpoint, seed and K.

        The per-example values go to ``evaluations/SPLIT-CHECKPOINT.json``, for paired comparisons. If there is no
        importance-weighted bound, that of an earlier evaluation with the same weights and seed is kept.

        Raises:
            OutputError: The run cannot be written; this object has the evaluation all the same.
        """
        file = self.evaluation_file(evaluation["split"], evaluation["checkpoint"])
        with self._locked():
            self.record = read_record(self.path)
            before = self.evaluation(evaluation["split"], evaluation["checkpoint"])
            if before and not evaluation.get("importance") and _same_draws(before, evaluation):
                values = self.per_example(evaluation["split"], evaluation["checkpoint"])
                evaluation = {**evaluation, "importance": before.get("importance")}
                per_example = {**{name: values[name] for name in values if name not in per_example}, **per_example}
            others = [old for old in self.evaluations() if _kind(old) != _kind(evaluation)]
            self.record["evaluations"] = [*others, dict(evaluation)]
            document = {"seed": evaluation["seed"], **per_example}
            kind = evaluation["split"], evaluation["checkpoint"]
            self._values[kind] = document
            with writing(file):
                file.parent.mkdir(exist_ok=True)
            write_json(file, document)
            write_json(self.file("run.json"), self.record)
            del self._values[kind]

    def evaluations(self) -> list[dict[str, Any]]:
        """The evaluations kept so far, oldest first, without damaged ones."""
        return [item for item in self.record["evaluations"] if is_evaluation(item)]

    def evaluation(self, split: str, checkpoint: str) -> dict[str, Any] | None:
        """The newest evaluation of a split with the weights that a checkpoint holds now, or None."""
        weights = self.weights_digest(checkpoint)
        keys = {"split": split, "checkpoint": checkpoint, "weights": weights}
        matches = [e for e in self.evaluations() if all(e.get(key) == value for key, value in keys.items())]
        return matches[-1] if matches and weights is not None else None

    def weights_digest(self, checkpoint: str) -> str | None:
        """The SHA-256 in the header of a checkpoint's weights, read without torch; None if there is none."""
        return checkpoints.digest_of(self.file(CHECKPOINTS[checkpoint]))

    def evaluation_file(self, split: str, checkpoint: str) -> Path:
        """The file with the per-example values of an evaluation."""
        return self.file(f"evaluations/{split}-{checkpoint}.json")

    def per_example(self, split: str, checkpoint: str) -> dict[str, list[float]]:
        """Per-example values by metric of the newest evaluation; empty if they are damaged or have another seed.

        A process that was killed between writing its two files, or is writing them, leaves values of another seed.
        """
        seeds = [e["seed"] for e in self.evaluations() if (e["split"], e["checkpoint"]) == (split, checkpoint)]
        try:
            document = self._values.get((split, checkpoint))
            if document is None or document["seed"] not in seeds[-1:]:
                document = parse_json(read_text(self.evaluation_file(split, checkpoint), SERIES_BYTES))
            if seeds and document["seed"] != seeds[-1]:
                return {}
            examples = {name: [float(v) for v in values] for name, values in document.items() if name != "seed"}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
        return examples if all(is_number(value) for values in examples.values() for value in values) else {}

    def append_history(self, row: Mapping[str, Any]) -> None:
        """Append one epoch to ``metrics.jsonl`` and flush it to disk."""
        history.append(self.file(history.NAME), row)

    def append_steps(self, row: Mapping[str, Any]) -> None:
        """Append the figures of training steps to ``steps.jsonl``."""
        history.append(self.file(history.STEPS), row, lasting=False)

    def rewind_steps(self, step: int) -> None:
        """Drop the rows after an optimizer step from ``steps.jsonl``."""
        history.rewind(self.file(history.STEPS), step)

    def history(self) -> list[dict[str, Any]]:
        """The epochs of ``metrics.jsonl``; an incomplete last line is left out.

        Raises:
            RunError: Another line is damaged, or the file cannot be read.
        """
        return history.read(self.file(history.NAME))[0]

    def log(self, line: str) -> None:
        """Append a line to ``train.log``, if this process has locked the run.

        Raises:
            OutputError: It cannot be written.
        """
        if self._log is not None:
            self._log.write(line)

    def finish(self, status: str, **changes: Any) -> None:
        """Record how the run ended and how long this process worked on it; ``close`` then releases it."""
        before = self.record["seconds"] if has_numbers(self.record, "seconds") else 0.0
        here = self._log.seconds if self._log is not None else 0.0
        self.update(status=status, finished=now(), seconds=round(before + here, 1), **changes)

    def close(self) -> None:
        """Release the run; if its status is still running, other processes then see it as crashed."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def save_checkpoint(self, state: TrainState, *, best: bool = False) -> None:
        """Write a checkpoint, and with ``best`` also the model as the best so far: all files change or none.

        Raises:
            OutputError: It cannot be written; the previous checkpoint is still there.
        """
        weights = state.model.state_dict()
        files = {checkpoints.LAST: weights, checkpoints.OPTIMIZER: state.tensors()}
        if best:
            files[checkpoints.BEST] = weights
        values = {**state.values(), "arithmetic": arithmetic(state.device)}
        checkpoints.save(self.path, self.record["config"], files, values)

    def load_checkpoint(self, state: TrainState) -> dict[str, str]:
        """Restore a training, and return its ``runtime.arithmetic``, on which rounding depends.

        Args:
            state: A new state of the run's model and objective.

        Raises:
            RunError: A file of the checkpoint is missing or damaged, or not of this run.
        """
        from vaectl.model.builder import complete

        weights, others = state.model.state_dict(), state.objective.state_dict().values()
        values, tensors = checkpoints.load(self.path, self.record["config"], weights, complete, others)
        try:
            state.model.load_state_dict(tensors[checkpoints.LAST])
            state.restore(tensors[checkpoints.OPTIMIZER], values)
            if state.keeps_best and state.prior_began is None and checkpoints.BEST in tensors:
                # copied, because the tensors may be pages of the file itself
                state.best_weights = {name: tensor.clone() for name, tensor in tensors[checkpoints.BEST].items()}
            return {name: str(value) for name, value in values["arithmetic"].items()}
        except (ValueError, RuntimeError, KeyError, AttributeError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise RunError(f"the checkpoint in {self.path} is damaged: {reason}") from None

    def check_weights(self) -> None:
        """Check the weights and, if there is one, the checkpoint of a completed run: sizes, shapes and checksums.

        Raises:
            RunError: A file is missing, damaged or not of this run.
        """
        from vaectl.model.builder import build, complete

        self.load_model("best")
        if checkpoints.has_state(self.path):
            model, objective = build(self.complete_spec(), self.data_info)
            weights, others = model.state_dict(), objective.state_dict().values()
            checkpoints.load(self.path, self.record["config"], weights, complete, others)

    def load_model(self, checkpoint: str = "best", device: str | torch.device = "cpu") -> VAE:
        """Build the run's model with the weights of a checkpoint, in evaluation mode.

        Args:
            checkpoint: ``best`` or ``last``.
            device: The device to put it on; ``auto`` is a GPU if there is one.

        Raises:
            UsageError: There is no such checkpoint or device.
            RunError: The weights are missing, damaged, or belong to another config.
        """
        from vaectl.model.builder import blueprint, build, complete
        from vaectl.runs import weights
        from vaectl.system.runtime import resolve_device

        check_choice("--checkpoint", checkpoint, CHECKPOINTS)
        target = resolve_device(device) if isinstance(device, str) else device
        file = self.file(CHECKPOINTS[checkpoint])
        if not file.is_file():
            hint = None if self.history() else "it was stopped before its first epoch ended"
            raise RunError(f"{self.id} has no {file.name}", hint=hint)
        spec, info = self.complete_spec(), self.data_info
        try:
            # two copies: the weights as read, and the model's
            plan = blueprint(spec, info, copies=2)
            state = weights.read(file, self.record["config"], plan.state_dict(), complete=complete)
            model, _ = build(spec, info)
        except RunError:
            raise
        except VaectlError as error:
            raise RunError(
                f"{self.path / 'run.json'} describes a model that cannot be built on this machine: {error.message}"
            ) from None
        model.load_state_dict(state)
        return model.to(target).eval()

    @property
    def data_info(self) -> DataInfo:
        """The description of the data that the run was trained on.

        Raises:
            RunError: ``run.json`` holds no valid description.
        """
        from vaectl.data.info import DataInfo

        try:
            return DataInfo.from_json(self.record["dataset"])
        except VaectlError as error:
            raise RunError(f"{self.path / 'run.json'} is damaged: {error.message}") from None

    def add_file(self, folder: str, suffix: str, write: Callable[[Path], None]) -> Path:
        """Write the next numbered file in a folder of the run, ``samples/0001.png``, as ``files.write_numbered``."""
        return write_numbered(self.file(folder), suffix, write)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _is_alive(self) -> bool:
        try:
            return is_held(self.file(train_log.NAME))
        except RunError:
            return False


def _same_draws(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one.get(key) == other.get(key) for key in ("weights", "seed", "n"))


def _kind(evaluation: Mapping[str, Any]) -> tuple[Any, ...]:
    importance = evaluation.get("importance")
    samples = importance.get("samples") if isinstance(importance, Mapping) else None
    return (*(evaluation[key] for key in ("split", "checkpoint", "seed")), samples)
