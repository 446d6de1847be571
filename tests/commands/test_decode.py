"""``decode``: codes become what ``reconstruct`` makes, and codes that a model does not have are refused."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import weakref
from collections.abc import Generator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import REPOSITORY, Cli
from tests.support.marks import some
from tests.support.outcomes import arrays_of, ok
from tests.support.refusals import refuse
from vaectl.config.datasets import BUILT_IN
from vaectl.config.recipes import RECIPES
from vaectl.data.own import codes as reading
from vaectl.data.own.codes import Form, read_codes
from vaectl.errors import DataError
from vaectl.output.arrays import Spool
from vaectl.runs.run import Run

QUICK = ["--epochs", 1, "-q"]
# recipes of grids of codes
CODED = ("vq-vae", "fsq-vae")


def make(isolated: Path, kind: str) -> list[object]:
    """Data of a kind, and the flags that train on them."""
    random = np.random.RandomState(0)
    if kind == "table":
        with (isolated / "x.csv").open("w") as file:
            file.write("age,rate\n")
            file.writelines(f"{round(a)},{b:.5f}\n" for a, b in random.randn(60, 2) * [9, 1e-3] + [40, 0.1])
        return ["--dataset", "x.csv", "--likelihood", "gaussian"]
    shape = (60, 8, 8, 3) if kind == "rgb" else (60, 8, 8)
    np.save(isolated / "x.npy", random.randint(0, 256, shape, np.uint8))
    return ["--dataset", "x.npy"]


def train_small(cli: Cli, isolated: Path, recipe: str, kind: str) -> None:
    """Train run1 by a recipe, for one epoch and as small as it can be, on data of a kind or of a name."""
    small: list[object] = {"vq-vae": ["--codes", 8], "vamp-vae": ["--set", "prior.components=5"]}.get(recipe, [])
    if recipe in CODED:
        small += ["--prior-epochs", 0, *(["--network", "mlp"] if kind == "table" else [])]
    else:
        small += ["--latent-dim", 3, "--hidden-dims", 8]
    data = ["--dataset", kind] if kind in BUILT_IN else make(isolated, kind)
    result = cli("train", "--model", recipe, *data, *small, *QUICK)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("case", some([*product(RECIPES, ["grey", "rgb", "table"])], 4), ids="-".join)
def test_embedded_examples_decode_to_their_reconstructions(cli: Cli, isolated: Path, case: tuple[str, str]) -> None:
    """Bit for bit, from each format that embed writes; and all of them are judged."""
    recipe, kind = case
    train_small(cli, isolated, recipe, kind)
    data, form = ("y.csv", "csv") if kind == "table" else ("y.npy", "npz")
    shutil.copy(data.replace("y", "x", 1), data)  # the same examples, but as other data, which are not divided
    metrics = ok(cli, "reconstruct", "run1", data, "-o", f"r.{form}")["metrics"]
    judged = ok(cli, "eval", "run1", "--dataset", data)
    assert judged["n"] == 60
    assert judged["metrics"]["elbo"] == pytest.approx(metrics["elbo"], rel=1e-5)
    assert judged["metrics"]["elbo_se"] == pytest.approx(metrics["elbo_se"], rel=1e-3)
    for suffix in (".npz", ".csv", ".parquet"):
        ok(cli, "embed", "run1", "--dataset", data, "-o", f"z{suffix}")
        document = ok(cli, "decode", "run1", f"z{suffix}", "-o", f"d.{form}", "-f")
        assert (document["n"], document["of"]) == (60, 60)
        if kind == "table":
            with (isolated / "r.csv").open() as file, (isolated / "d.csv").open() as other:
                rows, decoded = list(csv.DictReader(file)), list(csv.DictReader(other))
            assert list(decoded[0]) == ["age", "rate"]
            assert [(row["age"], row["rate"]) for row in rows] == [(row["age"], row["rate"]) for row in decoded]
        else:
            arrays = arrays_of(isolated / "d.npz")
            assert np.array_equal(arrays["images"], arrays_of(isolated / "r.npz")["images"])
            name = "codes" if recipe in CODED else "z"
            assert np.array_equal(arrays[name], arrays_of(isolated / "z.npz")[name])
    ok(cli, "decode", "run1", "z.csv", "-o", "some.png", "-n", 5)


@pytest.mark.parametrize("name", some(["digits", "glyphs"], 2))
def test_test_splits_of_known_data_decode_too(cli: Cli, isolated: Path, name: str) -> None:
    train_small(cli, isolated, "vae", name)
    ok(cli, "reconstruct", "run1", "-o", "r.npz")
    ok(cli, "embed", "run1", "-o", "z.csv")
    ok(cli, "decode", "run1", "z.csv", "-o", "d.npy")
    assert np.array_equal(np.load("d.npy"), arrays_of(isolated / "r.npz")["images"])


@pytest.mark.parametrize("kind", [(), ("--reconstruct",), ("--interpolate",)])
@pytest.mark.parametrize("recipe", ["vae", "vq-vae", "fsq-vae"])
def test_sample_keeps_its_codes(cli: Cli, isolated: Path, recipe: str, kind: tuple[str, ...]) -> None:
    """They decode to the images beside them, unless points between codes lie in between."""
    train_small(cli, isolated, recipe, "grey")
    ok(cli, "sample", "run1", *kind, "-n", 4, "--columns" if kind == ("--interpolate",) else "--seed", 2, "-o", "s.npz")
    ok(cli, "decode", "run1", "s.npz", "-o", "d.npy")
    arrays, space = arrays_of(isolated / "s.npz"), Run.open("run1").load_model().space
    assert arrays["z"].shape == (4, np.prod(space.shape))
    assert ("codes" in arrays) == (recipe != "vae" and kind != ("--interpolate",))
    expected = np.rint(np.clip(arrays["images"][:, 0], 0, 1) * 255).astype(np.uint8)
    assert np.abs(np.load("d.npy").astype(int) - expected).max() <= 1  # other batches
    if "codes" in arrays:
        np.savez("z.npz", z=arrays["z"])
        ok(cli, "decode", "run1", "z.npz", "-o", "z.npy")
        assert np.array_equal(np.load("z.npy"), np.load("d.npy"))


def test_sample_says_nothing_new(cli: Cli, runs: Path) -> None:
    document = ok(cli, "sample", "run1", "-n", 4, "-o", "s.npz")
    assert document.keys() == {"run", "path", "kind", "n", "mode", "seed", "seconds", "images_per_second"}


def test_codes_that_are_typed(cli: Cli, runs: Path, isolated: Path) -> None:
    ok(cli, "decode", "run1", "--z", "0.5,-1.2", "--z", "-1,2", "-o", "typed.npy")
    (isolated / "z.csv").write_text("0.5,-1.2\n-1,2\n")  # no names, as a person may write them
    np.save("z.npy", np.array([[0.5, -1.2], [-1, 2]]))
    for file in ("z.csv", "z.npy"):
        ok(cli, "decode", "run1", file, "-o", "file.npy", "-f")
        assert np.array_equal(np.load("typed.npy"), np.load("file.npy"))
    model = Run.open("run1").load_model()
    with torch.no_grad():
        expected = model.decode(torch.tensor([[0.5, -1.2], [-1.0, 2.0]])).mean[:, 0].numpy()
    assert np.abs(np.load("typed.npy") - 255 * expected).max() <= 0.5 + 1e-3


def test_a_folder_of_pictures_and_where_results_go(cli: Cli, runs: Path, isolated: Path) -> None:
    ok(cli, "embed", "run1", "-o", "z.npz")
    assert ok(cli, "decode", "run1", "z.npz", "-o", "out")["path"] == "out"
    assert len(list((isolated / "out").iterdir())) == 300
    with Image.open("out/000007.png") as picture:
        assert picture.size == (8, 8)
    shown = cli("decode", "run1", "z.npz", "-n", 9)
    assert "the first 9 of 300 codes decoded by run1" in shown.stdout
    assert cli("decode", "run1", "z.npz", "-q").stdout == "runs/run1/decoded/0002.png\n"
    for output, names in (("out", ["-o out is a folder that holds files"]), ("z.npz", ["-o z.npz", "exists"])):
        refuse(cli, ["decode", "run1", "z.npz", "-o", output], 1, names, "--force")
    ok(cli, "decode", "run1", "z.npz", "-o", "out", "--force")


def test_a_draw_depends_on_the_seed(cli: Cli, runs: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        ok(cli, "decode", "run1", "--z", "0,0", "--mode", "draw", "--seed", seed, "-o", f"{name}.npy")
    assert np.array_equal(np.load("a.npy"), np.load("b.npy"))
    assert not np.array_equal(np.load("a.npy"), np.load("c.npy"))


def test_standard_output_may_be_a_pipe(runs: Path) -> None:
    """One line of the path, and exit code 0, where nobody reads on."""
    line = f"{sys.executable} -m vaectl decode run1 --z 0,0 -q | head -1"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "runs/run1/decoded/0001.png\n", "")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("z0,z1\n1,2\n3,\n", ["z.csv", "row 3", "column 'z1' is empty"]),
        ("z0,z1\n1,2\n3,inf\n", ["z.csv", "row 3", "column 'z1' is not finite"]),
        ("z0,z1\n1,2\n3,1e39\n", ["z.csv", "row 3", "z1"]),
        ("z0,z1\n1,2\n3,a\n4,5\n", ["z.csv", "row 3", "column 'z1' holds 'a'"]),
        ("z0\n1\n", ["z.csv", "the codes of run1", "lacks 1 column 'z1'"]),
        ("z0,z1,z2\n1,2,3\n", ["z.csv", "column 'z2'", "the codes of run1 end with 'z1'"]),
        ("1,2,3\n", ["z.csv has 3 columns", "a code of run1 is 2 numbers"]),
        ("age,rate\n1,2\n", ["z.csv", "the codes of run1", "lacks 2 columns 'z0', 'z1'"]),
        ("z0,z1\n", ["z.csv"]),
    ],
)
def test_tables_without_codes(cli: Cli, runs: Path, isolated: Path, text: str, names: list[str]) -> None:
    (isolated / "z.csv").write_text(text)
    refuse(cli, ["decode", "run1", "z.csv", "-o", "d.npy"], 1, names)


def test_files_without_codes(cli: Cli, runs: Path, isolated: Path) -> None:
    z = np.zeros((5, 2), np.float32)
    z[3, 1] = np.nan
    np.savez("nan.npz", z=z)
    np.savez("wide.npz", z=np.zeros((5, 3)))
    np.savez("other.npz", a=np.zeros((5, 2)), b=np.zeros((5, 2)))
    np.savez("objects.npz", z=np.array([{}], object), allow_pickle=True)
    np.save("empty.npy", np.zeros((0, 2)))
    (isolated / "text.npz").write_text("hello")
    (isolated / "z.xyz").write_text("1,2")
    for file, names in (
        ("nan.npz", ["nan.npz: row 3: z1 is nan", "a finite number"]),
        ("wide.npz", ["wide.npz: array 'z' is float64 (5, 3)", "the codes of run1 are (N, 2)"]),
        ("other.npz", ["other.npz has no array 'z'"]),
        ("objects.npz", ["objects.npz", "Python objects"]),
        ("empty.npy", ["empty.npy has no rows"]),
        ("text.npz", ["text.npz is not an .npz file"]),
        ("z.xyz", ["z.xyz: unknown format '.xyz'"]),
        ("gone.npz", ["gone.npz does not exist"]),
        ("gone.csv", ["gone.csv does not exist"]),
        ("runs", ["runs is a folder"]),
        (f"{'x' * 300}.npz", ["does not exist"]),
    ):
        refuse(cli, ["decode", "run1", file, "-o", "d.npy"], 1, names)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], ["decode needs codes"]),
        (["z.npz", "--z", "0,0"], ["both z.npz and --z"]),
        (["--z", "0.5"], ["--z must be 2 numbers", "'0.5'"]),
        (["--z", "a,b"], ["--z must be 2 numbers", "'a,b'"]),
        (["--z", "0,nan"], ["--z: '0,nan': z1 is nan"]),
        (["--z", "0,0", "-o", "d.gif"], ["unknown format '.gif'"]),
        (["--z", "0,0", "-o", "d.csv"], ["-o d.csv", "run1 makes images"]),
        (["--z", "0,0", "--mode", "median"], ["--mode"]),
        (["--z", "0,0", "-n", "0"], ["-n"]),
    ],
)
def test_command_lines_that_are_refused(cli: Cli, runs: Path, arguments: list[str], names: list[str]) -> None:
    refuse(cli, ["decode", "run1", *arguments], 2, names, None if "d.gif" not in arguments else ".png")


def test_numbers_of_no_codebook(cli: Cli, isolated: Path) -> None:
    flags = ["--model", "vq-vae", *make(isolated, "grey"), "--codes", 8, "--prior-epochs", 0]
    assert cli("train", *flags, *QUICK).exit_code == 0
    ok(cli, "embed", "run1", "-o", "z.npz")
    arrays = arrays_of(isolated / "z.npz")
    codes = arrays["codes"]
    height, width = codes.shape[1:]
    large = codes.copy()
    large.flat[height * width + 1] = 8
    np.savez("large.npz", codes=large, z=arrays["z"])
    np.savez("part.npz", codes=codes + 0.5)
    np.savez("bare.npz", codes.reshape(len(codes), -1))
    header = ",".join(f"codes{index}" for index in range(height * width))
    (isolated / "c.csv").write_text(f"{header}\n" + ",".join(["1"] * (height * width - 1) + ["-1"]) + "\n")
    ok(cli, "decode", "run1", "bare.npz", "-o", "bare.npy")
    ok(cli, "decode", "run1", "z.npz", "-o", "z.npy")
    assert np.array_equal(np.load("bare.npy"), np.load("z.npy"))
    refuse(cli, ["decode", "run1", "large.npz"], 1, ["large.npz: row 1: codes1 is 8", "a whole number from 0 to 7"])
    refuse(cli, ["decode", "run1", "part.npz"], 1, ["part.npz: row 0: codes0 is", ".5", "a whole number from 0 to 7"])
    refuse(cli, ["decode", "run1", "c.csv"], 1, ["c.csv: row 2", f"codes{height * width - 1} is -1"])
    refuse(cli, ["decode", "run1", "--z", "1,2"], 2, [f"--z must be {height} x {width} whole numbers from 0 to 7"])
    typed = ",".join(map(str, codes[0].ravel()))
    ok(cli, "decode", "run1", "--z", typed, "-o", "typed.npy")
    assert np.abs(np.load("typed.npy")[0].astype(int) - np.load("z.npy")[0]).max() <= 1


def test_a_table_stays_a_table(cli: Cli, isolated: Path) -> None:
    assert cli("train", *make(isolated, "table"), "--latent-dim", 2, "--hidden-dims", 8, *QUICK).exit_code == 0
    ok(cli, "decode", "run1", "--z", "0,0", "-o", "d.parquet")
    ok(cli, "decode", "run1", "--z", "0,0", "-o", "map.png")
    refuse(cli, ["decode", "run1", "--z", "0,0", "-o", "out"], 2, ["-o out", "a folder is for images"], ".csv")


def test_codes_are_read_part_by_part(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes of a file are mapped, and what is read at once does not change them."""
    values = np.random.RandomState(0).randn(1000, 4)
    np.save("z.npy", values)
    monkeypatch.setattr(reading, "PIECE_BYTES", 160)
    codes = read_codes(Path("z.npy"), [Form("z", (4,))], "run1")
    assert isinstance(codes.values, np.memmap)
    parts = list(codes.parts(7))
    assert max(map(len, parts)) == 7
    assert np.array_equal(np.concatenate(parts), values.astype(np.float32))


@pytest.mark.parametrize("output", ["d.npy", "d.npz", "out"])
def test_decode_holds_a_batch_at_a_time(cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    """Of 60 batches there are never more than the one written and the one decoded."""
    from vaectl.evaluation import metrics, reconstruction

    ok(cli, "embed", "run1", "-o", "z.npz")
    monkeypatch.setattr(metrics, "EVALUATION_BATCH", 5)
    seen, most, decoded = list[weakref.ref[Any]](), list[int](), reconstruction.decoded

    def watched(*arguments: Any, **options: Any) -> Generator[torch.Tensor]:
        for images in decoded(*arguments, **options):
            seen.append(weakref.ref(images))
            most.append(sum(image() is not None for image in seen))
            yield images

    monkeypatch.setattr(reconstruction, "decoded", watched)
    ok(cli, "decode", "run1", "z.npz", "-o", output)
    assert len(seen) == 60
    assert max(most) <= 2


def test_a_file_that_claims_too_much_is_refused(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed("z.npz", z=np.zeros((100_000, 4)))
    monkeypatch.setenv("VAECTL_MAX_BYTES", "1M")
    with pytest.raises(DataError, match=r"would take 3\.1 MiB of memory"):
        read_codes(Path("z.npz"), [Form("z", (4,))], "run1")


@pytest.mark.parametrize("most", [64, 1 << 20])
def test_a_spool_gives_back_what_it_was_given(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """From memory, or from a file."""
    from vaectl.output import arrays

    monkeypatch.setattr(arrays, "SPOOLED", most)
    values = np.random.RandomState(0).randn(50, 3).astype(np.float32)
    with Spool(values.shape, values.dtype) as spool:
        for start in range(0, 50, 7):
            spool.add(values[start : start + 7])
        assert np.array_equal(spool.stream().whole(), values)
