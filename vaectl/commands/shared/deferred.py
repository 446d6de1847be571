"""The list of the commands, each imported when it is used and not when it is listed."""

from __future__ import annotations

import importlib
from functools import cached_property
from typing import Any

import typer
from typer.core import TyperCommand

# name -> the line that the list of commands shows, which is that of the command's own help
COMMANDS = {
    "train": "Train a VAE and save it as a new run.",
    "eval": "ELBO, reconstruction, KL and active units of a run.",
    "sample": "Decode samples of the prior to an image grid or an array.",
    "embed": "Encode a data set to latent codes: posterior mean, scale, label and row of each example.",
    "plot-latent": "Scatter, manifold grid or traversal of the latent space.",
    "compare": "Settings, metrics and pictures of two or more runs, side by side.",
    "runs": "List runs, or show one.",
    "selftest": "Check the estimators against models whose numbers are known exactly.",
}


# commands of more than one file; their own options are in cli.py
FOLDERS = ("train", "compare")


def function_of(name: str) -> Any:
    """The function of a command, whose file is imported for it."""
    stem = name.replace("-", "_")
    module = f"vaectl.commands.{stem}.cli" if name in FOLDERS else f"vaectl.commands.{stem}"
    return getattr(importlib.import_module(module), f"{stem}_cli")


class Deferred(TyperCommand):
    """A command of ``COMMANDS`` by its name; its options come from ``NAME_cli`` of its file once they are asked for."""

    def __init__(self, name: str) -> None:
        super().__init__(name, help=COMMANDS[name], rich_markup_mode="rich")

    @cached_property
    def command(self) -> Any:
        """The command itself, built from its function."""
        app = typer.Typer(add_completion=False, rich_markup_mode="rich")
        app.command(self.name)(function_of(str(self.name)))
        return typer.main.get_command(app)

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """The context of the command itself: what is parsed, completed, invoked and explained is never this one."""
        return self.command.make_context(*arguments, **options)

    def get_params(self, ctx: Any) -> Any:
        """The options of the command itself, for the reference in ``docs/cli.md``."""
        return self.command.get_params(ctx)
