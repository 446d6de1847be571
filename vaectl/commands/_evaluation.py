"""Evaluations made by several commands, each kept in its run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vaectl.commands._render import Screen, finite
from vaectl.commands._session import Session
from vaectl.errors import DataError
from vaectl.runs import Run

if TYPE_CHECKING:
    from vaectl.data import Data
    from vaectl.vae import VAE


def evaluate_into(
    run: Run, model: VAE, data: Data, split: str, checkpoint: str, seed: int, screen: Screen
) -> dict[str, Any]:
    """Evaluate a model on a split and keep the result in its run.

    Returns:
        ``run``, ``split``, ``checkpoint``, ``n``, ``seed``, ``metrics``, ``kl_per_dim``, ``weights`` (their digest).

    Raises:
        DataError: The split is empty.
    """
    from vaectl.metrics import evaluate

    examples = data.split(split)
    if len(examples) == 0:
        raise DataError(f"--split {split}: {run.id} held out no such examples")
    device = next(model.parameters()).device
    with screen.counting(f"evaluating {split}", len(examples)) as progress:
        result = evaluate(model, examples.to(device), seed=seed, progress=progress)
    kept = {
        "split": split,
        "checkpoint": checkpoint,
        "n": len(examples),
        "seed": seed,
        "metrics": result.metrics(),
        "kl_per_dim": result.kl_per_dim.tolist(),
        "weights": run.weights_digest(checkpoint),
    }
    per_example = {name: [round(v, 5) for v in values.tolist()] for name, values in result.per_example.items()}
    run.add_evaluation(finite(kept), finite(per_example))
    return {"run": run.id, **kept}


def evaluated(session: Session, split: str, checkpoint: str) -> dict[str, Any]:
    """The evaluation that the run keeps of a split and checkpoint; made and kept now where there is none."""
    kept = session.run.evaluation(split, checkpoint)
    whole = kept is not None and len(kept["kl_per_dim"]) in (0, session.run.spec.latent_dim)
    if kept is not None and whole and session.run.per_example(split, checkpoint):
        return kept
    return evaluate_into(session.run, session.model(checkpoint), session.data(), split, checkpoint, 0, session.screen)
