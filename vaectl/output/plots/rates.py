"""Rate and distortion of runs on the test split, with lines of equal ELBO."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from vaectl.output.plots.courses import Course
from vaectl.output.plots.palette import PAPER, SOFT, run_look
from vaectl.output.plots.style import new_figure, plain, styled

# pixels from the centre of a marker to its label
NEAR = 10


@styled
def rate_distortion(courses: Sequence[Course]) -> Figure:
    """Plot each run at its rate (KL) and distortion (recon), with lines of equal ELBO, ``-(rate + distortion)``.

    Runs on one line reach the same ELBO: further to the right the latents hold more nats, further down the
    reconstruction is better.

    References:
        Fixing a Broken ELBO (Alemi et al., 2018), figure 1 and equation 6, https://arxiv.org/abs/1711.00464
    """
    figure = new_figure(4.6)
    ax = figure.add_subplot()
    for index, course in enumerate(courses):
        colour, marker, _ = run_look(index)
        rates, distortions = zip(*course.points, strict=True)
        ax.plot(rates, distortions, linestyle="", markersize=7, zorder=3, color=colour, marker=marker)
    points = [point for course in courses for point in course.points]
    ax.set(xlabel="rate: KL, nats (test)", ylabel="distortion: recon, nats (test)")
    ax.set_xlim(_with_margin([rate for rate, _ in points]))
    ax.set_ylim(_with_margin([distortion for _, distortion in points]))
    # runs the layout, after which positions on the page are known
    _figure_of(ax).draw_without_rendering()
    occupied = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in (_on_page(ax, *point) for point in points)]
    occupied += _equal_elbo(ax, occupied)
    for course in courses:
        occupied.append(_label_beside(ax, course.name, course.points[0], occupied))
    return figure


def _with_margin(values: Sequence[float]) -> tuple[float, float]:
    """Axis limits with a margin of a quarter of the range on either side, at least one nat wide in total."""
    low, high = min(values), max(values)
    margin = max(0.25 * (high - low), 0.5)
    return low - margin, high + margin


def _on_page(ax: Axes, x: float, y: float) -> tuple[float, float]:
    px, py = ax.transData.transform((x, y))
    return float(px), float(py)


def _equal_elbo(ax: Axes, occupied: Sequence[Bbox]) -> list[Bbox]:
    """Draw lines of rate + distortion = c, labelled with their ELBO -c if there is room; return the labels' boxes."""
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    boxes: list[Bbox] = []
    for total in MaxNLocator(9, steps=[1, 2, 5, 10]).tick_values(left + low, right + high):
        start, end = max(left, total - high), min(right, total - low)
        if start >= end:
            continue
        ax.plot([start, end], [total - start, total - end], color=SOFT, alpha=0.5, linewidth=0.8, zorder=1)
        (x0, y0), (x1, y1) = _on_page(ax, start, total - start), _on_page(ax, end, total - end)
        text = ax.text(
            start,
            total - start,
            f"ELBO {0.0 - total:g}".replace("-", "\N{MINUS SIGN}"),
            color=SOFT,
            rotation=math.degrees(math.atan2(y1 - y0, x1 - x0)),
            rotation_mode="anchor",
            va="center",
            zorder=2,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.8},
        )
        text.set_in_layout(False)
        length = math.hypot(x1 - x0, y1 - y0)
        for along in range(8, int(length), 10):
            text.set_position((start + along / length * (end - start), total - start - along / length * (end - start)))
            box = text.get_window_extent()
            if _is_free(ax, box, [*occupied, *boxes]):
                boxes.append(box)
                break
        else:
            text.remove()
    return boxes


def _is_free(ax: Axes, box: Bbox, occupied: Sequence[Bbox]) -> bool:
    frame = ax.get_window_extent()
    inside = frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1)
    return inside and not any(box.overlaps(other) for other in occupied)


def _label_beside(ax: Axes, name: str, point: tuple[float, float], occupied: Sequence[Bbox]) -> Bbox:
    """Write a run's name at the nearest free position around its marker, with a thin line to it if it is far away."""
    note = ax.annotate(plain(name), point, (0, 0), textcoords="offset points", va="bottom", zorder=4)
    note.set_in_layout(False)
    x, y = _on_page(ax, *point)
    candidates = list(_around(x, y, note.get_window_extent()))
    free = ((distance, box) for distance, box in candidates if _is_free(ax, box, occupied))
    distance, box = next(free, candidates[0])
    points = 72 / _figure_of(ax).dpi
    note.set_position(((box.x0 - x) * points, (box.y0 - y) * points))
    if distance > NEAR:
        nearest = (min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1))
        end = ax.transData.inverted().transform(nearest)
        ax.plot([point[0], end[0]], [point[1], end[1]], color=SOFT, linewidth=0.6, zorder=2)
    return box


def _around(x: float, y: float, size: Bbox) -> Iterator[tuple[float, Bbox]]:
    """Candidate boxes for a text around a point, nearest first, with the distance from the point to the text."""
    for distance in (NEAR, 2 * NEAR, 4 * NEAR, 6 * NEAR, 8 * NEAR):
        for degrees in range(0, 360, 30):
            across, up = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            left = x + across * distance + (across - 1) / 2 * size.width
            below = y + up * distance + (up - 1) / 2 * size.height
            yield distance, Bbox.from_bounds(left, below, size.width, size.height)


def _figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure
