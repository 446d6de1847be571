"""``vaectl train``: turn flags into a spec, and train a new run or resume one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vaectl.commands.shared.listening import Shown
from vaectl.commands.shared.options import (
    Device,
    Json,
    ProgressMode,
    Quiet,
    Verbose,
    complete_run,
    number,
    state,
)
from vaectl.commands.shared.plugins import Plugins, load
from vaectl.commands.shared.render import Screen
from vaectl.commands.train.flags import with_settings
from vaectl.commands.train.new import train
from vaectl.commands.train.resume import refuse_others, resume
from vaectl.config.settings import Layer, parse_assignments, read_config, resolve
from vaectl.config.table import DATA
from vaectl.data.location import place_to_train
from vaectl.errors import UsageError
from vaectl.runs.catalog import check_name
from vaectl.runs.processes import follow, leading
from vaectl.runs.run import Run
from vaectl.system.launcher import here

RUN = "Run"


def _explain_all(context: typer.Context, requested: bool) -> None:
    """Print the help with every option explained, and end."""
    if requested:
        context.params["help_all"] = True
        typer.echo(context.get_help(), color=context.color)
        raise typer.Exit


HelpAll = Annotated[
    bool,
    typer.Option(
        "--help-all", callback=_explain_all, is_eager=True, expose_value=False, help="Explain every option, and exit."
    ),
]


@with_settings({"data_dir": ["dataset"], "quiet": ["seed"]}, rest="name")
def train_cli(
    context: typer.Context,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            readable=False,
            show_default="data",
            help="Folder of data sets, in torchvision's layout. [env: VAECTL_DATA_DIR]",
            rich_help_panel=DATA,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="ID", show_default="run<N>", help="Id of the run.", rich_help_panel=RUN),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            readable=False,
            show_default=False,
            help="Settings from a .toml or .json file, such as config.json of a run.",
            rich_help_panel=RUN,
        ),
    ] = None,
    from_run: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN",
            show_default=False,
            autocompletion=complete_run,
            help="Start from the settings, not the weights, of another run.",
            rich_help_panel=RUN,
        ),
    ] = None,
    resume_run: Annotated[
        str | None,
        typer.Option(
            "--resume",
            metavar="RUN",
            show_default=False,
            autocompletion=complete_run,
            help="Continue a run from its last checkpoint; only --epochs, --prior-epochs and --patience may change.",
            rich_help_panel=RUN,
        ),
    ] = None,
    checkpoint_minutes: Annotated[
        float,
        typer.Option(
            "--checkpoint-minutes",
            metavar="X",
            parser=number(float, 0, 100_000),
            help="Minutes between checkpoints within an epoch; each epoch also ends with one.",
            rich_help_panel=RUN,
        ),
    ] = 5.0,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PART.OPTION=VALUE",
            show_default=False,
            help="Set any option of any part; may be given again.",
            rich_help_panel=RUN,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Load the data, show settings and model, and stop.", rich_help_panel=RUN),
    ] = False,
    plugin: Plugins = None,
    device: Device = "auto",
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
    progress: ProgressMode = "auto",
    help_all: HelpAll = False,
    **settings: Any,
) -> None:
    """Train a VAE and save it as a new run."""
    place = here()
    if place.rank:
        follow(place, data_dir, Shown(Screen(quiet, verbose, as_json, progress)).on, plugin or ())
        return
    with leading(place) as processes:
        screen = Screen(quiet, verbose, as_json, progress)
        runs_dir, argv = state(context).runs_dir, state(context).argv
        load(plugin, screen)
        # a switch that is absent may be False
        given = {key: value for key, value in settings.items() if value is not None and value is not False}
        if resume_run is not None:
            others = {"set": assignments, "name": name, "config": config, "from": from_run, "dry_run": dry_run or None}
            refuse_others(resume_run, given | {key: value for key, value in others.items() if value is not None})
            resume(resume_run, given, screen, runs_dir, data_dir, device, argv, checkpoint_minutes, processes)
            return
        assigned = parse_assignments(assignments or [])
        for key in assigned:
            if key.replace("-", "_") in given:
                raise UsageError(f"--{key.replace('_', '-')} and --set {key} set the same option")

        def flag_of(key: str) -> str:
            return f"--{key.replace('_', '-')}" if key in given else f"--set {key}"

        layers = [Layer("flag", {**given, **assigned}, flag_of)]
        if config is not None:
            layers.append(read_config(config))
        if from_run is not None:
            parent = Run.open(from_run, runs_dir)
            for sentence in parent.check_plugins():
                screen.warn(sentence)
            layers.append(Layer("from", parent.spec.flat(), lambda key: f"{key} of {parent.id}"))
        resolved = resolve(layers)
        resolved.check()
        if name is not None:
            check_name(name, runs_dir)
        place_to_train(resolved.spec.data.name, data_dir)
        train(resolved, screen, runs_dir, name, data_dir, device, argv, checkpoint_minutes, processes, dry_run=dry_run)
