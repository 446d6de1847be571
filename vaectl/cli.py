"""The app: registers the commands, and turns an error into a line and an exit code."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vaectl import __version__
from vaectl.commands.shared.deferred import COMMANDS, Deferred
from vaectl.commands.shared.state import State
from vaectl.errors import InterruptedRunError, LostError, UsageError, VaectlError
from vaectl.system.launcher import here
from vaectl.system.signals import OUTCOMES, Signalled, listening
from vaectl.system.streams import lasting
from vaectl.system.text import harmless

TRUE = ("1", "true", "yes", "on", "y", "t")


class Boundary(TyperGroup):
    """The group of commands, whose ``main`` turns every error into ``error:`` and ``hint:`` lines and an exit code."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"commands": {name: Deferred(name) for name in COMMANDS}})

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options before the command.

        Raises:
            UsageError: One of them is unknown.
        """
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help(), color=ctx.color)
            raise typer.Exit(UsageError.exit_code)
        try:
            return super().parse_args(ctx, args)
        except typer.TyperException as error:
            from vaectl.commands.shared.hints import explained_before

            raise explained_before(error, self.get_params(ctx)) from error

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command, its name and its arguments; ``help NAME`` stands for ``NAME --help``.

        Raises:
            UsageError: There is no such command.
        """
        if args[0] == "help":
            topic = next((text for text in args[1:] if not text.startswith("-")), None)
            if topic is None:
                typer.echo(ctx.get_help(), color=ctx.color)
                raise typer.Exit
            args = [topic, "--help"]
        if args[0] not in self.commands and not ctx.resilient_parsing:
            from vaectl.commands.shared.hints import unknown_command

            raise unknown_command(args[0], tuple(self.commands), args[1:])
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of the program."""
        from vaectl.commands.shared.help import app_page, show

        show(app_page(str(self.help), self.get_params(ctx)), ctx, formatter)

    def main(self, args: Any = None, *positional: Any, **extra: Any) -> Any:
        """Run the command line and exit the process; of several processes only the first one prints."""
        follows = here().rank > 0
        arguments = list(sys.argv[1:] if args is None else args)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper) and not (stream.encoding or "").lower().startswith("utf"):
                stream.reconfigure(errors="replace")
        with listening() as listener, lasting() as (out, err):
            failure: BaseException
            try:
                with silenced() if follows else contextlib.nullcontext():
                    code = super().main(arguments, *positional, **{**extra, "standalone_mode": False, "obj": arguments})
                listener.deaf = True
                if listener.signum is None or not code:
                    out.check()
                    sys.exit(code if isinstance(code, int) else 0)
                failure = Signalled(listener.signum)  # typer turned it into an exit code
            except (Exception, KeyboardInterrupt) as raised:
                listener.deaf = True
                failure = raised
                if "--debug" in arguments or os.environ.get("VAECTL_DEBUG", "").lower() in TRUE:
                    err.writelines(f"{harmless(line)}\n" for line in traceback.format_exc().splitlines())
            error = _as_error(failure, listener.signum)
            from vaectl.commands.shared.render import (
                print_error,  # imports rich, which completion and --version do not need
            )

            if not follows or (isinstance(error, LostError) and error.told):
                print_error(error, as_json="--json" in arguments)
            sys.exit(error.exit_code)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Discard all that is printed within the block."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):  # noqa: PTH123
        yield


def _as_error(failure: BaseException, signum: int | None) -> VaectlError:
    """The error that is shown for an exception, or for the signal if one came."""
    if isinstance(failure, InterruptedRunError | LostError):
        return failure
    if signum is not None or isinstance(failure, typer.Abort | KeyboardInterrupt):
        # whatever else was failure, the signal may have been its cause
        signum = signum or signal.SIGINT
        return InterruptedRunError(OUTCOMES[signal.Signals(signum)], signum=signum)
    if isinstance(failure, VaectlError):
        return failure
    if isinstance(failure, typer.TyperException):
        return UsageError(failure.format_message())
    if isinstance(failure, OSError):
        return VaectlError(f"{failure.filename or 'cannot write'}: {failure.strerror or failure}")
    return VaectlError(
        f"internal error: {type(failure).__name__}: {' '.join(str(failure).split())}",
        hint="run it again with --debug for the traceback",
    )


app = typer.Typer(
    cls=Boundary,
    name="vaectl",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train, evaluate, sample and compare variational autoencoders.",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _show_version(requested: bool) -> None:
    if requested:
        typer.echo(f"vaectl {__version__}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    runs_dir: Annotated[
        Path,
        typer.Option("--runs-dir", metavar="DIR", readable=False, envvar="VAECTL_RUNS_DIR", help="Folder of all runs."),
    ] = Path("runs"),
    debug: Annotated[
        bool, typer.Option("--debug", envvar="VAECTL_DEBUG", help="Show tracebacks instead of error lines.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train, evaluate, sample and compare variational autoencoders."""
    if here().world > 1 and context.invoked_subcommand != "train":
        raise UsageError(
            f"vaectl {context.invoked_subcommand} runs in one process; there are {here().world}",
            hint="run it without torchrun",
        )
    context.obj = State(runs_dir, argv=tuple(context.obj))
