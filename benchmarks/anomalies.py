"""Measure the anomaly scores: ``python -m benchmarks.anomalies`` prints AUROC tables and keeps them as JSON.

``digits``: a net for each of MNIST's digits, which has to find the other nine. ``fashion``: MNIST against Fashion-MNIST
and the other way. ``tables``: sets of ADBench beside PyOD's VAE and isolation forest, on the same splits. ``patches``:
the pixels of pasted patches in maps. ``rates``: false alarms among MNIST's test images beside the rates asked for.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import machine
from benchmarks.tables import show
from vaectl import load_data, vae
from vaectl.config.spec import Spec
from vaectl.data.base import Data, Raw, Split, split_data
from vaectl.data.info import DataInfo
from vaectl.data.thinned import thinned
from vaectl.evaluation.anomaly.aggregate import aggregate_posterior
from vaectl.evaluation.anomaly.calibration import p_values
from vaectl.evaluation.anomaly.detection import detection
from vaectl.evaluation.anomaly.names import SCORES
from vaectl.evaluation.anomaly.scores import anomaly_scores
from vaectl.model.builder import build
from vaectl.model.distributions.pixels import base_of
from vaectl.model.vae import VAE
from vaectl.stats import mean_and_se
from vaectl.training.trainer import fit

RESULTS = Path(__file__).parent / "results"
SECTIONS = ("patches", "rates", "digits", "fashion", "tables")
RATES = (0.01, 0.05, 0.1)
# rows of a table, splits of it, and the part that is trained on
MOST_ROWS, SEEDS, TRAINING_PART = 10_000, 3, 0.7
# training images of a convolutional net
CONV_EXAMPLES = 20_000
# as PyOD's VAE is by default, which standardises the columns, too
# the second of two nets has the fixed scale of 1 that PyOD's squared error amounts to
FIXED = "scale 1: "
TABLE_NET = {"hidden_dims": (128, 64, 32), "latent_dim": 2, "epochs": 30, "batch_size": 32, "likelihood": "gaussian"}


def trained(spec: Spec, data: Data) -> VAE:
    """The model after the last epoch."""
    torch.manual_seed(spec.training.seed)
    model, objective = build(spec, data.info)
    for _ in fit(model, objective, data, spec.training):
        pass
    return model


def measured(scores: Mapping[str, np.ndarray], anomalous: np.ndarray) -> dict[str, dict[str, float]]:
    return {name: detection(values, anomalous).to_json() for name, values in scores.items()}


def every_score(model: VAE, data: Data, examples: Split) -> dict[str, np.ndarray]:
    return anomaly_scores(model, examples, tuple(SCORES), aggregate=aggregate_posterior(model, data.train))


def digits(data_dir: Path, epochs: int, most: int) -> dict[str, Any]:
    """One net for each digit; the anomalies are the other nine in the test set, or in a part that is spread over it."""
    whole = load_data("mnist", data_dir, validation_fraction=0.0)
    images, labels = (getattr(whole.train, name).numpy() for name in ("images", "labels"))
    test = thinned(whole.test, most)
    assert isinstance(test, Split)
    rows: dict[str, Any] = {}
    for digit in range(10):
        started, mine = time.perf_counter(), labels == digit
        raw = Raw(images[mine], labels[mine], test.images.numpy(), test.labels.numpy())
        data = split_data(f"digit {digit}", raw, 1 / 12)
        spec = vae(latent_dim=8, hidden_dims=(128, 64), epochs=epochs)
        model = trained(spec, data)
        scores = every_score(model, data, data.test)
        rows[str(digit)] = measured(scores, data.test.labels.numpy() != digit)
        auroc = {name: round(row["auroc"], 3) for name, row in rows[str(digit)].items()}
        print("digit", digit, auroc, f"{time.perf_counter() - started:.0f} s", flush=True)
    means = {name: float(np.mean([row[name]["auroc"] for row in rows.values()])) for name in SCORES}
    return {"epochs": epochs, "examples": most, "by_digit": rows, "mean_auroc": means}


def rates(data_dir: Path) -> dict[str, Any]:
    """The part of MNIST's test images that is flagged with thresholds from its 5,000 validation images."""
    whole = load_data("mnist", data_dir)
    data = Data(thinned(whole.train, CONV_EXAMPLES), whole.validation, whole.test, whole.info)
    model = trained(vae(latent_dim=8, hidden_dims=(128, 64), epochs=10), data)
    normal, new = (every_score(model, data, part) for part in (data.validation, data.test))
    return {
        name: {str(rate): float((p_values(new[name], normal[name]) <= rate).mean()) for rate in RATES}
        for name in SCORES
    }


def fashion(data_dir: Path, epochs: int, most: int) -> dict[str, Any]:
    """A convolutional net on each set, and both test sets before it."""
    sets = {name: load_data(name, data_dir) for name in ("mnist", "fashion-mnist")}
    rows: dict[str, Any] = {}
    for likelihood in ("bernoulli", "discretized-logistic"):
        for inside, outside in (("mnist", "fashion-mnist"), ("fashion-mnist", "mnist")):
            started, whole = time.perf_counter(), sets[inside]
            data = Data(thinned(whole.train, CONV_EXAMPLES), whole.validation, whole.test, whole.info)
            spec = vae(
                network="conv", latent_dim=16, epochs=epochs, likelihood=likelihood,
                encoder__width=16, decoder__width=16,
            )  # fmt: skip
            model = trained(spec, data)
            parts = [thinned(sets[name].test, most) for name in (inside, outside)]
            scores = [every_score(model, data, part) for part in parts]
            both = {name: np.concatenate([part[name] for part in scores]) for name in SCORES}
            anomalous = np.repeat([False, True], [len(part) for part in parts])
            elbo = {
                name: mean_and_se((-part["elbo"]).tolist())
                for name, part in zip((inside, outside), scores, strict=True)
            }
            row = rows[f"{likelihood}: {inside} against {outside}"] = {
                "scores": measured(both, anomalous),
                "elbo": elbo,
            }
            auroc = {name: round(one["auroc"], 3) for name, one in row["scores"].items()}
            print(likelihood, inside, "->", outside, auroc, elbo, f"{time.perf_counter() - started:.0f} s", flush=True)
    return {"epochs": epochs, "examples": most, "rows": rows}


def table_data(train: np.ndarray, test: np.ndarray, labels: np.ndarray) -> Data:
    """Rows of a table on the standard scale of the training rows."""
    centre, spread = train.mean(0), train.std(0)
    spread[spread == 0] = 1

    def split(values: np.ndarray, kinds: np.ndarray) -> Split:
        rows = torch.from_numpy(((values - centre) / spread).astype(np.float32))[:, None, None]
        return Split(rows, torch.from_numpy(kinds), torch.arange(len(rows)))

    none = np.full(len(train), -1)
    sizes = {"train": len(train), "validation": 0, "test": len(test)}
    info = DataInfo("table", (1, 1, train.shape[1]), "real", "", sizes, "standardised")
    return Data(split(train, none), split(train[:0], none[:0]), split(test, labels), info)


def tables(folder: Path, most_sets: int, peer: Sequence[str]) -> dict[str, Any]:
    """Sets of ADBench, those with the fewest rows first: 70 % to train on with their anomalies, 30 % to score."""
    files = sorted(folder.glob("*.npz"), key=lambda path: len(np.load(path)["y"]))[:most_sets]
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        for number, path in enumerate(files):
            for seed in range(SEEDS):
                train, test, labels = divided(path, seed)
                np.savez(Path(place) / f"{number:02}-{seed}.npz", train=train, test=test, y=labels, seed=seed)
        theirs = rivals(Path(place), peer)
        for number, path in enumerate(files):
            results = []
            for seed in range(SEEDS):
                started = time.perf_counter()
                with np.load(Path(place) / f"{number:02}-{seed}.npz") as split:
                    data = table_data(split["train"], split["test"], split["y"])
                mine: dict[str, float] = {}
                for prefix, scale in (("", "shared"), (FIXED, "fixed")):
                    model = trained(vae(**TABLE_NET, likelihood__scale=scale, seed=seed), data)
                    scores = every_score(model, data, data.test)
                    for name, values in scores.items():
                        outcome = detection(values, data.test.labels.numpy() == 1, resamples=2)
                        mine[prefix + name] = outcome.auroc.value
                    mine[f"seconds {prefix}".strip()] = time.perf_counter() - started
                    started = time.perf_counter()
                results.append({**mine, **theirs.get(f"{number:02}-{seed}", {})})
            rows[path.stem] = {
                "rows": len(data.train) + len(data.test), "columns": data.info.shape[-1],
                **{key: [round(result[key], 4) for result in results] for key in results[0]},
            }  # fmt: skip
            print(
                path.stem, {key: round(float(np.mean(value)), 3) for key, value in rows[path.stem].items()}, flush=True
            )
    return {"sets": rows, "summary": summary(rows)}


def divided(path: Path, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training rows, test rows and their labels, with the same part of anomalies in both."""
    from sklearn.model_selection import train_test_split

    with np.load(path) as file:
        x, y = file["X"].astype(np.float64), file["y"].astype(np.int64)
    if len(x) > MOST_ROWS:
        x, _, y, _ = train_test_split(x, y, train_size=MOST_ROWS, stratify=y, random_state=seed)
    train, test, _, labels = train_test_split(x, y, train_size=TRAINING_PART, stratify=y, random_state=seed)
    return train, test, labels


def rivals(place: Path, peer: Sequence[str]) -> dict[str, dict[str, float]]:
    """The results of PyOD, which another Python may have; empty without one."""
    if not peer:
        return {}
    out = place / "rivals.json"
    script = Path(__file__).with_name("anomalies_pyod.py")
    subprocess.run([*peer, str(script), str(place), str(out)], check=True)
    rows: dict[str, dict[str, float]] = json.loads(out.read_text())
    return rows


def summary(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Mean AUROC over the sets by method, with the 95 % t-interval over sets of the means over seeds."""
    from scipy.special import stdtrit

    out: dict[str, Any] = {}
    methods = [name for name in next(iter(rows.values())) if name not in ("rows", "columns") and "seconds" not in name]
    forest = "pyod_iforest"
    for name in methods:
        values = np.array([np.mean(row[name]) for row in rows.values()])
        mean, se = mean_and_se(values.tolist())
        t = float(stdtrit(len(values) - 1, 0.975))
        spread = float(np.mean([np.std(row[name], ddof=1) for row in rows.values()]))
        out[name] = {"auroc": mean, "low": mean - t * se, "high": mean + t * se, "sd_over_seeds": spread}
        if forest in methods:
            difference = mean_and_se((values - [np.mean(row[forest]) for row in rows.values()]).tolist())
            out[name] |= {"minus_iforest": difference.mean, "minus_iforest_margin": t * difference.se}
    for key in [name for name in next(iter(rows.values())) if "seconds" in name]:
        out[key] = float(np.mean([np.mean(row[key]) for row in rows.values()]))
    return out


def patches(data_dir: Path) -> dict[str, Any]:
    """AUROC of the pixels of a pasted patch, for several quantities by pixel."""
    from sklearn.metrics import roc_auc_score

    rows: dict[str, Any] = {}
    generator = torch.Generator().manual_seed(0)
    for name, size, likelihood in (
        ("digits", 2, "bernoulli"),
        ("digits", 2, "gaussian"),
        ("digits", 2, "discretized-logistic"),
        ("mnist", 5, "bernoulli"),
    ):
        data = load_data(name, data_dir)
        if name == "mnist":
            data = Data(thinned(data.train, 10_000), data.validation, data.test, data.info)
        spec = vae(latent_dim=8, hidden_dims=(128, 64), epochs=30 if name == "digits" else 5, likelihood=likelihood)
        model = trained(spec, data).eval()
        x = data.test.first(300).batch(slice(None)).x
        truth = torch.zeros_like(x, dtype=torch.bool)
        for index in range(len(x)):
            top, left = (int(torch.randint(0, x.shape[-1] - size + 1, (), generator=generator)) for _ in range(2))
            truth[index, :, top : top + size, left : left + size] = True
        noise = (torch.rand(x.shape, generator=generator) * 255).round() / 255
        for kind, other in {
            "noise": noise,
            "white": torch.ones_like(x),
            "grey": 0 * x + 128 / 255,
            "inverted": 1 - x,
        }.items():
            maps = quantities(model, torch.where(truth, other, x))
            rows[f"{name}, {likelihood}, {kind}"] = {
                key: float(np.mean([roc_auc_score(truth[i].flatten(), value[i].flatten()) for i in range(len(x))]))
                for key, value in maps.items()
            }
    keys = next(iter(rows.values()))
    return {"rows": rows, "mean": {key: float(np.mean([row[key] for row in rows.values()])) for key in keys}}


@torch.no_grad()
def quantities(model: VAE, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Quantities by pixel that a map could show."""
    px = model.reconstruct(x)
    base = base_of(px)
    nats = -base.log_prob(x)
    usual = torch.stack([-base.log_prob(px.sample()) for _ in range(30)])
    return {
        "nats": nats,
        "nats minus their expectation": nats - usual.mean(0),
        "the same over its standard deviation": (nats - usual.mean(0)) / usual.std(0).clamp(min=1e-2),
        "nats minus those of the mode": nats + base.log_prob(px.mode),
        "absolute error": (x - px.mean).abs(),
    }


def report(document: Mapping[str, Any]) -> None:
    """Print the tables of what was measured."""
    if part := document.get("patches"):
        show("map by pixel", ["mean AUROC"], [[name, f"{value:.3f}"] for name, value in part["mean"].items()])
    if part := document.get("rates"):
        rows = [[name, *(f"{part[name][str(rate)]:.4f}" for rate in RATES)] for name in SCORES]
        show("false alarms at", [f"{rate:.0%}" for rate in RATES], rows)
    if part := document.get("digits"):
        rows = [[digit, *(f"{row[name]['auroc']:.3f}" for name in SCORES)] for digit, row in part["by_digit"].items()]
        show("digit", list(SCORES), [*rows, ["mean", *(f"{part['mean_auroc'][name]:.3f}" for name in SCORES)]])
    if part := document.get("fashion"):
        rows = [[name, *(f"{row['scores'][key]['auroc']:.3f}" for key in SCORES)] for name, row in part["rows"].items()]
        show("trained on, against", list(SCORES), rows)
    if part := document.get("tables"):
        rows = []
        for name, row in part["summary"].items():
            if isinstance(row, dict):
                interval, difference = f"{row['low']:.3f} to {row['high']:.3f}", f"{row.get('minus_iforest', 0):+.3f}"
                rows.append([name, f"{row['auroc']:.3f}", interval, difference])
            else:
                rows.append([name, f"{row:.2f} s", "", ""])
        show("tables", ["AUROC", "95 % interval", "minus isolation forest"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anomalies", description=__doc__)
    parser.add_argument("--only", type=lambda text: text.split(","), default=SECTIONS, help=",".join(SECTIONS))
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("VAECTL_DATA_DIR") or "data"))
    parser.add_argument("--adbench", type=Path, help="folder of ADBench's .npz files")
    parser.add_argument("--pyod", type=lambda text: text.split(), default=(), help="a Python that has PyOD")
    parser.add_argument("--sets", type=int, default=24, help="so many of ADBench's sets, the smallest first")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of a digit's net")
    parser.add_argument("--digit-examples", type=int, default=5000, help="test images of digits")
    parser.add_argument("--conv-epochs", type=int, default=5, help="epochs of the convolutional nets")
    parser.add_argument("--examples", type=int, default=1000, help="test images of each of the two sets")
    parser.add_argument(
        "--output", "-o", type=Path, help="write here (default: benchmarks/results/DATE-anomalies.json)"
    )
    arguments = parser.parse_args()
    work: dict[str, Callable[[], dict[str, Any]]] = {
        "patches": lambda: patches(arguments.data_dir),
        "rates": lambda: rates(arguments.data_dir),
        "digits": lambda: digits(arguments.data_dir, arguments.epochs, arguments.digit_examples),
        "fashion": lambda: fashion(arguments.data_dir, arguments.conv_epochs, arguments.examples),
        "tables": lambda: tables(arguments.adbench, arguments.sets, arguments.pyod),
    }
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    path = arguments.output or RESULTS / f"{date}-anomalies.json"
    document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    document |= {"date": date, "machine": machine()}
    for section in arguments.only:
        started = time.perf_counter()
        document[section] = work[section]() | {"seconds": round(time.perf_counter() - started, 1)}
        path.write_text(json.dumps(document, indent=1) + "\n")
    report(document)


if __name__ == "__main__":
    main()
