"""A new run: from what was asked for to data, model and run folder, and then its training."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vaectl.commands.shared.data import show, shown_report
from vaectl.commands.shared.doctor import say
from vaectl.commands.shared.render import Screen, setting_text
from vaectl.commands.shared.session import load_data
from vaectl.commands.train.processes import gather
from vaectl.config.settings import Resolved
from vaectl.errors import SettingError, VaectlError
from vaectl.evaluation.doctor import forecast
from vaectl.runs.run import Run

if TYPE_CHECKING:
    from vaectl.model.vae import VAE
    from vaectl.parallel.distributed import Processes


def train(
    resolved: Resolved,
    screen: Screen,
    runs_dir: Path,
    name: str | None,
    directory: Path,
    device_name: str,
    argv: Sequence[str],
    checkpoint_minutes: float,
    processes: Processes | None = None,
    *,
    dry_run: bool,
) -> None:
    """Train as resolved, into a new run; or with ``dry_run`` only show what would be trained.

    Of several ``processes`` this one leads.

    Raises:
        DivergedError: A loss was not finite.
        InterruptedRunError: A signal came; what was done so far is saved.
        LostError: Another process failed.
    """
    from vaectl.commands.train.run import kept, train_run
    from vaectl.model import builder
    from vaectl.parallel.distributed import Processes
    from vaectl.system.runtime import resolve_device, versions
    from vaectl.training.trainer import prepare

    processes = processes or Processes()
    try:
        spec = builder.complete(resolved.spec)
    except SettingError as error:
        raise resolved.named(error) from None
    device = processes.device(resolve_device(device_name))
    for finding in forecast(spec):
        say(finding, screen)
    try:
        data = load_data(spec.data, directory, screen)
        if spec.data.name == "auto":
            # what auto came to is what the run's config must say, for it to repeat the run
            spec = dataclasses.replace(spec, data=dataclasses.replace(spec.data, name=data.info.name))
        report = shown_report(data, screen, dry_run=dry_run)
        try:
            trained = prepare(spec, data, device)
        except VaectlError:
            if dry_run and report is not None:
                # it says what would fit, and there will be no result that shows it
                show(report, screen)
            raise
    except SettingError as error:
        raise resolved.named(error) from None
    parameters = sum(parameter.numel() for parameter in trained.model.parameters())
    sizes = data.info.sizes
    title = (
        f"{data.info.name} {sizes['train']}/{sizes['validation']}  "
        f"{_layers(spec.encoder.name, trained.model)}  "
        f"{parameters:,} parameters  {spec.likelihood.name}  {device}  seed {spec.training.seed}"
        + (f"  {processes.world} processes" if processes.world > 1 else "")
    )
    sources = {path: resolved.sources.get(path, "default") for path in spec.flat()}
    if dry_run:
        document = {
            "config": spec.to_json(), "sources": sources, "dataset": data.info.to_json(), "parameters": parameters,
            "report": None if report is None else report.to_json(),
        }  # fmt: skip
        rows = [[path, setting_text(value), sources[path]] for path, value in spec.flat().items()]
        settings = screen.table([("setting", "left"), ("value", "left"), ("source", "left")], rows)
        found = screen.table([("data", "left"), ("", "left")], [] if report is None else [*map(list, report.rows())])
        screen.result(document, short=str(parameters), text=[title, found, settings])
        return
    gather(processes, spec, data.info, directory, trained)
    run = Run.create(
        runs_dir,
        name,
        {
            "argv": list(argv),
            "config": spec.to_json(),
            "sources": sources,
            "dataset": data.info.to_json(),
            "data_directory": str(directory.resolve()),
            "versions": versions(),
            "git_commit": _git_commit(),
            "device": str(device),
            "parameters": parameters,
        },
    )
    with kept(run):
        screen.note(f"{run.id}  {title}", "bold")
        run.log(f"{run.id}  {title}")
        screen.detail(f"files: {run.path}")
        for path, value in spec.flat().items():
            screen.detail(f"  {path} = {setting_text(value)} ({sources[path]})")
        train_run(run, trained, data, screen, checkpoint_minutes, processes)


def _layers(name: str, model: VAE) -> str:
    """The encoder from the data to the latent: ``mlp 784-512-256-2``, or ``conv 1x28x28-32-64-2`` by its channels."""
    space = model.space
    codes = f", {'x'.join(map(str, space.grid))} of {space.codebook_size} codes" if space.codebook_size else ""
    return f"{name} {model.encoder.network.describe()}-{space.shape[0]}{codes}"


def _git_commit() -> str | None:
    """The commit that the working directory is at, or None outside a git checkout."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
