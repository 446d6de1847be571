"""The files of ``vaectl score``: a table of all examples, and maps of the most unusual ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vaectl.system.files import writing

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from vaectl.data.examples import Examples
    from vaectl.data.info import DataInfo
    from vaectl.evaluation.anomaly.maps import Surprise
    from vaectl.model.vae import VAE

# most columns of a table whose contributions are written, most maps, and rows whose mean is the usual one
MOST_CONTRIBUTIONS, MOST_MAPS, USUAL_ROWS = 100, 200, 1000
# examples in a part of a table, and those whose maps are computed at once
PART, MAPS_AT_ONCE = 1000, 20
# ends of the colours of maps: the quantiles of all maps that are written
TAIL = 0.002


def table_rows(
    columns: Mapping[str, np.ndarray], model: VAE, examples: Examples, info: DataInfo
) -> Iterator[dict[str, np.ndarray]]:
    """All examples, a part at a time: their columns, and for a narrow table the contributions of its columns."""
    from vaectl.evaluation.anomaly.maps import surprise

    count = len(examples)
    with_contributions = info.is_table and info.shape[-1] <= MOST_CONTRIBUTIONS
    names = info.column_names if with_contributions else []
    batches = examples.batches(PART) if with_contributions else None
    for start in range(0, count, PART):
        part = {name: values[start : start + PART] for name, values in columns.items()}
        if batches is not None:
            nats = surprise(model, next(batches)).nats.flatten(1).cpu().numpy()
            part |= {f"contribution_{name}": nats[:, index] for index, name in enumerate(names)}
        yield part


def usual_contributions(model: VAE, normal: Examples) -> np.ndarray:
    """The mean contribution of each column over normal rows (W,)."""
    from vaectl.data.thinned import thinned
    from vaectl.evaluation.anomaly.maps import surprise

    total, count = None, 0
    for batch in thinned(normal, USUAL_ROWS).batches(PART):
        nats = surprise(model, batch).nats.flatten(1).double().sum(0).cpu()
        total, count = nats if total is None else total + nats, count + len(batch)
    assert total is not None
    usual: np.ndarray = (total / count).numpy()
    return usual


def write_maps(
    folder: Path,
    model: VAE,
    examples: Examples,
    order: np.ndarray,
    titles: Mapping[int, str],
    info: DataInfo,
    normal: Examples | None,
    progress: Callable[[int], None],
) -> list[Path]:
    """Write a picture of each of some examples, and return the paths.

    Args:
        folder: The folder.
        model: The model.
        examples: All examples, on the model's device.
        order: Places of the examples to show, the most unusual first.
        titles: The title of each picture by the example's place.
        info: The run's data.
        normal: Normal examples, whose contributions a row of a table is compared with, or None.
        progress: Called with the number of pictures written.
    """
    import numpy as np
    import torch

    from vaectl.evaluation.anomaly.maps import surprise
    from vaectl.output import plots

    if len(order) == 0:
        return []
    batch = examples.batch(torch.from_numpy(np.ascontiguousarray(order)).to(examples.device))
    parts = [
        surprise(model, batch.rows(slice(start, start + MAPS_AT_ONCE))) for start in range(0, len(batch), MAPS_AT_ONCE)
    ]
    nats = torch.cat([part.nats for part in parts]).cpu().double()
    with writing(folder):
        folder.mkdir(exist_ok=True)
    paths = []
    usual = usual_contributions(model, normal) if info.is_table and normal is not None else None
    maps = nats.mean(1).numpy()  # over the channels (n, H, W)
    low, high = np.quantile(np.nan_to_num(maps, posinf=0, neginf=0), (TAIL, 1 - TAIL)).tolist()
    for number, place in enumerate(order.tolist()):
        if info.is_table:
            figure = plots.surprise_bars(info.column_names, nats[number].flatten().numpy(), usual, titles[place])
        else:
            figure = plots.surprise_map(*_pictures(batch.x[number], parts, number, info), maps[number], (low, high),
                                        titles[place])  # fmt: skip
        path = folder / f"{number + 1:04d}.png"
        plots.save(figure, path)
        paths.append(path)
        progress(number + 1)
    return paths


def _pictures(x: Tensor, parts: list[Surprise], number: int, info: DataInfo) -> tuple[np.ndarray, np.ndarray]:
    """An image and its reconstruction as pictures."""
    from vaectl.output.grids import grid

    mean = parts[number // MAPS_AT_ONCE].mean[number % MAPS_AT_ONCE]
    original, reconstruction = (grid(image[None], 1, 1, info.range) for image in (x, mean))
    return original, reconstruction
