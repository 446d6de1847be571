"""Typos and words of other programs: each error says what was meant, and never something that was not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Cli
from vaectl.commands.shared.deferred import COMMANDS, Deferred
from vaectl.config import families
from vaectl.config.datasets import dataset_names
from vaectl.config.table import BY_NAME, SETTINGS
from vaectl.config.values import canonical
from vaectl.errors import amount, similar
from vaectl.synonyms import FLAGS, VALUES

DATA = "train --dataset digits"


def option(name: str) -> str:
    return f"did you mean '{name}'?"


OWN = " one of your own comes with --plugin FILE.py"
LIST = "list them with: vaectl runs"
# command line -> the hint, exact
HINTS = {
    # flags of a training
    "train --learning-rate 1e-3": option("--lr"),
    "train --learning_rate=1e-3": option("--lr"),
    "train -lr 1e-3": option("--lr"),
    "train --gpu": option("--device cuda"),
    "train --cuda": option("--device cuda"),
    "train --no-cuda": option("--device cpu"),
    "train --hidden-dim 512": option("--hidden-dims"),
    "train --hidden-size 512": option("--hidden-dims"),
    "train --z-dim 2": option("--latent-dim"),
    "train --z_dim 2": option("--latent-dim"),
    "train --latent-size 2": option("--latent-dim"),
    "train --latent_dim 2": option("--latent-dim"),
    "train --n-epochs 2": option("--epochs"),
    "train --max-epochs 2": option("--epochs"),
    "train --Epochs 2": option("--epochs"),
    "train -epochs 2": option("--epochs"),
    "train --epcohs 2": option("--epochs"),
    "train --bs 64": option("--batch-size"),
    "train --wd 0.1": option("--weight-decay"),
    "train --kl-weight 4": option("--beta"),
    "train --kl-anneal 10": option("--warmup-epochs"),
    "train --free-nats 3": option("--free-bits"),
    "train --dataset-path x": option("--dataset"),
    "train --data x": option("--dataset"),
    "train --random-seed 1": option("--seed"),
    "train --clip 1": option("--grad-clip"),
    "train --amp": option("--precision bf16"),
    "train --early-stopping 5": option("--patience"),
    "train --run-name a": option("--name"),
    "train --cfg a.toml": option("--config"),
    "train --loss bce": option("--likelihood"),
    "train --arch conv": option("--network"),
    "train --out-dir x": "--runs-dir comes before the command: vaectl --runs-dir DIR train ...",
    "train --runs-dir x": "--runs-dir comes before the command: vaectl --runs-dir DIR train ...",
    "train --num-workers 4": "examples are read by as many threads as the machine has cores; there is no such setting",
    "train --optimizer adamw": "the optimizer is Adam: --lr, and --weight-decay for AdamW",
    "train --qqq": "its options are listed by: vaectl train --help",
    # flags of the other commands
    "sample run1 --n 4": option("--num-samples"),
    "sample run1 --nrow 4": option("--columns"),
    "sample run1 --out a.png": option("--output"),
    "sample run1 --overwrite": option("--force"),
    "eval run1 --n-samples 5": option("--importance-samples"),
    "eval run1 --lr 3": "--lr is a setting of vaectl train, and a trained run keeps its own",
    "embed run1 --data x": option("--dataset"),
    "runs --top 5": option("--limit"),
    "compare run1 run2 --by-seed": option("--group"),
    "plot-latent run1 --val": "its options are listed by: vaectl plot-latent --help",
    # options out of place
    "--epochs 3 train": "settings come after the command: vaectl train --epochs ...",
    "--json runs": "options of a command come after it: vaectl COMMAND --help",
    "--run-dir x runs": option("--runs-dir"),
    # commands
    "list": option("vaectl runs"),
    "ls": option("vaectl runs"),
    "show run1": option("vaectl runs run1"),
    "show": option("vaectl runs RUN"),
    "rm run7": "a run is a folder, and nothing else knows of it: rm -r runs/run7 removes it",
    "generate run1": option("vaectl sample"),
    "encode run1": option("vaectl embed"),
    "test run1": option("vaectl eval"),
    "evaluate run1": option("vaectl eval"),
    "plot run1": option("vaectl plot-latent"),
    "visualize run1": option("vaectl plot-latent"),
    "fit": option("vaectl train"),
    "diff run1 run2": option("vaectl compare"),
    "resume run1": option("vaectl train --resume run1"),
    "reconstruction run1": option("vaectl reconstruct"),
    "trian": option("vaectl train"),
    "version": option("vaectl --version"),
    "help nothing": f"the commands are {', '.join(COMMANDS)}",
    # arguments that are not taken
    "train --hidden-dims 512 256": "write the numbers with commas between them: --hidden-dims 512,256",
    "train --hidden-dims 512 256 128 --lr 1": "write the numbers with commas between them: --hidden-dims 512,256,128",
    "plot-latent run1 --dims 0 1": "write the numbers with commas between them: --dims 0,1",
    "train --grayscale true": "--grayscale is a switch, and takes no value",
    "train mnist": option("--dataset mnist"),
    "train fmnist": option("--dataset fashion-mnist"),
    "train VQ-VAE": option("--model vq-vae"),
    "train cfg.toml": "a file of settings is given with --config cfg.toml",
    "train ./photos": "data are given with --dataset ./photos",
    "train run1": "a run is continued with --resume run1, and another begun with its settings with --from run1",
    "sample run1 run2": "it takes one RUN; several are for vaectl compare",
    "runs run1 run2": "it shows one RUN, or all",
    "selftest run1": "its options are listed by: vaectl selftest --help",
    "eval": "a RUN is an id such as run1, its number, its path, or latest; list them with: vaectl runs",
    # values
    f"{DATA} --likelihood bce": option("bernoulli") + OWN,
    f"{DATA} --likelihood normal": option("gaussian") + OWN,
    f"{DATA} --likelihood l1": option("laplace") + OWN,
    f"{DATA} --prior gaussian": option("standard") + OWN,
    f"{DATA} --prior vampprior": option("vamp") + OWN,
    f"{DATA} --model bvae": option("beta-vae") + OWN,
    f"{DATA} --model beta": option("beta-vae") + OWN,
    f"{DATA} --model tcvae": option("beta-tcvae") + OWN,
    "train --dataset fmnist": option("fashion-mnist") + OWN,
    "train --dataset emnist": OWN.strip(),
    f"{DATA} --network cnn": option("conv") + OWN,
    f"{DATA} --network fc": option("mlp") + OWN,
    f"{DATA} --network dense": option("mlp") + OWN,
    f"{DATA} --precision float16": option("bf16"),
    f"{DATA} --precision fp16": option("bf16"),
    f"{DATA} --precision amp": option("bf16"),
    f"{DATA} --activation leaky_relu": option("relu"),
    f"{DATA} --posterior-scale logvar": option("log-variance"),
    f"{DATA} --device gpu": option("cuda"),
    f"{DATA} --set learning_rate=1": option("lr"),
    f"{DATA} --set foo=1": "vaectl train --dry-run lists the settings",
    "eval run1 --split val": option("validation"),
    "embed run1 --split dev": option("validation"),
    "eval run1 --checkpoint latest": option("last"),
    "plot-latent run1 --kind grid": option("manifold"),
    "sample run1 --mode sample": option("draw"),
    "eval run1 --device gpu": option("cuda"),
    # runs
    "eval run99": LIST,
    "eval run21": f"{option('run2')} {LIST}",
    "eval rnu2": f"{option('run2')} {LIST}",
}


@pytest.mark.parametrize("line", HINTS)
def test_a_hint_says_what_was_meant(cli: Cli, runs: Path, line: str) -> None:
    """Nothing is changed, and it is an error of usage unless a run is missing."""
    result = cli(*line.split())
    assert result.exit_code == (1 if "run " in result.stderr.splitlines()[0] and "no run" in result.stderr else 2)
    (hint,) = [text.removeprefix("hint: ") for text in result.stderr.splitlines() if text.startswith("hint: ")]
    assert hint == HINTS[line]
    assert sorted(path.name for path in runs.iterdir()) == ["run1", "run2"]


def test_there_are_enough_of_them() -> None:
    assert len(HINTS) >= 100


@pytest.mark.parametrize("line", ["train --epochs", "sample run1 -n", "train --set"])
def test_an_option_without_its_value_is_shown_with_one(cli: Cli, line: str) -> None:
    result = cli(*line.split())
    assert result.exit_code == 2
    flag = line.split()[-1]
    assert f"needs a value: {flag} " in result.stderr


def test_an_image_is_not_a_data_set(cli: Cli, runs: Path) -> None:
    """The error says that the folder is meant, whether the image is there or not; a trained model takes it."""
    from PIL import Image

    Image.new("RGB", (8, 8)).save("seven.png")
    result = cli("train", "--dataset", "seven.png")
    assert result.exit_code == 1
    assert "seven.png is one image" in result.stderr
    assert "name the folder that it is in" in result.stderr
    assert cli("embed", "run1", "--dataset", "seven.png").exit_code == 0
    assert "eight.png does not exist" in cli("embed", "run1", "--dataset", "eight.png").stderr


@pytest.mark.parametrize(
    "flags",
    [
        ("--model", "Beta_VAE"), ("--model", "IWAE"), ("--network", "CONV"), ("--likelihood", "ContinuousBernoulli"),
        ("--prior", "VAMP"), ("--activation", "ReLU"), ("--posterior-scale", "Log_Variance"), ("--binarize", "Dynamic"),
        ("--set", "posterior.name=Gaussian"), ("--set", "objective.name=ELBO"), ("--device", "CPU"),
        ("--hidden-dims", "[16,8]"), ("--hidden-dims", "(16, 8)"), ("--dataset", "Digits"), ("--precision", "FP32"),
    ],
    ids="=".join,
)  # fmt: skip
def test_names_in_another_case_and_lists_in_brackets_are_taken(cli: Cli, flags: tuple[str, str]) -> None:
    dataset = () if flags[0] == "--dataset" else ("--dataset", "digits")
    result = cli("train", *dataset, *flags, "--dry-run", "-q")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    "line",
    ["eval run1 --split TEST -q", "plot-latent run1 --kind Scatter -q", "sample run1 --mode Mean -n 2 -q",
     "runs --sort ELBO -q", "eval run1 --checkpoint Best --progress NONE -q"],
)  # fmt: skip
def test_choices_in_another_case_are_taken(cli: Cli, runs: Path, line: str) -> None:
    result = cli(*line.split())
    assert result.exit_code == 0, result.output


def test_every_name_is_found_in_another_case() -> None:
    for names in (dataset_names(), families.RECIPES, *(setting.choices for setting in SETTINGS)):
        for name in names:
            for spelled in (name.upper(), name.title(), name.replace("-", "_"), name.replace("-", "")):
                assert canonical(spelled, names) == name


def test_words_of_others_lead_to_names_that_are_there() -> None:
    """A flag that was renamed must not stay in the table."""
    options = {flag for name in COMMANDS for option in Deferred(name).command.params for flag in option.opts}
    flags = {flag.split()[0] for flags in FLAGS.values() for flag in flags}
    assert flags <= options | {"--runs-dir"}
    assert not {f"--{word}" for word in FLAGS} & {setting.flag for setting in SETTINGS}
    known = {name for setting in SETTINGS for name in setting.choices} | {*families.RECIPES, *BY_NAME}
    choices = {text for name in COMMANDS for option in Deferred(name).command.params
               for text in str(option.metavar).split("|")}  # fmt: skip
    parts = {"quantized", "gaussian"}
    assert {name for names in VALUES.values() for name in names} - {""} <= known | choices | parts | {*dataset_names()}


def test_runs_are_alike_only_if_their_numbers_are() -> None:
    assert similar("run99", ["run1", "run2", "run3"]) is None
    assert similar("run24", ["run3", "run42"]) == "run42"
    assert similar("run4", ["run41"]) == "run41"
    assert similar("smal", ["small", "run1"]) == "small"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 samples"), (1, "1 sample"), (2, "2 samples"), (1000, "1,000 samples")]
)
def test_one_of_a_thing_is_no_plural(count: int, text: str) -> None:
    assert amount(count, "sample") == text


def test_messages_of_one_thing_are_no_plural(cli: Cli, runs: Path) -> None:
    assert cli("sample", "run1", "-n", "1").stdout.startswith("1 sample of run1")
    assert cli("sample", "run1", "-n", "1", "--reconstruct").stdout.startswith("1 reconstruction of run1")
    assert amount(1, "grid of codes", "grids of codes") == "1 grid of codes"


def test_help_is_a_command(cli: Cli) -> None:
    assert cli("help").stdout == cli("--help").stdout
    assert cli("help", "train").stdout == cli("train", "--help").stdout
    assert cli("--runs-dir", "x", "help", "eval").stdout == cli("eval", "-h").stdout
