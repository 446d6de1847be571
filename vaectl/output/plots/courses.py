"""Runs side by side: curves, reconstructions, samples, and latents on shared axes.

Shapes: ``N`` points; a picture is uint8 (height, width, 3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vaectl.output.plots.latents import add_legend, draw_points, has_legend, names_fit, write_names
from vaectl.output.plots.palette import run_look
from vaectl.output.plots.style import WIDTH, folded, frameless, new_figure, pixels, plain, styled

# panels in a row, and characters of a panel's title in a line
PANELS, PANEL_TITLE = 2, 38
# tails of the latents that the shared axes leave out on either side
TAIL = 0.01
# characters of all names in a line of a legend
LEGEND_WIDTH = 70
# characters of a bold title in an inch, times its size in points
TITLE_INCHES = 105.0


@dataclass(frozen=True)
class Course:
    """The course of a run, or of the runs of one setting.

    Attributes:
        name: Its name.
        histories: For each run ``epoch``, ``elbo`` (validation, nats) and ``kl`` (nats) by epoch.
        points: For each run the rate and the distortion, KL and ``recon`` on the test split in nats; empty if unknown.
    """

    name: str
    histories: Sequence[Mapping[str, Sequence[float]]]
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Cloud:
    """Latents of a run on a plane: points (N, 2), labels (N,), names of the axes, and whether they have one scale."""

    points: np.ndarray
    labels: np.ndarray
    axes: Sequence[str]
    equal: bool


@styled
def curves(courses: Sequence[Course]) -> Figure:
    """Plot the validation ELBO and KL of every run by epoch; of several runs the mean and the range."""
    figure = new_figure(3.4)
    for ax, key, title in zip(
        figure.subplots(1, 2), ("elbo", "kl"), ("validation ELBO, nats (higher is better)", "validation KL, nats"),
        strict=True,
    ):  # fmt: skip
        for index, course in enumerate(courses):
            _draw_course(ax, course, key, index)
        ax.set_xlabel("epoch")
        ax.set_title(title, loc="left")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, names = ax.get_legend_handles_labels()
    columns = max(1, min(len(names), LEGEND_WIDTH // max(len(name) + 8 for name in names)))
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def _draw_course(ax: Axes, course: Course, key: str, index: int) -> None:
    """Draw a run's line; of several the mean over the epochs that all have, and a band over their range."""
    colour, marker, style = run_look(index)
    by_epoch = [dict(zip(history["epoch"], history[key], strict=True)) for history in course.histories]
    epochs = sorted(set.intersection(*map(set, by_epoch)))
    values = np.array([[run[epoch] for epoch in epochs] for run in by_epoch])  # (runs, epochs)
    # markers at every epoch of a long run would hide its line
    ax.plot(
        epochs, values.mean(0), color=colour, linestyle=style, marker=marker, markersize=4,
        markevery=max(1, len(epochs) // 8), label=plain(course.name),
    )  # fmt: skip
    if len(values) > 1:
        ax.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.25, linewidth=0)


@styled
def strips(rows: Sequence[tuple[str, np.ndarray]]) -> Figure:
    """Plot rows of pictures, each under its name."""
    heights = [WIDTH * picture.shape[0] / picture.shape[1] + 0.35 for _, picture in rows]
    figure = new_figure(sum(heights))
    axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, (name, picture) in zip(axes, rows, strict=True):
        frameless(ax, picture)
        ax.set_title(folded(name), loc="left")
    return figure


@styled
def panels(pictures: Sequence[tuple[str, np.ndarray]]) -> Figure:
    """Plot pictures side by side, each under its name."""
    figure, axes = _panels(len(pictures), 3.5)
    for ax, (name, picture) in zip(axes, pictures, strict=True):
        frameless(ax, picture)
        ax.set_title(folded(name, PANEL_TITLE), loc="left")
    return figure


@styled
def clouds(clouds: Sequence[tuple[str, Cloud]], classes: Sequence[str]) -> Figure:
    """Plot latents of runs on shared axes, which leave out the tails of all points together.

    Args:
        clouds: Name and latents of each run.
        classes: Names of the classes; empty if they have none.
    """
    figure, axes = _panels(len(clouds), 3.6)
    everything = np.concatenate([cloud.points for _, cloud in clouds])
    low, high = np.quantile(everything, (TAIL, 1 - TAIL), axis=0)  # (2,) each
    equal = all(cloud.equal for _, cloud in clouds)
    half = np.maximum((high - low) * 0.55, 1e-3)
    half = np.full(2, half.max()) if equal else half
    for ax, (name, cloud) in zip(axes, clouds, strict=True):
        draw_points(ax, cloud.points, cloud.labels, size=5, names=classes)
        centre = (low + high) / 2
        ax.set(xlim=(centre[0] - half[0], centre[0] + half[0]), ylim=(centre[1] - half[1], centre[1] + half[1]))
        outside = int((np.abs(cloud.points - centre) > half).any(1).sum())
        ax.set_box_aspect(1)
        ax.set(xlabel=cloud.axes[0], ylabel=cloud.axes[1])
        title = name + (f": {outside} of {len(cloud.points)} points outside" if outside else "")
        ax.set_title(folded(title, PANEL_TITLE), loc="left")
        if names_fit(cloud.labels):
            write_names(ax, cloud.points, cloud.labels, classes, inches=2.8, equal=equal, size=10)
    labelled = [(ax, cloud) for ax, (_, cloud) in zip(axes, clouds, strict=True) if has_legend(cloud.labels)]
    if labelled and not all(names_fit(cloud.labels) for _, cloud in labelled):
        add_legend(figure, max(labelled, key=lambda pair: len(np.unique(pair[1].labels)))[0])
    return figure


@styled
def heading(text: str, size: float) -> Figure:
    """A line of text as a figure."""
    lines = folded(text, round(TITLE_INCHES * WIDTH / size))
    figure = new_figure((lines.count("\n") + 1) * size * 1.4 / 72 + 0.12)
    figure.text(0.012, 0.0, lines, fontsize=size, fontweight="bold", ha="left", va="bottom")
    return figure


def stacked(title: str, figures: Sequence[tuple[str, Figure]]) -> np.ndarray:
    """Stack figures under their headings and a title in one picture, uint8 (height, width, 3)."""
    parts = [heading(title, 14)]
    for name, figure in figures:
        parts += [heading(name, 11), figure]
    return np.concatenate([pixels(part) for part in parts])


def _panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with so many axes in rows of two."""
    rows = math.ceil(count / PANELS)
    figure = new_figure(rows * height)
    axes = figure.subplots(rows, PANELS, squeeze=False).ravel().tolist()
    for ax in axes[count:]:
        ax.remove()
    return figure, axes[:count]
