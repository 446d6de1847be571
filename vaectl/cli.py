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
from vaectl.system.signals import Signalled, listening

TRUE = ("1", "true", "yes", "on", "y", "t")


class Boundary(TyperGroup):
    """The group of commands, whose ``main`` turns every error into ``error:`` and ``hint:`` lines and an exit code."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"commands": {name: Deferred(name) for name in COMMANDS}})

    def main(self, args: Any = None, *positional: Any, **extra: Any) -> Any:
        """Run the command line and exit the process; of several processes one has the screen, and may lose it."""
        follows = here().rank > 0
        with listening() as listener:
            given = list(sys.argv[1:] if args is None else args)
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, io.TextIOWrapper) and not (stream.encoding or "").lower().startswith("utf"):
                    stream.reconfigure(errors="replace")
            caught: BaseException
            try:
                with silenced() if follows else contextlib.nullcontext():
                    code = super().main(given, *positional, **{**extra, "standalone_mode": False, "obj": given})
                sys.stdout.flush()
                listener.deaf = True
                if listener.signum is None or not code:
                    sys.exit(code if isinstance(code, int) else 0)
                caught = Signalled(listener.signum)  # typer made an exit code of it
            except (Exception, KeyboardInterrupt) as raised:
                listener.deaf = True
                caught = raised
                if "--debug" in given or os.environ.get("VAECTL_DEBUG", "").lower() in TRUE:
                    traceback.print_exc()
            error = _as_error(caught, listener.signum)
            from vaectl.commands.shared.render import (
                print_error,  # with rich, which completion and --version do without
            )

            try:
                mute = follows and not (isinstance(error, LostError) and error.told)
                if not mute and not isinstance(caught, BrokenPipeError):
                    print_error(error, as_json="--json" in given)
                sys.stdout.flush()
            except OSError:
                # nobody reads stdout, or it is full; the interpreter would try again, and complain, at exit
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(error.exit_code)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Within the block nothing that is printed is seen."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):  # noqa: PTH123
        yield


def _as_error(caught: BaseException, signum: int | None) -> VaectlError:
    """What a person is told of an exception, after a signal if one came."""
    if isinstance(caught, InterruptedRunError | LostError):
        return caught
    if signum is not None or isinstance(caught, typer.Abort | KeyboardInterrupt):
        # whatever else was caught, the signal may have been its cause
        name = "terminated" if signum == signal.SIGTERM else "interrupted"
        return InterruptedRunError(name, signum=signum or signal.SIGINT)
    if isinstance(caught, VaectlError):
        return caught
    if isinstance(caught, typer.TyperException):
        return UsageError(caught.format_message())
    if isinstance(caught, OSError):
        return VaectlError(f"{caught.filename or 'cannot write'}: {caught.strerror or caught}")
    return VaectlError(
        f"internal error: {type(caught).__name__}: {caught}", hint="run it again with --debug for the traceback"
    )


app = typer.Typer(
    cls=Boundary,
    name="vaectl",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train, evaluate, sample and compare variational autoencoders.",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _show_version(wanted: bool) -> None:
    if wanted:
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
            f"vaectl {context.invoked_subcommand} is for one process; there are {here().world}",
            hint="run it without torchrun",
        )
    context.obj = State(runs_dir, argv=tuple(context.obj))
