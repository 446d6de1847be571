"""Evaluate a run with several estimators, and keep the result in the run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaectl.config.spec import SPLITS, splits_of
from vaectl.errors import DataError, OutputError, UsageError, amount, check_choice
from vaectl.runs.data import data_of
from vaectl.runs.events import Evaluated
from vaectl.runs.listeners import diagnose
from vaectl.runs.run import Run
from vaectl.system.files import finite
from vaectl.training.events import Found, Hub, Listener, Progress, Said, Tell

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from torch import Tensor

    from vaectl.data.base import Data
    from vaectl.data.examples import Examples
    from vaectl.data.info import DataInfo
    from vaectl.model.vae import VAE


def evaluate_run(
    run: Run | str | Path,
    data: Data | None = None,
    split: str = "test",
    checkpoint: str = "best",
    *,
    seed: int = 0,
    importance_samples: int | None = None,
    device: str = "auto",
    data_dir: str | Path | None = None,
    runs_dir: str | Path | None = None,
    listeners: Iterable[Listener] = (),
) -> dict[str, Any]:
    """Evaluate a run as ``vaectl eval`` does, and keep the result in the run.

    Args:
        run: The run, or a reference as for ``Run.open``.
        data: The run's data; None loads them. A run that was trained on a ``Data`` object needs that object.
        split: ``train``, ``validation`` or ``test``.
        checkpoint: ``best`` or ``last``.
        seed: Seed of the estimators' random draws.
        importance_samples: K of the importance-weighted bound, which is left out if None.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        data_dir: The directory where the run's data are now; None for the recorded one.
        runs_dir: The folder of all runs; None for ``VAECTL_RUNS_DIR``, else ``runs``.
        listeners: Listen to ``Progress``, ``Evaluated``, ``Said`` (also if the run cannot be written) and, for each
            finding, ``Found`` events.

    Returns:
        ``run``, ``split``, ``checkpoint``, ``n``, ``seed``, ``measure``, ``metrics`` (nats per example),
        ``kl_per_dim``, ``weights`` (their SHA-256), ``information``, ``importance`` and ``disentanglement`` (None if
        they were not estimated), for tables ``r2``: pairs of a column and the part of its variance that the means at
        the posterior means explain; and ``findings``.

    Raises:
        UsageError: An argument is not one of the allowed values.
        RunError: There is no such run or checkpoint, its files are damaged, or a plug-in that it needs is not loaded.
        DataError: The split is empty, or the data are missing or not what the run was trained on.
    """
    from vaectl.system.runtime import resolve_device

    check_choice("--split", split, SPLITS)
    if importance_samples is not None and importance_samples < 1:
        raise UsageError(f"importance_samples must be at least 1; got {importance_samples}")
    hub = Hub(listeners)
    opened = run if isinstance(run, Run) else Run.open(run, runs_dir)
    for sentence in opened.check_plugins():
        hub.tell(Said(sentence, "warning"))
    model = opened.load_model(checkpoint, resolve_device(device))
    data = data_of(opened, data, data_dir, hub.tell)
    document, _ = evaluate_into(
        opened, model, data, split, checkpoint, seed, hub.tell, importance_samples=importance_samples
    )
    findings = diagnose(opened, document["metrics"], hub.tell)
    document["findings"] = [finding.to_json() for finding in findings]
    for finding in findings:
        hub.tell(Found(finding))
    return document


def evaluate_into(
    run: Run,
    model: VAE,
    data: Data,
    split: str,
    checkpoint: str,
    seed: int,
    tell: Tell,
    *,
    importance_samples: int | None = None,
    must_keep: bool = False,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Evaluate a model on a split of its run's data, see ``assess``, and keep the result in the run.

    Args:
        run: The run.
        model: Its model.
        data: The run's data.
        split: Name of the split.
        checkpoint: The checkpoint whose weights the model has.
        seed: Seed of the random draws.
        tell: Called with ``Progress`` and ``Evaluated`` events, and a warning if the result cannot be kept.
        importance_samples: K of the importance-weighted bound, or None.
        must_keep: Whether a result that cannot be kept is an error.

    Returns:
        The result of ``evaluate_run`` without findings, and the values for each example by name, float64 (N,).

    Raises:
        DataError: The split is empty.
        OutputError: The result cannot be kept, but must be.
    """
    evaluation, values = assess(run, model, data, split, checkpoint, seed, tell, importance_samples=importance_samples)
    per_example = {name: [round(v, 5) for v in value.tolist()] for name, value in values.items()}
    try:
        run.add_evaluation(finite(evaluation), finite(per_example))
    except OutputError as error:
        if must_keep:
            raise
        tell(Said(f"this evaluation is not kept in {run.id}: {error.message}", "warning"))
    document = {"run": run.id, **evaluation}
    tell(Evaluated(run, document, values))
    return document, values


def assess(
    run: Run,
    model: VAE,
    data: Data,
    split: str,
    checkpoint: str,
    seed: int,
    tell: Tell,
    *,
    importance_samples: int | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Evaluate a model on data of any kind that it takes, and keep nothing.

    Args:
        run: The run of the model.
        model: The model.
        data: The data: the run's own, or others from ``runs.preparing.load_other``.
        split: Name of the split, or ``all``.
        checkpoint: The checkpoint whose weights the model has.
        seed: Seed of the random draws.
        tell: Called with ``Progress`` events.
        importance_samples: K of the importance-weighted bound, or None.

    Returns:
        The result of ``evaluate_run`` without the run and findings, and the values for each example by name, float64
        (N,).

    Raises:
        DataError: The split is empty.
    """
    from vaectl.data.joined import joined
    from vaectl.evaluation.disentanglement import disentanglement
    from vaectl.evaluation.information import information
    from vaectl.evaluation.metrics import evaluate

    # moved once: on an accelerator each move copies the whole split
    examples = joined(data, splits_of(split)).to(next(model.parameters()).device)
    if len(examples) == 0:
        raise DataError(f"--split {split}: {data.info.name} has no {split} examples")
    result = evaluate(model, examples, seed=seed, progress=_counted(tell, f"evaluating {split}", len(examples)))
    aggregate = gap = None
    if result.usage is None:  # only for vectors: a grid of codes is deterministic, and identifies its example
        counted = _counted(tell, "aggregate posterior", len(examples))
        aggregate = information(model, examples, seed=seed, progress=counted)
        gap = disentanglement(model, examples, seed=seed)
    values = {name: value.numpy() for name, value in result.per_example.items()}
    importance = None
    if importance_samples is not None:
        importance, weighted = _weighted(model, examples, importance_samples, seed, tell)
        values |= weighted
    measure, bits = _measured(run, result.per_example["elbo"])
    evaluation = {
        "split": split,
        "checkpoint": checkpoint,
        "n": len(examples),
        "seed": seed,
        "measure": measure,
        "metrics": result.metrics() | ({} if aggregate is None else aggregate.metrics()) | bits,
        "kl_per_dim": result.kl_per_dim.tolist(),
        "weights": run.weights_digest(checkpoint),
        "information": None if aggregate is None else aggregate.to_json(),
        "importance": importance,
        "disentanglement": None if gap is None else gap.to_json(),
        **({"r2": _by_column(run.data_info, result.r2)} if len(result.r2) else {}),
    }
    return evaluation, values


def kept_evaluation(run: Run, split: str, checkpoint: str) -> dict[str, Any] | None:
    """The complete evaluation of a split with the weights that the run has now, or None if there is none."""
    evaluation = run.evaluation(split, checkpoint)
    complete = evaluation is not None and len(evaluation["kl_per_dim"]) in (0, run.spec.latent_dim)
    return evaluation if complete and run.per_example(split, checkpoint) else None


def _counted(tell: Tell, what: str, total: int) -> Callable[[int], None]:
    """Report that work on ``total`` examples begins; the result is to be called with the number of finished ones."""
    tell(Progress(what, 0, total))
    return lambda done: tell(Progress(what, done, total))


def _weighted(
    model: VAE, examples: Examples, samples: int, seed: int, tell: Tell
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The importance-weighted bound as JSON, and its values for each example."""
    from vaectl.evaluation.importance import importance_bound

    progress = _counted(tell, amount(samples, "importance sample"), len(examples))
    weighted = importance_bound(model, examples, samples, seed=seed, progress=progress)
    return weighted.to_json(), {"importance_bound": weighted.bound.numpy(), "ess": weighted.ess.numpy()}


def _by_column(info: DataInfo, values: Sequence[float]) -> list[list[Any]]:
    """The name of each column and its value."""
    return [list(pair) for pair in zip(info.column_names, values, strict=True)]


def _measured(run: Run, elbo: Tensor) -> tuple[str, dict[str, float]]:
    """The measure of a run's log-probabilities and, for discrete data, bits per dimension."""
    from vaectl.evaluation.metrics import bits_per_dim
    from vaectl.model.builder import measure
    from vaectl.model.likelihoods import DISCRETE

    info = run.data_info
    name = measure(run.complete_spec(), info)
    if name not in DISCRETE:
        return name, {}
    bits, se = bits_per_dim(elbo, info.shape)
    return name, {"bits_per_dim": bits, "bits_per_dim_se": se}
