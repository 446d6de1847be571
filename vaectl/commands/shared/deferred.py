"""The list of the commands; each is imported when it is used, not when it is listed."""

from __future__ import annotations

import importlib
from functools import cached_property
from typing import Any

import typer
from typer.core import TyperCommand

# name -> first line of the command's help, which the list of commands shows
COMMANDS = {
    "train": "Train a VAE and save it as a new run.",
    "eval": "Evaluate a run: ELBO, reconstruction, KL and active units.",
    "sample": "Decode samples of the prior to an image grid or an array.",
    "embed": "Encode a data set to latents: posterior mean, scale, label and row of each example.",
    "plot-latent": "Plot the latent space: scatter, manifold grid or traversal.",
    "compare": "Compare two or more runs side by side: settings, metrics and pictures.",
    "runs": "List runs, or show one.",
    "selftest": "Check the estimators against models whose numbers are known exactly.",
}


# commands with a folder, whose options are in cli.py
FOLDERS = ("train", "compare")


def function_of(name: str) -> Any:
    """Import the file of a command, and return its function."""
    stem = name.replace("-", "_")
    module = f"vaectl.commands.{stem}.cli" if name in FOLDERS else f"vaectl.commands.{stem}"
    return getattr(importlib.import_module(module), f"{stem}_cli")


class Deferred(TyperCommand):
    """A command of ``COMMANDS``, whose function ``NAME_cli`` is imported once its options are needed."""

    def __init__(self, name: str) -> None:
        super().__init__(name, help=COMMANDS[name], rich_markup_mode="rich")

    @cached_property
    def command(self) -> Any:
        """The command itself, built from its function."""
        app = typer.Typer(add_completion=False, rich_markup_mode="rich")
        app.command(self.name)(function_of(str(self.name)))
        return typer.main.get_command(app)

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """The context of the command itself, which parses, completes, runs and explains, instead of this one."""
        return self.command.make_context(*arguments, **options)

    def get_params(self, ctx: Any) -> Any:
        """The options of the command itself, for the reference in ``docs/cli.md``."""
        return self.command.get_params(ctx)
