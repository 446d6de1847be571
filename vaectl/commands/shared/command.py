"""The class of every command: its errors and its help are in this program's own words."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand


class Command(TyperCommand):
    """A command whose errors of usage have hints, and whose help has examples."""

    # what is left over is refused here, with a hint
    allow_extra_args = True

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments.

        Raises:
            UsageError: An option is unknown, or an argument is missing or one too many.
        """
        from vaectl.commands.shared.hints import explained, surplus

        arguments, name = list(args), str(self.name)
        try:
            super().parse_args(ctx, args)
        except typer.TyperException as error:
            raise explained(error, arguments, name, self.get_params(ctx)) from error
        if ctx.args and not ctx.resilient_parsing:
            raise surplus(ctx.args[0], arguments, name, self.get_params(ctx))
        return list(ctx.args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of the command; what is rare is only named if the command has ``--help-all``."""
        from vaectl.commands.shared.help import EVERYTHING, command_page, show
        from vaectl.config.table import RARE

        options = self.get_params(ctx)
        whole = any(EVERYTHING in option.opts and ctx.params.get(option.name) for option in options)
        short = not whole and any(EVERYTHING in option.opts for option in options)
        show(command_page(str(self.name), options, RARE if short else ()), ctx, formatter)
