"""Sheets of tiles with labelled axes, heat maps of tables, and the use of codes.

Shapes: a picture is uint8 (height, width, 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from vaectl.output.plots.palette import CLASSES, INK, PAPER, SOFT
from vaectl.output.plots.style import WIDTH, folded, frameless, new_figure, plain, styled

# limit for the inches of a tile, and of a picture beside the tiles
LARGEST_TILE, BESIDE = 0.75, 0.9
# limit for the height of all tiles in inches, and the least width of a figure, for images that are very high
HIGHEST, NARROWEST = 14.0, 3.0
# limit for the tiles that all have a tick along x; of more, five have one
MOST_TICKS = 11
# limits for the labelled columns and the rows of a heat map
MOST_NAMED_COLUMNS, MOST_ROWS = 40, 200
HEAT = "viridis"
# tails of a column that share the colour of its ends
TAIL = 0.01


@styled
def sheet(
    picture: np.ndarray,
    title: str,
    *,
    x: tuple[str, Sequence[str]],
    y: tuple[str, Sequence[str]] | None,
    beside: Sequence[tuple[str, np.ndarray]] = (),
    framed: Sequence[tuple[int, int]] = (),
) -> Figure:
    """Plot a picture of tiles with labelled axes.

    Args:
        picture: The tiles.
        title: The title.
        x: Name of the axis along a row, and a label for each column of tiles.
        y: Name of the axis along a column, and a label for each row, all of which are shown; None for a single row.
        beside: Pictures to the left of the tiles, with their names.
        framed: Row and column of tiles to frame.
    """
    (height, width), columns = picture.shape[:2], len(x[1])
    rows = len(y[1]) if y else 1
    inches = min(
        LARGEST_TILE * columns,
        WIDTH - 0.8 - BESIDE * len(beside) - 0.02 * max(map(len, y[1] if y else ("",))),
        HIGHEST * width / height,
    )
    figure = new_figure(inches * height / width + 0.9, max(NARROWEST, inches + 0.8 + (BESIDE + 0.1) * len(beside)))
    axes = figure.subplots(1, len(beside) + 1, squeeze=False, width_ratios=[*(BESIDE for _ in beside), inches])[0]
    for ax, (name, image) in zip(axes, beside, strict=False):
        frameless(ax, image)
        ax.set_anchor("N")
        ax.set_xlabel(name)
    ax = axes[-1]
    frameless(ax, picture)
    ax.set_anchor("N")
    ax.set_xlabel(x[0])
    shown = ticked(columns)
    ax.set_xticks([width / columns * (i + 0.5) for i in shown], [minus(x[1][i]) for i in shown])
    if y is not None:
        # a square of many tiles has as many labels along both sides
        lines = ticked(rows) if rows == columns else range(rows)
        ax.set_ylabel(y[0])
        ax.set_yticks([height / rows * (i + 0.5) for i in lines], [minus(plain(y[1][i])) for i in lines])
    for row, column in framed:
        corner = (width / columns * column - 0.5, height / rows * row - 0.5)
        frame = Rectangle(corner, width / columns, height / rows, fill=False, edgecolor=CLASSES[7], linewidth=2)
        ax.add_patch(frame).set_path_effects([withStroke(linewidth=3.5, foreground=PAPER)])
    figure.suptitle(folded(title), fontsize=10, x=0.01, ha="left")
    return figure


def ticked(tiles: int) -> list[int]:
    """The tiles with a tick: all, or of many five that are evenly spaced, the middle among them."""
    if tiles <= MOST_TICKS:
        return list(range(tiles))
    return sorted({round(i * (tiles - 1) / 4) for i in range(5)})


def minus(text: str) -> str:
    """A text with a minus sign instead of a hyphen before its number, and -0.0 without."""
    text = text.removeprefix("-") if text.strip("-0.") == "" else text
    return f"\N{MINUS SIGN}{text[1:]}" if text.startswith("-") else text


@styled
def heat_map(tables: Sequence[tuple[str, np.ndarray]], names: Sequence[str], title: str) -> Figure:
    """Plot rows of tables as heat maps; the colours of a column go from its lowest values in all tables to its highest.

    Args:
        tables: Name and values (rows, columns) of each table; rows after the first 200 are left out.
        names: Names of the columns.
        title: The title.
    """
    count, rows = len(names), min(MOST_ROWS, len(tables[0][1]))
    values = [table[:rows] for _, table in tables]
    # a few wild values would leave one colour to all others
    low, high = np.quantile(np.nan_to_num(np.concatenate(values)), (TAIL, 1 - TAIL), axis=0)  # (columns,) each
    span = np.where(high > low, high - low, 1)
    figure = new_figure(min(1.6 + 0.16 * rows, 16.0), max(WIDTH, min(0.12 * count * len(tables), 14.0)))
    axes = figure.subplots(1, len(tables), squeeze=False, sharey=True)[0]
    for ax, (name, _), table in zip(axes, tables, values, strict=True):
        heat = ax.imshow((table - low) / span, aspect="auto", cmap=HEAT, vmin=0, vmax=1)
        every = math.ceil(count * len(tables) / MOST_NAMED_COLUMNS)
        places = range(0, count, every)
        ax.set_xticks(list(places), [folded(names[i][:30]) for i in places], rotation=90)
        ax.spines[:].set_visible(False)
        ax.set_title(plain(name), loc="left")
    axes[0].set_ylabel("row")
    axes[0].yaxis.get_major_locator().set_params(integer=True)
    figure.colorbar(heat, ax=list(axes), fraction=0.04, ticks=(0, 1), extend="both").set_ticklabels(
        ("low", "high\nin its\ncolumn")
    )
    figure.suptitle(folded(title), fontsize=10, x=0.01, ha="left")
    return figure


@styled
def code_usage(
    counts: np.ndarray, perplexity: float, examples: Sequence[tuple[np.ndarray, np.ndarray]], title: str
) -> Figure:
    """Plot the frequency of each code, the most used first, and images above the maps of their codes.

    Args:
        counts: How often each of K codes is used (K,).
        perplexity: Perplexity of the frequencies.
        examples: Pictures of images, each with the usage rank of the code at every position (h, w).
        title: The title.
    """
    figure = new_figure(6.2, max(8.0, 1.1 * len(examples)))
    parts: Any = figure.subfigures(2, 1, height_ratios=(3.2, 2.6))
    ax = parts[0].subplots()
    share = np.sort(counts)[::-1] / max(counts.sum(), 1)
    ax.stairs(share, np.arange(len(share) + 1) - 0.5, fill=True, color=CLASSES[1])
    ax.axhline(1 / len(share), color=SOFT, linestyle="--", linewidth=1, label="uniform use")
    ax.axvline(perplexity, color=INK, linestyle=":", linewidth=1.5, label=f"perplexity {perplexity:.1f}")
    ax.set_yscale("log")
    ax.set(xlabel="codes, most used first", ylabel="fraction of positions", xlim=(-0.5, len(share) - 0.5))
    ax.set_title(folded(title), loc="left")
    ax.legend(frameon=False)
    pairs = parts[1].subplots(2, len(examples), squeeze=False)
    for (above, below), (picture, ranks) in zip(pairs.T, examples, strict=True):
        frameless(above, picture)
        frameless(below, ranks, cmap="viridis_r", clim=(0, max(len(counts) - 1, 1)))
    pairs[0, 0].set_ylabel("image", rotation=0, ha="right", va="center")
    pairs[1, 0].set_ylabel("rank of\nits codes", rotation=0, ha="right", va="center")
    return figure
