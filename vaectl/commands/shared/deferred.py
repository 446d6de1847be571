"""The list of the commands; each is imported when it is used, not when it is listed."""

from __future__ import annotations

import importlib
from functools import cached_property
from typing import Any

import typer
from typer.core import TyperCommand

from vaectl.commands.shared.command import Command

# name -> first line of the command's help, which the list of commands shows
COMMANDS = {
    "train": "Train a VAE and save it as a new run.",
    "eval": "Evaluate a run: ELBO, reconstruction, KL and active units.",
    "compare": "Compare two or more runs side by side: settings, metrics and pictures.",
    "selftest": "Check the estimators against models whose numbers are known exactly.",
    "sample": "Decode samples of the prior to an image grid or an array.",
    "reconstruct": "Reconstruct your own images or rows, with the bound of each.",
    "decode": "Decode codes to images or rows, in the form and units of the data.",
    "edit": "Edit examples along attribute vectors, found from labels or factors.",
    "embed": "Encode a data set to latents: posterior mean, scale, label and row of each example.",
    "score": "Score how unusual examples are, with p-values from the run's validation split, and flag anomalies.",
    "plot-latent": "Plot the latent space: scatter, manifold grid or traversal.",
    "runs": "List runs, or show one.",
}

# the panels in which the help lists them
PANELS = {
    "Train": ("train",),
    "Judge": ("eval", "compare", "selftest"),
    "Use": ("sample", "reconstruct", "decode", "edit", "embed", "score"),
    "See": ("plot-latent", "runs"),
}

# examples in the help of each command, and in that of the program
EXAMPLES = {
    "": (
        "vaectl train --latent-dim 2 --warmup-epochs 10",
        "vaectl plot-latent latest --kind manifold",
        "vaectl eval latest",
    ),
    "train": (
        "vaectl train --latent-dim 2 --warmup-epochs 10",
        "vaectl train --dataset photos --network conv --dry-run",
        "vaectl train --from run1 --beta 4",
        "vaectl train --resume run1 --epochs 60",
    ),
    "eval": ("vaectl eval run1", "vaectl eval run1 --importance-samples 100 --json"),
    "sample": ("vaectl sample run1", "vaectl sample run1 --reconstruct -n 32 -f -o pairs.png"),
    "reconstruct": ("vaectl reconstruct run1", "vaectl reconstruct run1 photos -f -o out"),
    "decode": ("vaectl decode run1 --z 0.5,-1.2", "vaectl decode run1 codes.csv -f -o out"),
    "edit": ("vaectl edit run1 --add 7:1", "vaectl edit run1 photos --add smiling:1.5 -f -o out"),
    "embed": ("vaectl embed run1", "vaectl embed run1 --split all -f -o codes.csv"),
    "score": ("vaectl score run1 photos --threshold fpr=0.01", "vaectl score run1 photos --maps maps -f -o scores.csv"),
    "plot-latent": ("vaectl plot-latent run1", "vaectl plot-latent run1 --kind manifold -f -o map.png"),
    "compare": ("vaectl compare run1 run2", "vaectl compare run1 run2 -f -o report.html"),
    "runs": ("vaectl runs --sort elbo", "vaectl runs latest"),
    "selftest": ("vaectl selftest",),
}


# commands with a folder, whose options are in cli.py
FOLDERS = ("train", "compare", "sample", "plot-latent", "score")


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
        app.command(self.name, cls=Command)(function_of(str(self.name)))
        return typer.main.get_command(app)

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """The context of the command itself, which parses, completes, runs and explains, instead of this one."""
        return self.command.make_context(*arguments, **options)
