"""Maps of what is unexpected in an image, and bars for the columns of a row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from vaectl.output.plots.palette import CLASSES, SOFT
from vaectl.output.plots.style import WIDTH, folded, frameless, new_figure, styled

# colours of a map, which are dark where nothing is unexpected
HEAT = "inferno"
# most columns of a table that have a bar
MOST_BARS = 25
# inches of the three pictures, and the limits for their height
ACROSS, HIGHEST, LOWEST = 2.1, 8.0, 0.6


@styled
def surprise_map(
    original: np.ndarray, reconstruction: np.ndarray, nats: np.ndarray, span: tuple[float, float], title: str
) -> Figure:
    """Plot an image, its reconstruction and a map side by side.

    Args:
        original: The image, uint8 (height, width, 3).
        reconstruction: Its reconstruction, uint8 (height, width, 3).
        nats: The map (H, W).
        span: Ends of the colour bar in nats.
        title: The title.
    """
    height = min(HIGHEST, max(LOWEST, ACROSS * original.shape[0] / original.shape[1]))
    figure = new_figure(height + 0.75)
    axes = figure.subplots(1, 3)
    for ax, name, picture in zip(axes, ("image", "reconstruction"), (original, reconstruction), strict=False):
        frameless(ax, picture)
        ax.set_title(name)
    low, high = span
    frameless(axes[2], nats, cmap=HEAT, clim=(low, high if high > low else low + 1))
    axes[2].set_title("unexpected")
    bar = figure.colorbar(axes[2].images[0], ax=axes[2], fraction=0.06, extend="both")
    bar.set_label("nats by pixel")
    bar.outline.set_visible(False)
    figure.suptitle(folded(title), fontsize=10, x=0.01, ha="left")
    return figure


@styled
def surprise_bars(names: Sequence[str], nats: np.ndarray, usual: np.ndarray | None, title: str) -> Figure:
    """Plot the most unexpected columns of a row as bars, each with its usual value as a line.

    The columns are ordered by the difference from their usual value.

    Args:
        names: Names of the columns.
        nats: Unexpectedness of each column (W,).
        usual: The same on average over normal rows (W,); None if it is unknown.
        title: The title.
    """
    order = np.argsort((0 if usual is None else usual) - nats, kind="stable")[:MOST_BARS]
    figure = new_figure(0.9 + 0.22 * len(order), WIDTH)
    ax = figure.subplots()
    places = np.arange(len(order))
    ax.barh(places, nats[order], color=CLASSES[0], height=0.7)
    if usual is not None:
        ax.vlines(usual[order], places - 0.45, places + 0.45, color=SOFT, linewidth=2, label="mean of normal rows")
        ax.legend(frameon=False, loc="lower right")
    ax.set_yticks(places, [folded(names[i][:40]) for i in order])
    ax.invert_yaxis()
    ax.set_xlabel("nats by column")
    some = f" ({MOST_BARS} of {len(names)} columns)" if len(order) < len(names) else ""
    ax.set_title(folded(title + some), loc="left")
    return figure
