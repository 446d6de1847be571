"""Figures: arrays -> matplotlib Figure. The only file that imports matplotlib.

Shapes: ``N`` points; a picture is uint8 (height, width, 3).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from vaectl.files import replacing

# ten colours that people with a colour-vision deficiency tell apart (Petroff, 2021, https://arxiv.org/abs/2107.02270)
PALETTE: list[Any] = mpl.color_sequences["petroff10"]
MARKERS = "osD^v<>P*X"
# matplotlib salts the ids in an SVG at random otherwise
RC: Any = {"svg.hashsalt": "vaectl"}


def encode(figure: Figure, suffix: str) -> bytes:
    """A figure in the format of a suffix, the same bytes for the same figure."""
    dated: dict[str, dict[str, Any]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    out = io.BytesIO()
    with mpl.rc_context(RC):
        figure.savefig(out, format=suffix[1:], dpi=150, metadata=dated.get(suffix))
    return out.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's suffix.

    Raises:
        OutputError: The file cannot be written.
    """
    content = encode(figure, path.suffix.lower())
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def scatter(points: np.ndarray, labels: np.ndarray, axes: Sequence[str], title: str) -> Figure:
    """Points (N, 2) coloured by label (N,), each class named in the legend and at its median."""
    figure = _figure(7.2, 6.0)
    ax = figure.add_subplot()
    draw_scatter(ax, points, labels, size=max(5.0, min(16.0, 30000 / len(points))))
    ax.set(xlabel=axes[0], ylabel=axes[1], title=title)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, markerscale=2, title="label")
    return figure


def draw_scatter(ax: Axes, points: np.ndarray, labels: np.ndarray, size: float) -> None:
    """Draw a scatter by label into axes; classes differ by colour, and past ten by marker too."""
    for place, label in enumerate(np.unique(labels)):
        mine = points[labels == label]
        colour, marker = PALETTE[place % len(PALETTE)], MARKERS[place // len(PALETTE) % len(MARKERS)]
        ax.scatter(
            mine[:, 0],
            mine[:, 1],
            s=size,
            color=colour,
            marker=marker,
            alpha=0.6,
            linewidths=0,
            label=str(label),
            rasterized=True,
        )
    for place, label in enumerate(np.unique(labels)):
        x, y = np.median(points[labels == label], axis=0)
        ax.annotate(
            str(label),
            (x, y),
            ha="center",
            va="center",
            fontsize=12,
            fontweight="bold",
            color=PALETTE[place % len(PALETTE)],
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )


def sheet(
    picture: np.ndarray, title: str, *, x: tuple[str, Sequence[str]] | None, y: tuple[str, Sequence[str]] | None
) -> Figure:
    """A picture of tiles between labelled axes; ``x`` and ``y`` are an axis name and one label for each tile."""
    height, width = picture.shape[:2]
    scale = 7.0 / max(height, width)
    figure = _figure(width * scale + 1.2, height * scale + 1.0)
    ax = figure.add_subplot()
    ax.imshow(picture, interpolation="nearest", aspect="equal")
    ax.set_title(title)
    for axis, extent, ticks in ((ax.xaxis, width, x), (ax.yaxis, height, y)):
        if ticks is None:
            axis.set_visible(False)
            continue
        name, texts = ticks
        tile = extent / len(texts)
        every = max(1, len(texts) // 10)
        axis.set_ticks([tile * (i + 0.5) for i in range(0, len(texts), every)], texts[::every], fontsize=8)
        axis.set_label_text(name)
    ax.spines[:].set_visible(False)
    return figure


def comparison(
    names: Sequence[str],
    histories: Sequence[Mapping[str, Sequence[float]]],
    originals: np.ndarray,
    reconstructions: Sequence[np.ndarray],
    samples: Sequence[np.ndarray],
    latents: Sequence[tuple[np.ndarray, np.ndarray, Sequence[str]]],
) -> Figure:
    """Runs side by side: curves, the same test images through each, same-seed samples, latents on shared axes.

    Args:
        names: One name for each run.
        histories: For each run ``epoch``, ``elbo`` (validation, nats) and ``kl`` (nats) by epoch.
        originals: Picture of the test images.
        reconstructions: For each run the picture of their reconstructions.
        samples: For each run the picture of its samples.
        latents: For each run points (N, 2), labels (N,) and axis names.
    """
    n = len(names)
    width = max(9.0, 3.6 * n)
    figure = _figure(width, 13.0 + 0.7 * n)
    parts: Any = figure.subfigures(4, 1, height_ratios=(3.0, 0.7 * (n + 1), 3.6, 3.6))
    top, images, lower, bottom = parts
    curves = top.subplots(1, 2)
    for place, (name, history) in enumerate(zip(names, histories, strict=True)):
        style = {"color": PALETTE[place % len(PALETTE)], "marker": MARKERS[place % len(MARKERS)], "markersize": 3}
        curves[0].plot(history["epoch"], history["elbo"], label=name, **style)
        curves[1].plot(history["epoch"], history["kl"], label=name, **style)
    curves[0].set(xlabel="epoch", ylabel="nats", title="validation ELBO (higher is better)")
    curves[1].set(xlabel="epoch", ylabel="nats", title="validation KL")
    for ax in curves:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend(frameon=False)
    rows = np.atleast_1d(images.subplots(n + 1, 1))
    for ax, name, picture in zip(rows, ("test images", *names), (originals, *reconstructions), strict=True):
        _tiles(ax, picture)
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
    for ax, name, picture in zip(np.atleast_1d(lower.subplots(1, n)), names, samples, strict=True):
        _tiles(ax, picture)
        ax.set_title(f"{name}: samples")
    shared = bottom.subplots(1, n, sharex=True, sharey=True, squeeze=False)[0]
    for ax, name, (points, labels, axes) in zip(shared, names, latents, strict=True):
        draw_scatter(ax, points, labels, size=4)
        ax.set(xlabel=axes[0], ylabel=axes[1], title=f"{name}: latent space")
    return figure


def _tiles(ax: Axes, picture: np.ndarray) -> None:
    ax.imshow(picture, interpolation="nearest", aspect="equal")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")
