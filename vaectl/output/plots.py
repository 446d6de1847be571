"""Figures: arrays -> matplotlib Figure, in the only file that imports matplotlib.

Shapes: ``N`` points; a picture is uint8 (height, width, 3).
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from vaectl.system.files import replacing
from vaectl.system.text import harmless

# ten colours that are distinct with a colour-vision deficiency (Petroff, 2021, https://arxiv.org/abs/2107.02270)
PALETTE: list[Any] = mpl.color_sequences["petroff10"]
MARKERS = "osD^v<>P*X"
STYLES = ("-", "--", ":", "-.")
# limits for the names in a scatter: classes, characters of a name, and the code point up to which matplotlib's font is
# complete
MOST_NAMED, LONGEST_NAME, LAST_LETTER = 40, 30, 0x52F
# rows of a legend; limit for classes with names at their medians, and the points that each such name needs
LEGEND_ROWS, MOST_AT_MEDIANS, POINTS_OF_A_NAME = 24, 12, 10
# pixels from the centre of a marker to its label
NEAR = 10
# without it matplotlib salts the ids in an SVG at random
RC: Any = {"svg.hashsalt": "vaectl"}


def encode(figure: Figure, suffix: str) -> bytes:
    """Encode a figure in the format of a suffix; the same figure gives the same bytes."""
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


def scatter(
    points: np.ndarray, labels: np.ndarray, axes: Sequence[str], title: str, names: Sequence[str] = ()
) -> Figure:
    """Plot points (N, 2) coloured by label (N,), with a legend, and with names at the medians if there are few classes.

    A label of -1 means that there is none.
    """
    figure = _figure(7.2, 6.0)
    ax = figure.add_subplot()
    draw_scatter(ax, points, labels, size=max(5.0, min(16.0, 30000 / len(points))), names=names)
    ax.set(xlabel=axes[0], ylabel=axes[1], title=_plain(title))
    kinds = len(np.unique(labels))
    if (labels != -1).any() and kinds <= MOST_NAMED:
        ax.legend(
            loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, markerscale=2, title="label",
            ncols=math.ceil(kinds / LEGEND_ROWS), fontsize=10 if kinds <= LEGEND_ROWS // 2 else 8,
        )  # fmt: skip
    return figure


def draw_scatter(ax: Axes, points: np.ndarray, labels: np.ndarray, size: float, names: Sequence[str] = ()) -> None:
    """Draw a scatter plot by label; classes differ by colour and, if there are more than ten, also by marker."""

    def name(label: int) -> str:
        text = names[label] if 0 <= label < len(names) else "none" if label == -1 else str(label)
        return _plain(text[:LONGEST_NAME])

    if len(np.unique(labels)) > MOST_NAMED:
        colours = [PALETTE[label % len(PALETTE)] for label in labels.tolist()]
        ax.scatter(points[:, 0], points[:, 1], s=size, c=colours, alpha=0.6, linewidths=0, rasterized=True)
        return
    for number, label in enumerate(np.unique(labels)):
        mine = points[labels == label]
        colour, marker = PALETTE[number % len(PALETTE)], MARKERS[number // len(PALETTE) % len(MARKERS)]
        ax.scatter(
            mine[:, 0],
            mine[:, 1],
            s=size,
            color=colour,
            marker=marker,
            alpha=0.6,
            linewidths=0,
            label=name(label),
            rasterized=True,
        )
    # names of many classes, or over few points, would hide the points
    kinds = len(np.unique(labels))
    has_names = kinds <= MOST_AT_MEDIANS and len(points) >= POINTS_OF_A_NAME * kinds
    for number, label in enumerate(np.unique(labels)):
        if label == -1 or not has_names:
            continue
        x, y = np.median(points[labels == label], axis=0)
        ax.annotate(
            name(label),
            (x, y),
            ha="center",
            va="center",
            fontsize=12,
            fontweight="bold",
            color=PALETTE[number % len(PALETTE)],
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )


def sheet(
    picture: np.ndarray, title: str, *, x: tuple[str, Sequence[str]] | None, y: tuple[str, Sequence[str]] | None
) -> Figure:
    """Plot a picture of tiles with labelled axes; ``x`` and ``y`` are an axis name and one label for each tile."""
    height, width = picture.shape[:2]
    scale = 7.0 / max(height, width)
    figure = _figure(width * scale + 1.2, height * scale + 1.0)
    ax = figure.add_subplot()
    ax.imshow(picture, interpolation="nearest", aspect="equal")
    ax.set_title(_plain(title))
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
    figure = _figure(max(8.0, 1.1 * len(examples)), 6.2)
    parts: Any = figure.subfigures(2, 1, height_ratios=(3.2, 2.6))
    ax = parts[0].subplots()
    share = np.sort(counts)[::-1] / max(counts.sum(), 1)
    ax.stairs(share, np.arange(len(share) + 1) - 0.5, fill=True, color=PALETTE[0])
    ax.axhline(1 / len(share), color="0.3", linestyle="--", linewidth=1, label="uniform use")
    ax.axvline(perplexity, color=PALETTE[1], linestyle=":", linewidth=1.5, label=f"perplexity {perplexity:.1f}")
    ax.set_yscale("log")
    ax.set(xlabel="codes, most used first", ylabel="fraction of positions", xlim=(-0.5, len(share) - 0.5))
    ax.set_title(_plain(title), fontsize=10)
    ax.legend(frameon=False)
    pairs = parts[1].subplots(2, len(examples), squeeze=False)
    for (above, below), (picture, ranks) in zip(pairs.T, examples, strict=True):
        _tiles(above, picture)
        _tiles(below, ranks)
        below.images[0].set(cmap="viridis_r", clim=(0, max(len(counts) - 1, 1)))
    pairs[0, 0].set_ylabel("image", rotation=0, ha="right", va="center")
    pairs[1, 0].set_ylabel("rank of\nits codes", rotation=0, ha="right", va="center")
    return figure


def _plain(name: str) -> str:
    """Show a name literally: neither formulas nor control codes, and a question mark for what the font lacks."""
    text = "".join(letter if ord(letter) <= LAST_LETTER else "?" for letter in harmless(name)).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text  # a legend omits names that begin with "_"


@dataclass(frozen=True)
class Course:
    """The course of one run of a comparison.

    Attributes:
        name: Label of the run; empty if another run represents its setting.
        setting: Index of the run's setting, shown as colour.
        replica: Index of the run among those of its setting, shown as marker and line style.
        history: ``epoch``, ``elbo`` (validation, nats) and ``kl`` (nats) by epoch.
        rate: KL on the test split in nats.
        distortion: ``recon`` on the test split in nats.
    """

    name: str
    setting: int
    replica: int
    history: Mapping[str, Sequence[float]]
    rate: float
    distortion: float

    @property
    def look(self) -> dict[str, Any]:
        """Colour and marker."""
        return {"color": PALETTE[self.setting % len(PALETTE)], "marker": MARKERS[self.replica % len(MARKERS)]}


def comparison(
    courses: Sequence[Course],
    names: Sequence[str],
    originals: np.ndarray,
    reconstructions: Sequence[np.ndarray],
    samples: Sequence[np.ndarray],
    latents: Sequence[tuple[np.ndarray, np.ndarray, Sequence[str]]],
    *,
    plane: bool,
    classes: Sequence[str] = (),
) -> Figure:
    """Plot runs side by side: curves, rate and distortion, test images, same-seed samples, latents on shared axes.

    Args:
        courses: Every run.
        names: One name for each column of pictures.
        originals: Picture of the test images.
        reconstructions: For each column the picture of their reconstructions.
        samples: For each column the picture of its samples.
        latents: For each column points (N, 2), labels (N,) and axis names.
        classes: Names of the labels 0, 1, ... ; empty if they have no names.
        plane: Whether to draw rate and distortion, which needs runs with the same measure.
    """
    n, names = len(names), [_plain(name) for name in names]
    figure = _figure(max(13.0, 3.6 * n), 14.0 + 0.7 * n)
    parts: Any = figure.subfigures(4, 1, height_ratios=(4.0, 0.7 * (n + 1), 3.6, 3.6))
    top, images, lower, bottom = parts
    curves = top.subplots(1, 3 if plane else 2)
    for course in courses:
        style = course.look | {"markersize": 3, "linestyle": STYLES[course.replica % len(STYLES)]}
        curves[0].plot(course.history["epoch"], course.history["elbo"], label=_plain(course.name), **style)
        curves[1].plot(course.history["epoch"], course.history["kl"], label=_plain(course.name), **style)
    curves[0].set(xlabel="epoch", ylabel="nats", title="validation ELBO (higher is better)")
    curves[1].set(xlabel="epoch", ylabel="nats", title="validation KL")
    for ax in curves[:2]:
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
        draw_scatter(ax, points, labels, size=4, names=classes)
        ax.set(xlabel=axes[0], ylabel=axes[1], title=f"{name}: latent space")
    if plane:
        draw_rate_distortion(curves[2], courses)
    return figure


def draw_rate_distortion(ax: Axes, courses: Sequence[Course]) -> None:
    """Draw each run at its rate (KL) and distortion (recon), with lines of equal ELBO, ``-(rate + distortion)``.

    Runs on one line reach the same ELBO: further to the right the latents hold more nats, further down the
    reconstruction is better. Call it last, because the labels are fitted into the layout of the whole figure.

    References:
        Fixing a Broken ELBO (Alemi et al., 2018), figure 1 and equation 6, https://arxiv.org/abs/1711.00464
    """
    for course in courses:
        ax.plot(course.rate, course.distortion, linestyle="", markersize=7, zorder=3, **course.look)
    ax.set(xlabel="rate: KL, nats", ylabel="distortion: recon, nats", title="rate and distortion (test)")
    ax.set_xlim(_with_margin([course.rate for course in courses]))
    ax.set_ylim(_with_margin([course.distortion for course in courses]))
    # runs the layout, after which positions on the page are known
    _figure_of(ax).draw_without_rendering()
    occupied = [
        Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in (_on_page(ax, c.rate, c.distortion) for c in courses)
    ]
    occupied += _equal_elbo(ax, occupied)
    for course in courses:
        if course.name:
            occupied.append(_label_beside(ax, course, occupied))


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
        ax.plot([start, end], [total - start, total - end], color="0.8", linewidth=0.8, zorder=1)
        (x0, y0), (x1, y1) = _on_page(ax, start, total - start), _on_page(ax, end, total - end)
        text = ax.text(
            start,
            total - start,
            f"ELBO {0.0 - total:g}".replace("-", "\N{MINUS SIGN}"),
            fontsize=7,
            color="0.45",
            rotation=math.degrees(math.atan2(y1 - y0, x1 - x0)),
            rotation_mode="anchor",
            va="center",
            zorder=2,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
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


def _label_beside(ax: Axes, course: Course, occupied: Sequence[Bbox]) -> Bbox:
    """Write a run's name at the nearest free position around its marker, with a thin line to it if it is far away."""
    point = (course.rate, course.distortion)
    note = ax.annotate(
        _plain(course.name), point, (0, 0), textcoords="offset points", fontsize=9, va="bottom", zorder=4
    )
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
        ax.plot([course.rate, end[0]], [course.distortion, end[1]], color="0.5", linewidth=0.6, zorder=2)
    return box


def _around(x: float, y: float, size: Bbox) -> Iterator[tuple[float, Bbox]]:
    """Candidate boxes for a text around a point, nearest first, with the distance from the point to the text."""
    for distance in (NEAR, 2 * NEAR, 4 * NEAR, 6 * NEAR, 8 * NEAR):
        for degrees in range(0, 360, 30):
            across, up = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            left = x + across * distance + (across - 1) / 2 * size.width
            below = y + up * distance + (up - 1) / 2 * size.height
            yield distance, Bbox.from_bounds(left, below, size.width, size.height)


def _tiles(ax: Axes, picture: np.ndarray) -> None:
    ax.imshow(picture, interpolation="nearest", aspect="equal")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")
