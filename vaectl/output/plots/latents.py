"""Scatter plots of latents: classes with their names or a legend, and the prior's circles.

Shapes: ``N`` points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke

from vaectl.output.plots.palette import INK, MOST_CLASSES, PAPER, SOFT, class_look
from vaectl.output.plots.style import folded, new_figure, plain, styled

# limits for the names in a scatter: characters of a name, and the code point up to which matplotlib's font is complete
LONGEST_NAME = 30
# limit for classes with names among their points, the points that each such name needs, and rows of a legend
MOST_AMONG_POINTS, POINTS_OF_A_NAME, LEGEND_ROWS = 12, 10, 24
# points of a class whose density is measured, and the width of the kernel as a fraction of the plot
MEASURED, KERNEL = 1000, 0.04
ALPHA = 0.8


@styled
def scatter(
    points: np.ndarray,
    labels: np.ndarray,
    axes: Sequence[str],
    title: str,
    names: Sequence[str] = (),
    *,
    equal: bool = True,
    prior: tuple[float, float] | None = None,
) -> Figure:
    """Plot points coloured by class, with a name among the points of each class if there are few, else with a legend.

    Args:
        points: Latents on a plane (N, 2).
        labels: Class of each point (N,); -1 means that there is none.
        axes: Names of the two axes.
        title: The title.
        names: Names of the classes 0, 1, ... ; empty if they have none.
        equal: Whether both axes have one scale, because both are latents.
        prior: Centre of the standard normal prior, drawn as circles at one and two standard deviations, or None.
    """
    figure = new_figure(6.4, 6.8)
    ax = figure.add_subplot()
    size = max(5.0, min(16.0, 30000 / len(points)))
    draw_points(ax, points, labels, size=size, names=names)
    if prior is not None:
        draw_prior(ax, prior)
    if equal:
        ax.set_aspect("equal", adjustable="datalim")
    ax.set(xlabel=axes[0], ylabel=axes[1])
    ax.set_title(folded(title), loc="left")
    if names_fit(labels):
        write_names(ax, points, labels, names, inches=5.8, equal=equal, prior=prior)
    elif has_legend(labels):
        add_legend(figure, ax)
    return figure


def draw_points(ax: Axes, points: np.ndarray, labels: np.ndarray, *, size: float, names: Sequence[str] = ()) -> None:
    """Draw points by class; too many classes for different looks are drawn without names."""
    kinds = np.unique(labels)
    if len(kinds) > MOST_CLASSES:
        colours = [class_look(label)[0] for label in labels.tolist()]
        ax.scatter(points[:, 0], points[:, 1], s=size, c=colours, alpha=ALPHA, linewidths=0, rasterized=True)
        return
    for label in kinds.tolist():
        mine = points[labels == label]
        colour, marker = class_look(label)
        ax.scatter(
            mine[:, 0], mine[:, 1], s=size, color=colour, marker=marker, alpha=ALPHA, linewidths=0,
            label=class_name(label, names), rasterized=True,
        )  # fmt: skip


def draw_prior(ax: Axes, centre: tuple[float, float]) -> None:
    """Draw the standard normal prior as circles at one and two standard deviations."""
    for radius, (place, text) in enumerate(_circles(centre), start=1):
        ax.add_patch(Circle(centre, radius, fill=False, edgecolor=SOFT, linewidth=1, linestyle="--", zorder=0.5))
        halo = [withStroke(linewidth=3, foreground=PAPER)]
        ax.annotate(text, place, ha="center", va="center", color=INK, path_effects=halo, zorder=3)


def _circles(centre: tuple[float, float] | None) -> list[tuple[tuple[float, float], str]]:
    """Place and text of the names of the prior's circles."""
    if centre is None:
        return []
    return [((centre[0], centre[1] - radius), f"prior, {radius} sd") for radius in (1, 2)]


def names_fit(labels: np.ndarray) -> bool:
    """Whether the name of each class fits among its points, so that no legend is needed."""
    kinds = np.unique(labels)
    return -1 not in kinds and len(kinds) <= MOST_AMONG_POINTS and len(labels) >= POINTS_OF_A_NAME * len(kinds)


def has_legend(labels: np.ndarray) -> bool:
    """Whether classes are told apart in a legend."""
    kinds = np.unique(labels)
    return len(kinds) <= MOST_CLASSES and kinds.tolist() != [-1]


def add_legend(figure: Figure, ax: Axes) -> None:
    """Add a legend of the classes beside the plot, as dark as the points or darker."""
    handles, texts = ax.get_legend_handles_labels()
    legend = figure.legend(
        handles, texts, loc="outside right upper", frameon=False, markerscale=2, title="class",
        ncols=math.ceil(len(texts) / LEGEND_ROWS),
    )  # fmt: skip
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)


def write_names(
    ax: Axes,
    points: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    *,
    inches: float,
    equal: bool,
    size: int = 12,
    prior: tuple[float, float] | None = None,
) -> None:
    """Write each class's name at the densest of its points where it covers no other text.

    Args:
        ax: Axes with the points.
        points: The points (N, 2).
        labels: Their classes (N,).
        names: Names of the classes.
        inches: Approximate width of the axes on paper.
        equal: Whether both axes have one scale.
        size: Size of the names in points.
        prior: Centre of the circles, whose texts are not covered; None if there are none.
    """
    spans = np.array([np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())])
    if equal:
        spans[:] = spans.max()

    def half_of(text: str) -> np.ndarray:
        """Half the width and height of a text in units of the data (2,)."""
        return np.asarray(np.array([0.32 * len(text) + 0.4, 0.7]) * size / 72 / inches * spans)

    # centre and half the size of each text
    texts = [(np.array(centre), half_of(text)) for centre, text in _circles(prior)]
    for label in np.unique(labels).tolist():
        text = class_name(label, names)
        half = half_of(text)
        candidates = by_density(points[labels == label], KERNEL * spans)
        free = (
            point for point in candidates if all((np.abs(point - other) > half + room).any() for other, room in texts)
        )
        centre = next(free, candidates[0])
        texts.append((centre, half))
        ax.annotate(
            text, centre, ha="center", va="center", fontsize=size, fontweight="bold", color=class_look(label)[0],
            path_effects=[withStroke(linewidth=3, foreground=PAPER)],
        )  # fmt: skip


def by_density(points: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """The points (N, 2), or evenly taken ones of many, from the densest neighbourhood to the emptiest.

    Args:
        points: Points of one class.
        widths: Widths (2,) of the Gaussian kernel that measures the density.
    """
    chosen = points[:: math.ceil(len(points) / MEASURED)]
    scaled = chosen / np.where(widths > 0, widths, 1)
    distances = np.square(scaled[:, None] - scaled[None]).sum(-1)
    order = np.argsort(-np.exp(-distances / 2).sum(1), kind="stable")
    return np.asarray(chosen[order])


def class_name(label: int, names: Sequence[str]) -> str:
    """The name of a class in letters that matplotlib's font has; its number if it has no name."""
    text = names[label] if 0 <= label < len(names) else "none" if label == -1 else str(label)
    return plain(text[:LONGEST_NAME])
