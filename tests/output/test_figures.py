"""Figures: texts that can be read and do not collide, equal scales, and marks that are where they should be."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from matplotlib.text import Text
from PIL import Image

from vaectl.output import plots

# pixels of a figure in a window of 600, with the margins of a page
NARROW = 568


def texts(figure: Figure) -> list[Text]:
    """The texts that are drawn."""
    figure.draw_without_rendering()
    found: list[Any] = figure.findobj(Text)
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def two_clusters() -> tuple[np.ndarray, np.ndarray]:
    """Points of a class in two clusters, more in the right one, and of another between them."""
    random = np.random.default_rng(0)
    parts = [random.normal(size=(n, 2)) * 0.3 + [x, 0] for n, x in ((100, -5), (140, 5), (100, 0))]
    return np.concatenate(parts), np.repeat([0, 1], (240, 100))


def test_a_scatter_has_one_scale_and_the_priors_circles() -> None:
    points, labels = two_clusters()
    figure = plots.scatter(points, labels, ("z0", "z1"), "title", prior=(1.0, 2.0))
    figure.draw_without_rendering()
    [ax] = figure.axes
    box = ax.get_window_extent()
    assert box.width / np.ptp(ax.get_xlim()) == pytest.approx(box.height / np.ptp(ax.get_ylim()))
    circles = [patch for patch in ax.patches if isinstance(patch, Circle)]
    assert [(circle.get_center(), circle.get_radius()) for circle in circles] == [((1.0, 2.0), 1), ((1.0, 2.0), 2)]
    assert [text.get_text() for text in ax.texts[:2]] == ["prior, 1 sd", "prior, 2 sd"]


def test_a_scatter_without_a_standard_prior_or_a_plane_has_none_of_that() -> None:
    points, labels = two_clusters()
    figure = plots.scatter(points * [1, 0.01], labels, ("z0", "posterior scale of z0"), "title", equal=False)
    figure.draw_without_rendering()
    assert not figure.axes[0].patches
    assert np.ptp(figure.axes[0].get_ylim()) < 0.1


def test_a_name_stands_where_its_class_is_dense() -> None:
    """The median of two clusters lies in the gap between them, among the points of another class."""
    points, labels = two_clusters()
    figure = plots.scatter(points, labels, ("z0", "z1"), "title", ("pair", "middle"))
    places = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    assert places["pair"][0] == pytest.approx(5, abs=0.3)
    assert places["middle"][0] == pytest.approx(0, abs=0.3)
    assert not figure.legends, "the legend would repeat the names"


def test_names_among_points_do_not_cover_each_other() -> None:
    points = np.random.default_rng(0).normal(size=(2000, 2))
    names = [f"a longer name {n}" for n in range(10)]
    figure = plots.scatter(points, np.arange(2000) % 10, ("z0", "z1"), "title", names, prior=(0.0, 0.0))
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 12
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]


def test_a_class_looks_the_same_where_others_are_missing() -> None:
    points = np.random.default_rng(0).normal(size=(100, 2))
    colours = [
        plots.scatter(points, labels, ("x", "y"), "t").axes[0].collections[-1].get_facecolor()
        for labels in (np.arange(100) % 2 + 6, np.arange(100) % 8)
    ]
    assert np.array_equal(*colours)


def a_sheet(rows: int, columns: int, **options: Any) -> Figure:
    picture = np.zeros((rows * 30, columns * 30, 3), np.uint8)
    labels = [f"{value:.1f}" for value in np.linspace(-2, 2, columns)]
    return plots.sheet(picture, "title", x=("z0", labels), y=("z1", [f"row {n}" for n in range(rows)]), **options)


def ticks(ax: Axes, axis: str) -> list[str]:
    return [text.get_text() for text in (ax.get_xticklabels() if axis == "x" else ax.get_yticklabels())]


def test_ticks_of_a_sheet_are_few_symmetric_and_have_a_true_minus() -> None:
    figure = a_sheet(21, 21)
    assert ticks(figure.axes[0], "x") == ["\N{MINUS SIGN}2.0", "\N{MINUS SIGN}1.0", "0.0", "1.0", "2.0"]
    assert all("-" not in text.get_text() for text in texts(figure))
    labels = [text.get_window_extent() for text in figure.axes[0].get_xticklabels()]
    assert all(b.x0 - a.x1 > 20 for a, b in pairwise(labels))


def test_every_row_of_a_traversal_has_its_name() -> None:
    figure = a_sheet(40, 11)
    assert ticks(figure.axes[0], "y") == [f"row {n}" for n in range(40)]
    assert len(ticks(figure.axes[0], "x")) == 11
    boxes = [text.get_window_extent() for text in texts(figure) if text.get_text().startswith("row")]
    assert not any(a.overlaps(b) for a, b in pairwise(boxes))


def test_the_original_stands_beside_and_own_values_are_framed() -> None:
    original = np.full((30, 30, 3), 200, np.uint8)
    figure = a_sheet(2, 11, beside=[("original", original)], framed=[(0, 4), (1, 10)])
    beside, tiles = figure.axes
    assert beside.get_xlabel() == "original"
    assert np.array_equal(np.asarray(beside.images[0].get_array()), original)
    frames = [patch.get_xy() for patch in tiles.patches if isinstance(patch, Rectangle)]
    assert np.allclose(frames, [(119.5, -0.5), (299.5, 29.5)])


@pytest.mark.parametrize("rows", [1, 2, 10])
def test_a_sheet_has_no_blank_strip(tmp_path: Path, rows: int) -> None:
    plots.save(a_sheet(rows, 11), tmp_path / "a.png")
    ink = (np.asarray(Image.open(tmp_path / "a.png").convert("L")) < 250).any(1)
    blank = np.diff(np.flatnonzero(np.diff(np.concatenate([[1], ink, [1]]))))[::2]
    assert blank.max() < 40, "pixels between two things on the page"


def test_a_heat_map_names_its_columns_and_leaves_no_column_pale() -> None:
    """Each column has its own scale: one of thousands leaves the others their colours."""
    values = np.random.default_rng(0).normal(size=(64, 30)) * np.where(np.arange(30) == 3, 5000, 1)
    figure = plots.heat_map([("samples", values)], [f"x{n}" for n in range(30)], "title")
    ax = figure.axes[0]
    assert ticks(ax, "x") == [f"x{n}" for n in range(30)]
    shown = np.asarray(ax.images[0].get_array()).clip(0, 1)
    assert (shown.std(0) > 0.15).all()
    width, height = figure.get_size_inches()
    assert 0.5 < width / height < 2


def some_courses(seeds: int) -> list[plots.Course]:
    random = np.random.default_rng(0)
    courses = []
    for n in range(4):
        histories = [
            {"epoch": list(range(1, 31 + seed)), "elbo": list(random.normal(size=30 + seed)), "kl": [1.0] * (30 + seed)}
            for seed in range(seeds)
        ]
        points = [(float(n + random.normal()), float(90 + random.normal())) for _ in range(seeds)]
        courses.append(plots.Course(f"a setting {n} ×{seeds}", histories, points))
    return courses


def test_curves_of_seeds_are_a_mean_and_a_band_with_the_legend_outside() -> None:
    courses = some_courses(3)
    figure = plots.curves(courses)
    figure.draw_without_rendering()
    for ax in figure.axes:
        assert len(ax.lines) == len(ax.collections) == 4
        assert {line.get_linestyle() for line in ax.lines} == {"-"}
        assert ax.get_legend() is None
    expected = np.mean([history["elbo"][:30] for history in courses[0].histories], axis=0)
    assert np.allclose(np.asarray(figure.axes[0].lines[0].get_ydata()), expected)
    [legend] = figure.legends
    assert not any(legend.get_window_extent().overlaps(ax.get_window_extent()) for ax in figure.axes)
    assert [text.get_text() for text in legend.get_texts()] == [course.name for course in courses]


def clouds(count: int) -> Figure:
    random = np.random.default_rng(0)
    made = [(f"run{n}", plots.Cloud(random.normal(size=(500, 2)), np.arange(500) % 10, ("z0", "z1"), equal=True))
            for n in range(count)]  # fmt: skip
    made[0][1].points[:3] = 1000.0
    return plots.clouds(made, ())


def test_a_tail_does_not_squeeze_the_shared_axes() -> None:
    figure = clouds(4)
    limits = {(*ax.get_xlim(), *ax.get_ylim()) for ax in figure.axes}
    assert len(limits) == 1
    assert max(map(abs, limits.pop())) < 4
    assert re.fullmatch(r"run0: \d+ of 500 points outside", figure.axes[0].get_title(loc="left"))


FIGURES = {
    "curves": lambda: plots.curves(some_courses(3)),
    "rates": lambda: plots.rate_distortion(some_courses(1)),
    "strips": lambda: plots.strips([(f"run{n}", np.zeros((60, 930, 3), np.uint8)) for n in range(4)]),
    "panels": lambda: plots.panels([(f"run{n}", np.zeros((466, 466, 3), np.uint8)) for n in range(3)]),
    "clouds": lambda: clouds(3),
}


@pytest.mark.parametrize("name", FIGURES)
def test_texts_of_a_report_can_be_read_in_a_narrow_window(name: str) -> None:
    """At least 10 pixels high in a window of 600."""
    figure = FIGURES[name]()
    points = figure.get_size_inches()[0] * 72
    assert min(text.get_fontsize() * NARROW / points for text in texts(figure)) >= 10


@pytest.mark.parametrize("name", FIGURES)
def test_labels_do_not_touch_the_next_panel(name: str) -> None:
    """What belongs to one panel keeps six pixels from every other."""
    figure = FIGURES[name]()
    figure.draw_without_rendering()
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            assert one is not None
            assert other is not None
            apart = max(one.x0 - other.x1, other.x0 - one.x1, one.y0 - other.y1, other.y0 - one.y1)
            assert apart >= 6


def test_a_picture_of_a_report_stacks_its_figures_under_their_headings() -> None:
    figures = [("First", plots.curves(some_courses(1))), ("Second", plots.curves(some_courses(1)))]
    picture = plots.stacked("run1, run2 and run3", figures)
    assert picture.shape[1] == 1050
    assert picture.shape[0] > sum(round(figure.get_size_inches()[1] * 150) for _, figure in figures) + 60
    assert (picture < 100).any(axis=(1, 2))[:60].any(), "the title"


def test_a_figure_of_a_page_has_the_colours_of_its_theme() -> None:
    text = plots.page_svg(plots.curves(some_courses(1)))
    assert "prefers-color-scheme:dark" in text
    assert "currentColor" in text
    assert "#000000" not in text
    assert not re.search(r'(href|src)="(?!#|data:)', text), "it loads something"


def test_a_users_own_style_does_not_change_a_figure() -> None:
    import matplotlib as mpl

    usual = plots.encode(plots.curves(some_courses(1)), ".png")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert plots.encode(plots.curves(some_courses(1)), ".png") == usual
