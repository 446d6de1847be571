"""``vaectl embed``: the codes of a data set, as arrays or a table."""

from __future__ import annotations

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
    SplitName,
    Verbose,
    output_option,
    seed_option,
    state,
)
from vaectl.commands._render import Screen
from vaectl.commands._session import Session, check_choice, check_destination, destination
from vaectl.errors import DataError, UsageError, VaectlError
from vaectl.files import replacing
from vaectl.runs import Run
from vaectl.spec import SPLITS

if TYPE_CHECKING:
    import numpy as np

FORMATS = (".npz", ".csv", ".parquet")


def embed_cli(
    context: typer.Context,
    run: RunArgument,
    split: SplitName = "test",
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            metavar="NAME",
            show_default="the run's own",
            help="Another data set of the same shape.",
        ),
    ] = None,
    draw: Annotated[bool, typer.Option("--draw", help="Draw from the posterior instead of taking its mean.")] = False,
    output: Annotated[
        Path | None,
        output_option("Where to write: .npz, .csv or .parquet.", "RUN/embeddings/0001.npz"),
    ] = None,
    force: Force = False,
    checkpoint: Checkpoint = "best",
    data_dir: DataDir = None,
    device: Device = "auto",
    seed: Annotated[int | None, seed_option("Seed of --draw.", "0")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
    progress: ProgressMode = "auto",
) -> None:
    """Encode a data set to latent codes: posterior mean, scale, label and row of each example."""
    screen = Screen(quiet, verbose, as_json, progress)
    check_choice("--split", split, SPLITS)
    if seed is not None and not draw:
        raise UsageError("--seed is for --draw; the posterior mean is the same at every call")
    opened = Run.open(run, state(context).runs_dir)
    suffix = check_destination(output, FORMATS, force=force)
    if suffix == ".parquet":
        _require_pyarrow(output)
    session = Session(opened, screen, device, data_dir)
    codes = embed(session, split, dataset, checkpoint=checkpoint, draw=draw, seed=seed or 0)
    with destination(output, opened, "embeddings", suffix) as path:
        write(path, codes)
    count, latent_dim = codes["code"].shape
    document = {"run": opened.id, "path": str(path), "split": split, "n": count, "latent_dim": latent_dim, "draw": draw}
    screen.result(document, short=str(path), text=f"{count} codes of {latent_dim} dimensions of {opened.id}: {path}")


def embed(
    session: Session, split: str, dataset: str | None, *, checkpoint: str, draw: bool, seed: int
) -> dict[str, np.ndarray]:
    """The codes of a split.

    Returns:
        ``code`` (N, D): posterior means, or draws; ``scale`` (N, D): posterior standard deviations;
        ``label`` (N,); ``row`` (N,): the example's row in the data set's own training or test array.

    Raises:
        DataError: The split is empty.
    """
    from vaectl import latents

    model = session.model(checkpoint)
    examples = session.data(dataset).split(split)
    if len(examples) == 0:
        raise DataError(f"--split {split} has no examples")
    with session.screen.counting("encoding", len(examples)) as progress:
        codes = latents.encode(model, examples.to(session.device), seed=seed, progress=progress)
    return {
        "code": (codes.draw if draw else codes.mean).numpy(),
        "scale": codes.scale.numpy(),
        "label": examples.labels.numpy(),
        "row": examples.rows.numpy(),
    }


def write(path: Path, codes: dict[str, np.ndarray]) -> None:
    """Write codes as ``.npz`` arrays, or as a table with the columns row, label, z0.., scale0.. ."""
    import numpy as np

    suffix = path.suffix.lower()
    with replacing(path) as temporary:
        if suffix == ".npz":
            with temporary.open("wb") as file:  # given a name, numpy may add a suffix to it
                np.savez(file, **codes)  # type: ignore[arg-type]
            return
        columns = {"row": codes["row"], "label": codes["label"]}
        columns |= {f"z{i}": codes["code"][:, i] for i in range(codes["code"].shape[1])}
        columns |= {f"scale{i}": codes["scale"][:, i] for i in range(codes["scale"].shape[1])}
        if suffix == ".csv":
            header = ",".join(columns)
            # nine significant digits bring a float32 back exactly
            form = ["%d", "%d", *["%.9g"] * (len(columns) - 2)]
            np.savetxt(temporary, np.column_stack(list(columns.values())), form, ",", header=header, comments="")
        else:
            import pyarrow as pa
            from pyarrow import parquet

            parquet.write_table(pa.table(columns), temporary)


def _require_pyarrow(path: Path | None) -> None:
    from importlib.util import find_spec

    if find_spec("pyarrow") is None:
        raise VaectlError(f"-o {path}: .parquet needs the package pyarrow", hint="install it with: pip install pyarrow")
