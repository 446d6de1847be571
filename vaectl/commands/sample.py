"""``vaectl sample``: decode draws of the prior, reconstructions or interpolations, to a grid or an array."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaectl.commands._options import (
    Checkpoint,
    DataDir,
    Device,
    Force,
    Json,
    ProgressMode,
    Quiet,
    RunArgument,
    Seed,
    Verbose,
    number,
    output_option,
    state,
)
from vaectl.commands._render import Screen
from vaectl.commands._session import Session, check_choice, check_destination, deliver
from vaectl.errors import UsageError
from vaectl.files import replacing
from vaectl.runs import Run

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.distributions import Distribution

FORMATS = (".png", ".npz", ".npy")
MODES = ("mean", "mode", "draw")
CHUNK = 1000
MOST_TILES = 10_000


def sample_cli(
    context: typer.Context,
    run: RunArgument,
    num_samples: Annotated[
        int,
        typer.Option(
            "--num-samples",
            "-n",
            metavar="INT",
            parser=number(int, 1, 1_000_000),
            help="Images to make, over all lines.",
        ),
    ] = 64,
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature",
            metavar="FLOAT",
            parser=number(float, 0, 10),
            show_default="1.0",
            help="Factor on a draw's distance from the prior's mean, 0 to 10.",
        ),
    ] = None,
    columns: Annotated[
        int | None,
        typer.Option(
            metavar="INT",
            parser=number(int, 1, 1000),
            show_default="a square; 8",
            help="Tiles in a row; with --interpolate the steps of a line.",
        ),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            metavar="mean|mode|draw",
            help="Show the mean or mode of p(x|z), or draw from it; pictures clamp values to 0..1, arrays keep them.",
        ),
    ] = "mean",
    reconstruct: Annotated[
        bool, typer.Option("--reconstruct", help="Test images, each above its reconstruction.")
    ] = False,
    interpolate: Annotated[
        bool, typer.Option("--interpolate", help="Lines between the codes of pairs of test images.")
    ] = False,
    output: Annotated[
        Path | None,
        output_option("Where to write: .png, .npz or .npy.", "RUN/samples/0001.png"),
    ] = None,
    force: Force = False,
    checkpoint: Checkpoint = "best",
    data_dir: DataDir = None,
    device: Device = "auto",
    seed: Seed = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
    progress: ProgressMode = "auto",
) -> None:
    """Decode samples of the prior to an image grid or an array."""
    screen = Screen(quiet, verbose, as_json, progress)
    check_choice("--mode", mode, MODES)
    if reconstruct and interpolate:
        raise UsageError("--reconstruct and --interpolate cannot be given together")
    uses_data = reconstruct or interpolate
    if temperature is not None and uses_data:
        raise UsageError("--temperature is for samples of the prior, not for --reconstruct or --interpolate")
    if data_dir is not None and not uses_data:
        raise UsageError("--data-dir is for --reconstruct and --interpolate; samples need no data")
    opened = Run.open(run, state(context).runs_dir)
    suffix = check_destination(output, FORMATS, force=force)
    if columns is not None and suffix != ".png" and not interpolate:
        raise UsageError(f"--columns is for pictures; {suffix} has none")
    if suffix == ".png" and num_samples > MOST_TILES:
        raise UsageError(
            f"-n {num_samples} is too many for one picture; at most {MOST_TILES}", hint="write .npz or .npy"
        )
    session = Session(opened, screen, device, data_dir)
    kind = "reconstructions" if reconstruct else "interpolations" if interpolate else "samples"
    arrays, columns = make(
        session, kind, num_samples, checkpoint=checkpoint, mode=mode, seed=seed, columns=columns,
        temperature=1.0 if temperature is None else temperature,
    )  # fmt: skip
    path = deliver(output, opened, "samples", suffix, lambda path: write(path, arrays, columns))
    made = len(arrays["images"])
    lines = f" in lines of {columns}" if interpolate else ""
    document = {"run": opened.id, "path": str(path), "kind": kind, "n": made, "mode": mode, "seed": seed}
    screen.result(document, short=str(path), text=f"{made} {kind}{lines} of {opened.id}: {path}")


def make(
    session: Session,
    kind: str,
    n: int,
    *,
    checkpoint: str,
    mode: str,
    seed: int,
    columns: int | None,
    temperature: float,
) -> tuple[dict[str, Tensor], int]:
    """The images of a kind, and the columns to show them in.

    Returns:
        ``images`` float32 (n, C, H, W), which a likelihood of real numbers may put outside [0, 1]; reconstructions
        also have ``originals`` and ``labels``.

    Raises:
        UsageError: More reconstructions are asked for than there are test examples.
    """
    import torch

    from vaectl import latents
    from vaectl.runtime import seeded

    model = session.model(checkpoint)
    with torch.no_grad(), seeded(seed), session.screen.counting(kind, n) as progress:
        if kind == "samples":
            chunks: Iterator[Distribution] = (model.sample(size, temperature) for size in _sizes(n))
            return {"images": _decode(chunks, mode, progress)}, columns or math.ceil(math.sqrt(n))
        test = session.data().test
        order = torch.randperm(len(test))
        if kind == "reconstructions":
            if n > len(test):
                raise UsageError(f"-n {n}: the test split has {len(test)} examples")
            rows = order[:n]
            originals = test.batch(rows)
            chunks = (model.decoder(model.encoder(x.to(session.device)).mean) for x in torch.split(originals, CHUNK))
            arrays = {"images": _decode(chunks, mode, progress), "originals": originals, "labels": test.labels[rows]}
            return arrays, columns or min(n, 16)
        steps = columns or 8
        lines = math.ceil(n / steps)
        if 2 * lines > len(test):
            raise UsageError(f"-n {n}: {lines} lines need {2 * lines} test examples; there are {len(test)}")
        ends = test.batch(order[: 2 * lines]).to(session.device)
        at_once = max(1, CHUNK // steps)
        starts = zip(torch.split(ends[:lines], at_once), torch.split(ends[lines:], at_once), strict=True)
        chunks = (latents.interpolate(model, a, b, steps) for a, b in starts)
        return {"images": _decode(chunks, mode, progress)[:n]}, steps


def write(path: Path, made: dict[str, Tensor], columns: int) -> None:
    """Write images as a grid (reconstructions under their originals), or as arrays."""
    import numpy as np

    from vaectl import arrays
    from vaectl.grids import LARGE_TILE_PIXELS, grid, pairs, save_png

    suffix = path.suffix.lower()
    if suffix == ".png":
        images = pairs(made["originals"], made["images"], columns) if "originals" in made else made["images"]
        save_png(grid(images, columns, LARGE_TILE_PIXELS), path)
    elif suffix == ".npz":
        arrays.save({name: value.numpy() for name, value in made.items()}, path)
    else:
        # given a name instead of a file, numpy may add a suffix to it
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, made["images"].numpy())


def _sizes(n: int) -> Iterator[int]:
    yield from (min(CHUNK, n - start) for start in range(0, n, CHUNK))


def _decode(chunks: Iterator[Distribution], mode: str, progress: Callable[[int], None]) -> torch.Tensor:
    import torch

    from vaectl.distributions import mode_of

    shown: dict[str, Callable[[Distribution], Tensor]] = {
        "mean": lambda px: px.mean,
        "mode": mode_of,
        "draw": lambda px: px.sample(),
    }
    made: list[torch.Tensor] = []
    done = 0
    for px in chunks:
        made.append(shown[mode](px).float().cpu())
        done += len(made[-1])
        progress(done)
    return torch.cat(made)
