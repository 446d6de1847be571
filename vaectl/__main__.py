"""``python -m vaectl``, which is also what torchrun starts."""

from vaectl.cli import app

app()
