"""Evaluations made by several commands, each kept in its run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vaectl.commands.shared.render import Screen, finite
from vaectl.commands.shared.session import Session
from vaectl.errors import DataError
from vaectl.runs.run import Run

if TYPE_CHECKING:
    import numpy as np

    from vaectl.data.base import Data
    from vaectl.model.vae import VAE


def evaluate_into(
    run: Run,
    model: VAE,
    data: Data,
    split: str,
    checkpoint: str,
    seed: int,
    screen: Screen,
    *,
    importance_samples: int | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Evaluate a model on a split and keep the result in its run.

    Returns:
        The result: ``run``, ``split``, ``checkpoint``, ``n``, ``seed``, ``measure``, ``metrics``, ``kl_per_dim``,
        ``weights`` (their digest), ``information``, ``importance`` and ``disentanglement`` (or None each); and
        per-example values by name, float64 (N,).

    Raises:
        DataError: The split is empty.
    """
    from vaectl.evaluation.disentanglement import disentanglement
    from vaectl.evaluation.importance import importance_bound
    from vaectl.evaluation.information import information
    from vaectl.evaluation.metrics import bits_per_dim, evaluate
    from vaectl.model.builder import measure
    from vaectl.model.likelihoods import DISCRETE

    # moved once: on an accelerator each move copies the whole split
    examples = data.split(split).to(next(model.parameters()).device)
    if len(examples) == 0:
        raise DataError(f"--split {split}: {run.id} held out no such examples")
    with screen.counting(f"evaluating {split}", len(examples)) as progress:
        result = evaluate(model, examples, seed=seed, progress=progress)
    codes = gap = None
    if result.usage is None:  # what follows is asked of vectors: a grid of codes is certain, and names its example
        with screen.counting("aggregate posterior", len(examples)) as progress:
            codes = information(model, examples, seed=seed, progress=progress)
        gap = disentanglement(model, examples, seed=seed)
    values = {name: value.numpy() for name, value in result.per_example.items()}
    importance = None
    if importance_samples is not None:
        with screen.counting(f"{importance_samples} importance samples", len(examples)) as progress:
            weighted = importance_bound(model, examples, importance_samples, seed=seed, progress=progress)
        importance = weighted.to_json()
        values |= {"importance_bound": weighted.bound.numpy(), "ess": weighted.ess.numpy()}
    info = run.data_info
    measured = measure(run.complete_spec(), info)
    metrics = result.metrics() | ({} if codes is None else codes.metrics())
    if measured in DISCRETE:
        metrics["bits_per_dim"], metrics["bits_per_dim_se"] = bits_per_dim(result.per_example["elbo"], info.shape)
    kept = {
        "split": split,
        "checkpoint": checkpoint,
        "n": len(examples),
        "seed": seed,
        "measure": measured,
        "metrics": metrics,
        "kl_per_dim": result.kl_per_dim.tolist(),
        "weights": run.weights_digest(checkpoint),
        "information": None if codes is None else codes.to_json(),
        "importance": importance,
        "disentanglement": None if gap is None else gap.to_json(),
    }
    per_example = {name: [round(v, 5) for v in value.tolist()] for name, value in values.items()}
    run.add_evaluation(finite(kept), finite(per_example))
    return {"run": run.id, **kept}, values


def kept_evaluation(run: Run, split: str, checkpoint: str) -> dict[str, Any] | None:
    """The evaluation that a run keeps of a split and of the weights it holds now, or None where it is not whole."""
    kept = run.evaluation(split, checkpoint)
    whole = kept is not None and len(kept["kl_per_dim"]) in (0, run.spec.latent_dim)
    return kept if whole and run.per_example(split, checkpoint) else None


def evaluated(session: Session, split: str, checkpoint: str) -> dict[str, Any]:
    """The evaluation that the run keeps of a split and checkpoint; made and kept now where there is none."""
    kept = kept_evaluation(session.run, split, checkpoint)
    if kept is not None:
        return kept
    model, data = session.model(checkpoint), session.data()
    return evaluate_into(session.run, model, data, split, checkpoint, 0, session.screen)[0]
