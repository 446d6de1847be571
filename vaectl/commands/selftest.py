"""``vaectl selftest``: check the estimators on models that are solved exactly, on this machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from vaectl.commands.shared.options import Device, Json, ProgressMode, Quiet, Seed, Verbose
from vaectl.commands.shared.render import Screen, print_error
from vaectl.errors import VaectlError
from vaectl.runs.lines import duration

if TYPE_CHECKING:
    from vaectl.evaluation.selftest import Check


def selftest_cli(
    device: Device = "auto",
    seed: Seed = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
    progress: ProgressMode = "auto",
) -> None:
    """Check the estimators against models whose numbers are known exactly."""
    screen = Screen(quiet, verbose, as_json, progress)
    from vaectl.evaluation import selftest
    from vaectl.system.runtime import resolve_device

    target = resolve_device(device)
    start = time.monotonic()
    results: list[Check] = []
    with screen.counting("checking", selftest.COUNT) as count:
        for check in selftest.checks(target, seed):
            results.append(check)
            screen.detail(
                f"{'ok' if check.passed else 'FAIL'}  {check.name}: {check.got:g}, expected {check.expected:g}"
            )
            count(len(results))
    seconds = time.monotonic() - start
    failed = [check.name for check in results if not check.passed]
    document = {"passed": not failed, "checks": [check.to_json() for check in results], "seconds": round(seconds, 3)}
    # the verdict comes first, so that it fits into the narrowest terminal
    columns = [("", "left"), ("check", "left"), ("expected", "right"), ("got", "right"), ("tolerance", "left")]
    summary = f"{len(results) - len(failed)} of {len(results)} passed on {target} in {duration(seconds)}"
    screen.result(
        document,
        short=f"{len(results) - len(failed)}/{len(results)}",
        text=[screen.table(columns, [_row(check) for check in results]), summary],
    )
    if failed:
        error = VaectlError(
            f"{len(failed)} of {len(results)} checks failed: {'; '.join(failed)}",
            hint="one seed in hundreds fails by chance; if --seed 1 fails too, do not trust this machine's numbers",
        )
        if not as_json:
            raise error
        # stdout already holds the document, and a second one would make it unreadable
        print_error(error, as_json=False)
        raise typer.Exit(error.exit_code)


def _row(check: Check) -> list[str]:
    expected = f">= {check.expected:g}" if check.at_least else _number(check.expected)
    tolerance = check.rule if check.rule == f"{check.tolerance:g}" else f"{check.tolerance:.2g} ({check.rule})"
    return ["ok" if check.passed else "FAIL", check.name, expected, _number(check.got), tolerance]


def _number(value: float) -> str:
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"
