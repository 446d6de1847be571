"""Names as values: completion offers them in every command, and they are taken in upper or lower case."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.conftest import REPOSITORY, Cli
from tests.support.shell import complete
from vaectl.cli import app
from vaectl.config.spec import SPLITS
from vaectl.config.table import SETTINGS, Setting

NAMED = [pytest.param(setting, id=setting.name) for setting in SETTINGS if setting.choices]


@pytest.mark.parametrize("setting", NAMED)
def test_names_of_a_setting_are_offered(setting: Setting) -> None:
    assert complete(f"vaectl train {setting.flag} ") == list(setting.choices)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("vaectl train --model vq", ["vq-vae"]),
        ("vaectl train --likelihood c", ["continuous-bernoulli", "categorical"]),
        ("vaectl train --dataset ./photos", []),  # which leaves files to the shell
        ("vaectl train --latent-dim ", []),
        ("vaectl train --progress ", ["auto", "bar", "plain", "none"]),
        ("vaectl eval --split ", [*SPLITS, "all"]),
        ("vaectl eval --checkpoint ", ["best", "last"]),
        ("vaectl eval --device ", ["auto", "cpu", "cuda", "mps"]),
        ("vaectl sample --mode m", ["mean", "mode"]),
        ("vaectl embed --split ", [*SPLITS, "all"]),
        ("vaectl embed --dataset d", ["digits"]),
        ("vaectl plot-latent --kind ", ["scatter", "manifold", "traversal", "codes"]),
        ("vaectl runs --sort ", ["id", "elbo", "time"]),
        ("vaectl compare --device c", ["cpu", "cuda"]),
        ("vaectl selftest --progress n", ["none"]),
    ],
)
def test_names_that_begin_with_the_word_are_offered(line: str, offered: list[str]) -> None:
    assert complete(line) == offered


def test_data_sets_and_parts_are_named_in_any_case(cli: Cli, runs: Path) -> None:
    assert cli("embed", "run1", "--dataset", "DIGITS", "-q").exit_code == 0
    result = cli("train", "--dataset", "Digits", "--model", "VAE", "--likelihood", "MSE", "--dry-run", "--json")
    config = json.loads(result.stdout)["config"]
    assert (config["data"]["name"], config["model"], config["likelihood"]["name"]) == ("digits", "vae", "mse")


# --- what others wrote ------------------------------------------------------------------------------------------------

# a text that some shell would run, or that Typer takes for markup
HOSTILE = (
    "./\\$(touch ran)",
    "`touch ran`",
    "$(touch ran)",
    "';touch ran;'",
    '";touch ran;"',
    "[/nope]",
    "[red]x",
    "\x1b[2J\n",
)
FOLDERS = ("x\\$(touch ran)", "`touch ran`", "$(touch ran)", "a b", "-x", "[x]", "\x1b[2J", "~", "*")


def break_in(runs: Path) -> None:
    """Put hostile texts wherever a run of somebody else has texts that a summary shows."""
    record = json.loads((runs / "run1" / "run.json").read_text())
    for number, text in enumerate(HOSTILE):
        for place in ("name", "status", "model"):
            foreign = json.loads(json.dumps(record))
            if place == "name":
                foreign["config"]["data"]["name"] = text if text.startswith(".") else f"./{text}"
            elif place == "status":
                foreign["status"] = text
            else:
                foreign["config"]["model"] = text
            path = runs / f"foreign-{place}{number}"
            path.mkdir()
            (path / "run.json").write_text(json.dumps(foreign))
    for name in FOLDERS:
        shutil.copytree(runs / "run1", runs / name)


def spoken(shell: str, line: str) -> str:
    """What a shell is told about the last word of a command line."""
    words = {"_VAECTL_COMPLETE": f"complete_{shell}", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    words |= {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    result = CliRunner().invoke(app, [], prog_name="vaectl", env=words)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


FORMS = {
    "bash": re.compile(r"([\w.-]+\n)+"),
    "zsh": re.compile(r"""_arguments '\*: :\(\(("[\w.-]+"(:"[\w ., =-]+")?\n?)+\)\)'\n"""),
    "fish": re.compile(r"([\w.-]+(\t[\w ., =-]+)?\n)+"),
}


@pytest.mark.parametrize("shell", FORMS)
@pytest.mark.parametrize(
    "line", ["eval ", "train --from ", "train --resume ", "compare run1 ", "runs ", "train --prior "]
)
def test_a_shell_is_told_names_and_plain_words_only(runs: Path, shell: str, line: str) -> None:
    """Of foreign runs, too: those whose folders are called by a name are offered, whatever they say of themselves."""
    break_in(runs)
    text = spoken(shell, f"vaectl {line}")
    assert FORMS[shell].fullmatch(text), text
    if "prior" not in line:
        assert {
            f"foreign-{place}{number}" for place in ("name", "status", "model") for number in range(len(HOSTILE))
        } < {*re.findall(r"[\w.-]+", text)}


SHELLS = {
    "bash": (("bash", "--norc", "-i"), "source ./completion"),
    "zsh": (("zsh", "-f", "-i"), "autoload -Uz compinit; compinit -u; source ./completion"),
    "fish": (("fish", "--no-config", "-i"), "source ./completion"),
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_real_shell_runs_nothing_and_offers_all(runs: Path, isolated: Path, shell: str) -> None:
    """In a terminal, with the tabulator key."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    break_in(runs)
    command, begin = SHELLS[shell]
    program = isolated / "bin" / "vaectl"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom vaectl.__main__ import main\nmain()\n")
    program.chmod(0o755)
    paths = {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY), "HOME": str(isolated)}
    environment = {**os.environ, **paths, "TERM": "xterm", "COLUMNS": "200", "LINES": "100"}
    source = {**environment, "_VAECTL_COMPLETE": f"source_{shell}"}
    script = subprocess.run([program], env=source, capture_output=True, text=True, check=True).stdout
    (isolated / "completion").write_text(script)
    process, terminal = pty.fork()
    if process == 0:
        os.execvpe(command[0], command, environment)
    try:
        type_in(terminal, f"{begin}; echo re''ady\n", "ready")
        type_in(terminal, "vaectl train --network \t\t", "resnet")
        # fish shortens what they have in common
        type_in(terminal, "\x15vaectl eval foreign-name\t\t", f"name{len(HOSTILE) - 1}")
        type_in(terminal, "\x15vaectl eval foreign-status\t\t", f"status{len(HOSTILE) - 1}")
    finally:
        os.kill(process, 9)
        os.waitpid(process, 0)
        os.close(terminal)
    assert not list(isolated.rglob("ran"))


def type_in(terminal: int, keys: str, expected: str) -> None:
    """Type, and read what the terminal shows until it is what is expected."""
    os.write(terminal, keys.encode())
    shown, deadline = "", time.monotonic() + 60
    while expected not in shown:
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 1 << 16).decode(errors="replace")
