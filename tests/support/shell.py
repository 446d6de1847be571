"""What a shell offers when Tab is pressed."""

from __future__ import annotations

from typer.testing import CliRunner

from vaectl.cli import app


def complete(line: str) -> list[str]:
    """What bash is offered for the last word of a command line."""
    words = {"_VAECTL_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    result = CliRunner().invoke(app, [], prog_name="vaectl", env=words)
    assert "Traceback" not in result.output
    return result.stdout.split()
