"""``vaectl eval``: the bound and its terms on a split, printed, and kept in the run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vaectl.commands._evaluation import evaluate_into
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
    output_option,
    state,
)
from vaectl.commands._render import Screen, finite, plus_minus
from vaectl.commands._session import Session, check_choice, check_destination
from vaectl.files import write_json
from vaectl.runs import Run
from vaectl.spec import SPLITS


def eval_cli(
    context: typer.Context,
    run: RunArgument,
    split: SplitName = "test",
    checkpoint: Checkpoint = "best",
    output: Annotated[
        Path | None,
        output_option("Write the result as JSON too.", metavar="FILE.json"),
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
    check_destination(output, (".json",), force=force)
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
