"""``vaectl eval``: estimate the bound and its terms on a split, and keep them in the run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from vaectl.commands.shared.listening import Shown, say
from vaectl.commands.shared.marks import Marks
from vaectl.commands.shared.options import (
    Checkpoint,
    DataDir,
    Device,
    Force,
    Json,
    OtherDataset,
    OtherSplit,
    ProgressMode,
    Quiet,
    RunArgument,
    Seed,
    Verbose,
    check_split,
    number,
    output_option,
    state,
)
from vaectl.commands.shared.pace import Clock
from vaectl.commands.shared.plugins import Plugins, load
from vaectl.commands.shared.render import Screen
from vaectl.commands.shared.session import Session
from vaectl.config.spec import ALL, SPLITS
from vaectl.errors import UsageError, amount
from vaectl.evaluation.doctor import Finding
from vaectl.runs.evaluating import assess, evaluate_into
from vaectl.runs.lines import plus_minus
from vaectl.runs.listeners import diagnose
from vaectl.runs.run import Run
from vaectl.system.files import check_output, finite, write_json, write_output

# numbers from this size on are shown with five digits; squared errors may be in any unit
LARGE = 1e7
# columns of a table that are listed by name
SHOWN_COLUMNS = 12


def eval_cli(
    context: typer.Context,
    run: RunArgument,
    split: OtherSplit = None,
    dataset: OtherDataset = None,
    checkpoint: Checkpoint = "best",
    output: Annotated[
        Path | None,
        output_option("Also write the result as JSON.", metavar="FILE.json"),
    ] = None,
    force: Force = False,
    importance_samples: Annotated[
        int | None,
        typer.Option(
            "--importance-samples",
            metavar="K",
            parser=number(int, 1, 1_000_000),
            show_default="none",
            help="Also estimate the importance-weighted bound with K samples per example.",
        ),
    ] = None,
    per_example: Annotated[
        Path | None,
        typer.Option(
            "--per-example",
            metavar="FILE",
            readable=False,
            show_default=False,
            help="Also write the values for each example: .npz, .csv or .parquet. A low elbo marks an unusual example.",
        ),
    ] = None,
    data_dir: DataDir = None,
    plugin: Plugins = None,
    device: Device = "auto",
    seed: Seed = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
    progress: ProgressMode = "auto",
) -> None:
    """Evaluate a run: ELBO, reconstruction, KL and active units."""
    from vaectl.output import arrays

    screen = Screen(quiet, verbose, as_json, progress)
    check_split(split)
    for flag, file, formats in (("-o", output, (".json",)), ("--per-example", per_example, arrays.FORMATS)):
        if file is not None:
            check_output(file, formats, force=force, flag=flag)
            arrays.require_format(file.suffix.lower())
    if force and output is None and per_example is None:
        raise UsageError("--force without -o or --per-example has nothing to overwrite")
    load(plugin, screen)
    session = Session(Run.open(run, state(context).runs_dir), screen, device, data_dir)
    model = session.model(checkpoint)
    other = session.is_other(dataset)
    if split == ALL and not other:
        raise UsageError(
            "--split all is for --dataset; a run is evaluated on one split", hint=f"one of {', '.join(SPLITS)}"
        )
    data, split = session.examples(dataset, split)
    clock, findings = Clock(), list[Finding]()
    with Shown(screen) as listener:
        options = (session.run, model, data, split, checkpoint, seed, listener.on)
        if other:  # says nothing about the training, so it is not kept
            document, values = assess(*options, importance_samples=importance_samples)
            document = {"run": session.run.id, "dataset": data.info.name, **document}
        else:
            document, values = evaluate_into(*options, importance_samples=importance_samples)
        pace = clock.pace(document["n"])
        if not other:
            findings = diagnose(session.run, document["metrics"], listener.on)
    document |= pace.to_json()
    document["findings"] = [finding.to_json() for finding in findings]
    if output is not None:
        write_output(output, lambda path: write_json(path, finite(document)), force=force)
    if per_example is not None:
        rows = {**Marks(data, session.run.data_info.classes).of_all(split), **values}
        write_output(
            per_example, lambda path: arrays.save([rows], document["n"], path), force=force, flag="--per-example"
        )
        screen.note(f"values for each example: {per_example}")
    metrics = document["metrics"]
    whole = f"{data.info.name}, " if other else ""
    title = f"{session.run.id}  {whole}{split}, {amount(document['n'], 'example')}  {checkpoint} weights  seed {seed}"
    columns = [("metric", "left"), ("value", "right"), ("standard error", "left"), ("unit", "left")]
    table = screen.table(columns, list(_rows(document, session.run.spec.latent_dim)))
    screen.result(document, short=f"{metrics['elbo']:.4f}", text=[title, table, f"evaluated in {pace}"])
    for finding in findings:
        say(finding, screen)
    for name, factor in (document["disentanglement"] or {"factors": {}})["factors"].items():
        screen.detail(
            f"gap of {name}: {factor['gap']:.3f}; dimension {factor['dimension']} has "
            f"{factor['mutual_information']:.3f} nats of information on it"
        )
    by_dimension = ", ".join(f"{value:.3f}" for value in document["kl_per_dim"])
    screen.detail(f"kl by dimension: {by_dimension or 'none, because it does not factorise'}")


def _by_column(pairs: Sequence[tuple[str, float]]) -> Iterator[list[str]]:
    """Rows for the columns of a table, those that are explained least first."""
    order = sorted(pairs, key=lambda pair: (math.isnan(pair[1]), pair[1]))
    for name, value in order[:SHOWN_COLUMNS]:
        text = "constant" if math.isnan(value) else "of its variance is explained at the posterior mean"
        yield [f"R2 of {name}", "-" if math.isnan(value) else f"{value:.3f}", "", text]
    if len(order) > SHOWN_COLUMNS:
        yield [f"{len(order) - SHOWN_COLUMNS} further columns", "", "", f"above {order[SHOWN_COLUMNS - 1][1]:.3f}"]


def _rows(document: Mapping[str, Any], latent_dim: int) -> Iterator[list[str]]:
    """Rows of the table of an evaluation: name, value, standard error, unit."""
    metrics, measure = document["metrics"], document["measure"]

    def row(name: str, key: str, unit: str, places: int = 2) -> list[str]:
        if abs(metrics[key]) >= LARGE:
            return [name, f"{metrics[key]:.5g}", f"± {metrics[f'{key}_se']:.2g}", unit]
        return [name, f"{metrics[key]:.{places}f}", plus_minus(metrics[f"{key}_se"], places).strip(), unit]

    yield row("elbo", "elbo", f"nats, {measure}")
    yield row("recon", "recon", f"nats, {measure}")
    yield row("kl", "kl", "nats")
    uniform = f", {metrics['uniform_bits']:.1f} if all codes were equally likely" if "uniform_bits" in metrics else ""
    yield row("rate", "rate_bits", f"bits{uniform}", 1)
    yield row("recon_at_mean", "recon_at_mean", f"nats, {measure}, not a bound")
    yield row("mse", "mse", f"per {'column' if 'r2' in document else 'pixel'}, at the posterior mean", 5)
    yield from _by_column(document.get("r2", ()))
    if "bits_per_dim" in metrics:
        yield row("bits per dimension", "bits_per_dim", "bits, of the elbo", 4)
    if importance := document["importance"]:
        spread = f"nats, effective sample size {importance['ess']:.1f}"
        name = f"importance-weighted bound, K = {importance['samples']}"
        yield [name, f"{importance['bound']:.2f}", plus_minus(importance["bound_se"]).strip(), spread]
    if "codes_used" in metrics:
        yield ["codes used", str(metrics["codes_used"]), "", f"of {metrics['codes']}"]
        yield ["perplexity", f"{metrics['perplexity']:.1f}", "", "codes, if evenly used"]
        return
    yield ["active units", str(metrics["active_units"]), "", f"of {latent_dim}"]
    information = document["information"]
    limit = f", never above {information['ceiling']:.2f}"
    yield row("mutual information, at least", "mutual_information", f"nats{limit}")
    if information["examples"] > 1:
        yield row("mutual information, at most", "mutual_information_upper", "nats")
    yield row("aggregate KL", "aggregate_kl", f"nats, {amount(information['draws'], 'draw')}")
    if disentanglement := document["disentanglement"]:
        gap = f"{disentanglement['mutual_information_gap']:.3f}"
        yield ["mutual information gap", gap, "", f"from 0 to 1, mean of {len(disentanglement['factors'])} factors"]
