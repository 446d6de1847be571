"""The app: registers the commands, and is the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vaectl import __version__
from vaectl.commands._options import State
from vaectl.commands._render import print_error
from vaectl.commands.compare import compare_cli
from vaectl.commands.embed import embed_cli
from vaectl.commands.eval import eval_cli
from vaectl.commands.plot_latent import plot_latent_cli
from vaectl.commands.runs import runs_cli
from vaectl.commands.sample import sample_cli
from vaectl.commands.train import train_cli
from vaectl.errors import UsageError, VaectlError


class Boundary(TyperGroup):
    """The group whose ``main`` turns every error into ``error:`` and ``hint:`` lines and the right exit code."""

    def main(self, args: Any = None, *positional: Any, **extra: Any) -> Any:
        """Run the command line and exit the process."""
        given = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in given or os.environ.get("VAECTL_DEBUG", "") not in ("", "0")
        with contextlib.suppress(ValueError):  # off the main thread the caller owns the signals
            signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
        try:
            code = super().main(given, *positional, **{**extra, "standalone_mode": False})
            sys.exit(code if isinstance(code, int) else 0)
        except VaectlError as caught:
            error = caught
        except typer.Abort:
            error = VaectlError("interrupted")
            error.exit_code = 130
        except KeyboardInterrupt:
            error = VaectlError("interrupted")
            error.exit_code = 130
        except typer.TyperException as caught:
            error = UsageError(caught.format_message())
        except BrokenPipeError:
            # the reader of stdout has left; writing there again at exit would raise again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except Exception as caught:
            if debug:
                raise
            error = VaectlError(
                f"internal error: {type(caught).__name__}: {caught}", hint="run it again with --debug for the traceback"
            )
        if debug:
            raise error
        print_error(error, as_json="--json" in given)
        sys.exit(error.exit_code)


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
        typer.Option("--runs-dir", metavar="DIR", envvar="VAECTL_RUNS_DIR", help="Folder of all runs."),
    ] = Path("runs"),
    debug: Annotated[
        bool, typer.Option("--debug", envvar="VAECTL_DEBUG", help="Show tracebacks instead of error lines.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train, evaluate, sample and compare variational autoencoders."""
    context.obj = State(runs_dir)


app.command("train")(train_cli)
app.command("eval")(eval_cli)
app.command("sample")(sample_cli)
app.command("embed")(embed_cli)
app.command("plot-latent")(plot_latent_cli)
app.command("compare")(compare_cli)
app.command("runs")(runs_cli)
