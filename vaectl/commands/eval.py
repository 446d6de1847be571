"""``vaectl eval``: the bound and its terms on a split, printed, and kept in the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaectl.commands._options import (
    Checkpoint,
    DataDir,
    Device,
    Force,
    Json,
    ProgressMode,
    Quiet,
    RunArgument,
    Seed,
    SplitName,
    Verbose,
    state,
)
from vaectl.commands._render import Screen, finite, plus_minus
from vaectl.commands._session import Session, check_choice
from vaectl.errors import DataError
from vaectl.files import check_output, write_json
from vaectl.runs import Run
from vaectl.spec import SPLITS

if TYPE_CHECKING:
    from vaectl.data import Data
    from vaectl.vae import VAE


def eval_cli(
    context: typer.Context,
    run: RunArgument,
    split: SplitName = "test",
    checkpoint: Checkpoint = "best",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE.json",
            readable=False,
            show_default=False,
            help="Write the result as JSON too.",
        ),
    ] = None,
    force: Force = False,
    data_dir: DataDir = None,
    device: Device = "auto",
    seed: Seed = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
    progress: ProgressMode = "auto",
) -> None:
    """ELBO, reconstruction, KL and active units of a run."""
    screen = Screen(quiet, verbose, as_json, progress)
    check_choice("--split", split, SPLITS)
    if output is not None:
        check_output(output, (".json",), force=force)
    session = Session(Run.open(run, state(context).runs_dir), screen, device, data_dir)
    model = session.model(checkpoint)
    data = session.data()
    document = evaluate_into(session.run, model, data, split, checkpoint, seed, screen)
    if output is not None:
        write_json(output, finite(document))
    metrics = document["metrics"]
    rows = [
        [name, f"{metrics[name]:.2f}", plus_minus(metrics[f"{name}_se"]).strip(), unit]
        for name, unit in (("elbo", "nats"), ("recon", "nats"), ("kl", "nats"), ("recon_at_mean", "nats, no bound"))
    ]
    rows.append(["active units", str(metrics["active_units"]), "", f"of {session.run.spec.latent_dim}"])
    title = f"{session.run.id}  {split}, {document['n']} examples  {checkpoint} weights  seed {seed}"
    columns = [("metric", "left"), ("value", "right"), ("standard error", "left"), ("unit", "left")]
    screen.result(document, short=f"{metrics['elbo']:.4f}", text=[title, screen.table(columns, rows)])
    screen.detail(f"kl by dimension: {', '.join(f'{value:.3f}' for value in document['kl_per_dim'])}")


def evaluate_into(
    run: Run, model: VAE, data: Data, split: str, checkpoint: str, seed: int, screen: Screen
) -> dict[str, Any]:
    """Evaluate a model on a split and keep the result in its run.

    Returns:
        ``run``, ``split``, ``checkpoint``, ``n``, ``seed``, ``metrics`` and ``kl_per_dim``.

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
