"""The option ``--plugin`` and what it loads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from vaectl.commands.shared.render import Screen
from vaectl.config.table import MACHINE
from vaectl.plugins import DIGITS, load_plugins

Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE.py",
        readable=False,
        show_default=False,
        help="Python file with parts of your own; may be given again. [env: VAECTL_PLUGINS]",
        rich_help_panel=MACHINE,
    ),
]


def load(paths: Sequence[Path] | None, screen: Screen) -> None:
    """Load the plug-ins of the flag, the environment and installed packages; errors as ``load_plugins``."""
    for plugin in load_plugins(paths or ()):
        parts = ", ".join(f"{family} '{name}'" for family, name in plugin.parts)
        screen.detail(f"plug-in {plugin.path} (sha256 {plugin.sha256[:DIGITS]}): {parts or 'registers nothing'}")
