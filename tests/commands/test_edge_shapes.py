"""Every command on data of unusual shapes, and every part on the most unusual of them: finite or null, or refused.

Shapes: ``N`` examples of ``height`` x ``width`` pixels, ``D`` latent.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Cli
from tests.support.idx import mnist_files, write_mnist
from tests.support.marks import some
from vaectl.config.recipes import RECIPES
from vaectl.config.spec import Part
from vaectl.data.base import Data, Raw, split_data
from vaectl.evaluation.importance import importance_bound
from vaectl.evaluation.information import information
from vaectl.evaluation.metrics import evaluate
from vaectl.model.builder import build, complete
from vaectl.model.likelihoods import LIKELIHOODS
from vaectl.model.objectives import OBJECTIVES
from vaectl.training.trainer import Epoch, Stopped, fit


@dataclass(frozen=True)
class Shape:
    """Data and settings: images in all and their size, one grey level or None for noise, classes, flags of train."""

    train: int = 24
    test: int = 12
    height: int = 4
    width: int = 4
    level: int | None = None
    classes: int = 10
    latent: int = 2
    validation: int = 2
    flags: str = ""


NONE_HELD_OUT = "--validation-fraction 0"
SHAPES = {
    "fewer examples than a batch": Shape(train=7, test=3, validation=1),
    "a last batch of one": Shape(train=9, validation=0, flags=f"--batch-size 8 {NONE_HELD_OUT}"),
    "one class in a row": Shape(classes=1, height=1, width=9),
    "all black": Shape(level=0, latent=3),
    "all white in a column": Shape(level=255, height=30, width=1),
    "one training image": Shape(train=1, latent=3, validation=0, flags=NONE_HELD_OUT),
    "one test image": Shape(test=1, latent=3),
    "one image each": Shape(train=2, test=1, latent=1, validation=1, flags="--validation-fraction 0.5"),
    "a validation split of one": Shape(latent=3, validation=1, flags="--validation-fraction 0.01"),
    "more latent dimensions than pixels": Shape(latent=40),
    "one pixel": Shape(height=1, width=1),
    "one black pixel": Shape(train=1, test=1, height=1, width=1, level=0, latent=3, validation=0, flags=NONE_HELD_OUT),
    "odd and not square, through hidden layers of one": Shape(height=3, width=7, flags="--hidden-dims 1,1"),
    "all grey and wide": Shape(height=2, width=150, level=128),
}
# shapes on which other parts are tried, too
OTHER_PARTS = (
    "--likelihood categorical",
    "--likelihood discretized-logistic",
    "--likelihood gaussian --set likelihood.scale=optimal",
    "--likelihood laplace --set likelihood.scale=per-pixel --set posterior.scale=log-variance",
    "--binarize dynamic --model beta-tcvae",
    "--model iwae",
    "--model capacity-vae",
    "--model control-vae",
    "--model vamp-vae",
    "--set prior.name=mixture",
)


def strict(text: str) -> Any:
    """A JSON document, in which NaN and infinities are errors."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} in {text}")

    return json.loads(text, parse_constant=refuse)


class Commands:
    """The command line, each call of which must succeed or be refused as said."""

    def __init__(self, cli: Cli) -> None:
        self._cli = cli

    def ok(self, line: str) -> Any:
        """The document of a command that must succeed."""
        result = self._cli(*line.split(), "--json")
        assert result.exit_code == 0, f"{line}: {result.output}"
        return strict(result.stdout)

    def refused(self, line: str, named: str) -> None:
        """A command that must be refused, with an error that names something."""
        result = self._cli(*line.split())
        assert result.exit_code in (1, 2), f"{line}: {result.output}"
        assert result.stderr.startswith("error: "), f"{line}: {result.stderr}"
        assert "internal error" not in result.stderr, f"{line}: {result.stderr}"
        assert named in result.stderr, f"{line}: {result.stderr}"


def check_evaluation(document: Any, n: int, latent: int) -> None:
    """Every figure is a number, but for the standard errors of a single example and what needs two."""
    single = {name for name in document["metrics"] if name.endswith("_se")} | {"mutual_information_upper"}
    for name, value in document["metrics"].items():
        assert value is not None or (n == 1 and name in single), name
    assert document["n"] == n
    assert len(document["kl_per_dim"]) in (0, latent)
    assert (document["importance"]["bound_se"] is None) == (n == 1)


def check_picture(path: str) -> None:
    """A picture that opens, neither empty nor out of all proportion."""
    with Image.open(path) as image:
        image.load()
        assert all(1 < side < 6000 for side in image.size), image.size


@pytest.mark.parametrize("name", some([*SHAPES], 2))
def test_every_command_on_a_shape(cli: Cli, isolated: Path, name: str) -> None:
    """Documents without NaN, arrays and pictures of the right shape, and no finding that so few data do not carry."""
    shape, run = SHAPES[name], Commands(cli)
    x = (1, shape.height, shape.width)
    size = (shape.height, shape.width)
    files = mnist_files(shape.train, shape.test, size, classes=shape.classes, level=shape.level)
    write_mnist(isolated / "data", files)
    flags = shape.flags if "--hidden-dims" in shape.flags else f"--hidden-dims 8 {shape.flags}"
    train = f"train --dataset mnist --epochs 2 --latent-dim {shape.latent} {flags}"
    for seed in (0, 1):
        document = run.ok(f"{train} --seed {seed}")
        findings = {finding["name"] for finding in document["findings"]}
        assert findings <= {"posterior collapse", "unused latent dimensions"}
        assert not findings or shape.train > 2
    sizes = {"train": shape.train - shape.validation, "validation": shape.validation, "test": shape.test}
    for split, n in sizes.items():
        if n == 0:
            run.refused(f"eval 1 --split {split}", f"--split {split}")
            run.refused(f"embed 1 --split {split}", f"--split {split}")
            continue
        document = run.ok(f"eval 1 --split {split} --importance-samples 5 --per-example {split}.csv -o {split}.json")
        check_evaluation(document, n, shape.latent)
        assert strict(Path(f"{split}.json").read_text()) == document
        rows = list(csv.DictReader(Path(f"{split}.csv").read_text().splitlines()))
        assert len(rows) == n
        assert all(math.isfinite(float(value)) for row in rows for value in row.values())
        run.ok(f"embed 1 --split {split} -o {split}.npz")
        with np.load(f"{split}.npz") as codes:
            assert codes["z"].shape == codes["scale"].shape == (n, shape.latent)
            assert np.isfinite(codes["z"]).all()
            assert (codes["scale"] > 0).all()
    run.ok("embed 1 --draw -o drawn.csv")
    n = min(shape.test, 3)
    for kind in ("", "--mode draw", "--reconstruct", "--interpolate"):
        if kind == "--interpolate" and shape.test == 1:
            run.refused(f"sample 1 -n {n} {kind}", "examples are needed")
            continue
        run.ok(f"sample 1 -n {n} {kind} -o images.npz -f")
        with np.load("images.npz") as arrays:
            assert all(arrays[key].shape == (n, *x) for key in arrays if key not in ("labels", "z"))
            assert arrays["z"].shape == (n, shape.latent)
            assert all(np.isfinite(arrays[key]).all() for key in arrays)
    check_picture(run.ok(f"sample 1 -n {n} --reconstruct")["path"])
    for kind in ("scatter", "manifold", "traversal"):
        check_picture(run.ok(f"plot-latent 1 --kind {kind}")["path"])
    if shape.latent == 1:
        run.refused("plot-latent 1 --dims 0,1", "--dims")
    found = run.ok("compare 1 2 -o report.html")
    (elbo,) = (metric for metric in found["metrics"] if metric["name"] == "elbo")
    assert None not in elbo["values"]
    run.ok("runs")
    assert not list(isolated.rglob(".*"))


@pytest.mark.parametrize("flags", some(OTHER_PARTS, 3))
def test_other_parts_on_a_single_image(cli: Cli, isolated: Path, flags: str) -> None:
    """One image to train on, one to validate, one to test, of one latent dimension and two pixels."""
    run = Commands(cli)
    write_mnist(isolated / "data", mnist_files(2, 1, (1, 2)))
    common = "train --dataset mnist --epochs 2 --latent-dim 1 --hidden-dims 1 --validation-fraction 0.5"
    for seed in (0, 1):
        run.ok(f"{common} {flags} --seed {seed}")
    check_evaluation(run.ok("eval 1 --importance-samples 3"), 1, 1)
    for line in ("sample 1 -n 4", "sample 1 -n 1 --reconstruct --mode mode", "plot-latent 1"):
        check_picture(run.ok(line)["path"])
    codes = run.ok("embed 1 -o codes.parquet")
    assert (codes["n"], codes["latent_dim"]) == (1, 1)
    for suffix in ("md", "json", "png"):
        run.ok(f"compare 1 2 -o report.{suffix}")
    strict(Path("report.json").read_text())
    assert "nan" not in Path("report.md").read_text().lower()
    text = cli("compare", 1, 2)
    assert text.exit_code == 0
    assert "nan" not in text.output.lower()


# --- every two parts --------------------------------------------------------------------------------------------------

# of vectors; those of codes follow below
PARTS: dict[str, list[Part]] = {
    "posterior": [Part("gaussian"), Part("gaussian", {"scale": "log-variance"})],
    "prior": [Part("standard"), Part("mixture", {"components": 1}), Part("vamp", {"components": 2}),
              Part("vamp", {"components": 3, "weights": "learned"})],
    "likelihood": [
        *(Part(name) for name in LIKELIHOODS if name not in ("gaussian", "laplace")),
        *(Part(name, {"scale": scale}) for name in ("gaussian", "laplace")
          for scale in ("fixed", "shared", "per-pixel", "optimal")),
        Part("discretized-logistic", {"scale": "shared"}),
    ],
    "objective": [
        *(Part(name) for name in OBJECTIVES if name != "vq"),
        Part("elbo", {"free_bits": 0.5}),
        Part("iwae", {"k": 1}),
        Part("iwae", {"gradient": "doubly-reparameterized"}),
    ],
}  # fmt: skip
PAIRS = [
    {one: first, other: second}
    for one, other in itertools.combinations(PARTS, 2)
    for first, second in itertools.product(PARTS[one], PARTS[other])
    # total correlation and free bits need a prior that factorises
    if not (first.name in ("mixture", "vamp") and (second.name == "tc" or "free_bits" in second.options))
]


def tiny(images: np.ndarray, test: int, validation_fraction: float) -> Data:
    raw = images.astype(np.uint8)[:, None]
    labels = np.zeros(len(raw), dtype=np.int64)
    return split_data("tiny", Raw(raw, labels, raw[:test], labels[:test]), validation_fraction)


# data, batch size, latent dimensions
TINY = {
    "one black pixel": (tiny(np.zeros((1, 1, 1)), 1, 0), 128, 3),
    "two white images": (tiny(np.full((2, 1, 5), 255), 1, 0.5), 128, 2),
    "grey images": (tiny(np.full((4, 3, 1), 128), 2, 0.25), 4, 1),
    "a last batch of one": (tiny(np.random.default_rng(0).integers(256, size=(5, 2, 3)), 2, 0), 2, 8),
}


@pytest.mark.parametrize("parts", some(PAIRS, 5), ids=lambda parts: "-".join(
    "+".join([part.name, *map(str, part.options.values())]) for part in parts.values()))  # fmt: skip
def test_every_two_parts_on_tiny_data(parts: dict[str, Part]) -> None:
    """Training ends, and every figure of it, of the bounds and of the information is finite."""
    for name, (data, batch_size, latent_dim) in TINY.items():
        usual = RECIPES["vae"]()
        net = Part("mlp", {"hidden_dims": [1]})
        training = dataclasses.replace(usual.training, epochs=2, batch_size=batch_size)
        spec = dataclasses.replace(
            usual, latent_dim=latent_dim, encoder=net, decoder=net, training=training, **parts
        )  # fmt: skip
        model, objective = build(complete(spec), data.info)
        events = list(fit(model, objective, data, training))
        assert isinstance(events[-1], Stopped)
        assert events[-1].reason == "completed", f"{name}: {events[-1].problem}"
        for event in events:
            if isinstance(event, Epoch):
                assert all(math.isfinite(value) for value in (event.loss, event.elbo, event.kl, event.grad_norm)), name
        result = evaluate(model, data.test)
        assert all(bool(values.isfinite().all()) for values in result.per_example.values()), name
        weighted = importance_bound(model, data.test, 3)
        assert bool(weighted.bound.isfinite().all()), name
        assert bool((weighted.ess >= 1 - 1e-9).all()), name
        found = information(model, data.test)
        assert math.isfinite(found.mutual_information.mean), name
        assert math.isfinite(found.aggregate_kl.mean), name
        assert model.sample(2).mean.shape == (2, *data.info.shape), name


CODED: dict[str, dict[str, Part]] = {
    "quantized": {"posterior": Part("quantized", {"codes": 5}), "objective": Part("vq")},
    "loss": {"posterior": Part("quantized", {"codes": 2, "codebook": "loss"}), "objective": Part("vq")},
    "fsq": {"posterior": Part("fsq", {"levels": [3]})},
}


@pytest.mark.parametrize("network", [Part("mlp", {"hidden_dims": [1]}), Part("conv", {"width": 1}),
                                     Part("resnet", {"width": 3, "depth": 1})], ids=lambda part: part.name)  # fmt: skip
@pytest.mark.parametrize("kind", CODED)
def test_codes_of_tiny_data(network: Part, kind: str) -> None:
    """Fewer vectors than codes, images of a pixel and a last batch of one: both stages end with finite figures."""
    for name, (data, batch_size, latent_dim) in TINY.items():
        usual = RECIPES["vq-vae"]()
        training = dataclasses.replace(usual.training, epochs=2, prior_epochs=2, batch_size=batch_size)
        parts = {"prior": Part("transformer", {"width": 4, "depth": 1, "heads": 1}), "objective": Part("elbo")}
        spec = dataclasses.replace(
            usual, latent_dim=latent_dim, encoder=network, decoder=network, training=training, **(parts | CODED[kind])
        )
        model, objective = build(complete(spec), data.info)
        events = list(fit(model, objective, data, training))
        assert isinstance(events[-1], Stopped)
        assert events[-1].reason == "completed", f"{name}: {events[-1].problem}"
        metrics = evaluate(model, data.test).metrics()
        assert all(math.isfinite(metrics[key]) for key in ("elbo", "recon", "kl", "mse", "perplexity")), name
        assert model.sample(2).mean.shape == (2, *data.info.shape), name
