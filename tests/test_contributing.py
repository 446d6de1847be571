"""The example in CONTRIBUTING.md is complete: once registered it keeps every contract and works in the commands."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Cli
from tests.support import contracts
from tests.support.combinations import combinations, usual
from tests.support.toys import FullPosterior
from vaectl.model.builder import FAMILIES
from vaectl.model.posteriors import POSTERIORS

LINES = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"```python\n(.+?)```", LINES, re.DOTALL)


@pytest.fixture
def example(tmp_path: Path) -> Iterator[str]:
    """The name of the example's part, while it is registered."""
    before = {family: dict(members) for family, members in FAMILIES.items()}
    file = tmp_path / "example.py"
    file.write_text(EXAMPLE, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("example", file)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    (name,) = (name for family, members in FAMILIES.items() for name in members.keys() - before[family].keys())
    yield name
    for members in FAMILIES.values():
        if isinstance(members, dict):
            members.pop(name, None)


def test_the_example_keeps_every_contract(example: str) -> None:
    """With members of all other families, none of which knows it."""
    tried = [parts for parts in combinations() if example in parts]
    assert len(tried) > len(FAMILIES)
    for parts in tried:
        for contract in (*contracts.OF_MODELS, *contracts.OF_TRAININGS):
            contract(parts)


def test_the_example_works_in_the_commands(cli: Cli, example: str, isolated: Path) -> None:
    train = ("train", "--dataset", "digits", "--hidden-dims", 8, "--epochs", 1, "--likelihood", example)
    for line in (
        (*train, "--set", "likelihood.sigma=0.1"),
        ("train", "--resume", "run1", "--epochs", 2),
        ("eval", "run1"),
        ("sample", "run1", "-o", "samples.png"),
        ("embed", "run1", "-o", "codes.npz"),
    ):
        result = cli(*line, "-q")
        assert result.exit_code == 0, result.output
    config = json.loads((isolated / "runs" / "run1" / "config.json").read_text())
    assert config["likelihood"] == {"name": example, "sigma": 0.1}
    refused = cli(*train, "--set", "likelihood.sigma=0")
    assert refused.exit_code == 2
    assert "likelihood.sigma" in refused.stderr


def test_a_posterior_is_combined_by_being_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what it gives, and without an objective that needs it to factorise, which it does not."""
    monkeypatch.setitem(POSTERIORS, "full", FullPosterior)
    tried = [parts for parts in combinations() if parts[1] == "full"]
    assert usual("full") in tried
    assert {parts[4] for parts in tried} >= {"elbo", "iwae"}
    assert "tc" not in {parts[4] for parts in tried}
    for contract in contracts.OF_MODELS:
        contract(usual("full"))
