"""The palettes: colours that can be seen on both backgrounds and told apart, with every kind of colour vision."""

from __future__ import annotations

import numpy as np
import pytest

from vaectl.output.plots.palette import CLASSES, INK, MARKERS, MOST_CLASSES, PAPER, RUNS, SOFT, class_look, run_look

WHITE, DARK, TEXT_ON_DARK = "#ffffff", "#0d1117", "#e6edf3"
# linear sRGB as dichromats see it, severity 1: Machado et al. (2009), https://doi.org/10.1109/TVCG.2009.113
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array([
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998],
    ]),
    "deuteranopia": np.array([
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881],
    ]),
    "tritanopia": np.array([
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900],
    ]),
}  # fmt: skip
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def linear(colour: str) -> np.ndarray:
    """Linear sRGB (3,) of ``#rrggbb``."""
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.2."""
    dark, bright = sorted(float(XYZ[1] @ linear(colour)) for colour in (one, other))
    return (bright + 0.05) / (dark + 0.05)


def lab(colour: str, vision: str) -> np.ndarray:
    """CIELAB (3,) of a colour as it is seen."""
    seen = np.clip(VISION[vision] @ linear(colour), 0, 1)
    t = XYZ @ seen / XYZ.sum(1)
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """CIEDE2000 of two colours in CIELAB: Sharma et al. (2005), equations 2 to 22, https://doi.org/10.1002/col.20070"""
    lightness, chroma = np.array([one[0], other[0]]), np.hypot([one[1], other[1]], [one[2], other[2]])
    seventh = chroma.mean() ** 7
    a = np.array([one[1], other[1]]) * (1.5 - 0.5 * np.sqrt(seventh / (seventh + 25.0**7)))
    b = np.array([one[2], other[2]])
    chroma, hue = np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360
    turn = 0.0 if chroma.prod() == 0 else (hue[1] - hue[0] + 180) % 360 - 180
    middle = hue.sum() if chroma.prod() == 0 else hue.mean() if abs(hue[0] - hue[1]) <= 180 else hue.mean() + 180
    l_mean, c_mean, h_mean = lightness.mean(), chroma.mean(), np.radians(middle)
    t = (
        1
        - 0.17 * np.cos(h_mean - np.radians(30))
        + 0.24 * np.cos(2 * h_mean)
        + 0.32 * np.cos(3 * h_mean + np.radians(6))
        - 0.20 * np.cos(4 * h_mean - np.radians(63))
    )
    s_l = 1 + 0.015 * (l_mean - 50) ** 2 / np.sqrt(20 + (l_mean - 50) ** 2)
    s_c, s_h = 1 + 0.045 * c_mean, 1 + 0.015 * c_mean * t
    rotation = np.radians(60 * np.exp(-(((middle % 360 - 275) / 25) ** 2)))
    r_t = -2 * np.sqrt(c_mean**7 / (c_mean**7 + 25.0**7)) * np.sin(rotation)
    l_part, c_part = (lightness[1] - lightness[0]) / s_l, (chroma[1] - chroma[0]) / s_c
    h_part = 2 * np.sqrt(chroma.prod()) * np.sin(np.radians(turn) / 2) / s_h
    return float(np.sqrt(l_part**2 + c_part**2 + h_part**2 + r_t * c_part * h_part))


def nearest(pairs: list[tuple[str, str]], vision: str) -> float:
    return min(difference(lab(one, vision), lab(other, vision)) for one, other in pairs)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, -1.1848, -84.8006), (50, 0, -82.7485), 1.0),
        ((50, 2.5, 0), (58, 24, 15), 19.4535),
        ((22.7233, 20.0904, -46.694), (23.0331, 14.973, -42.5619), 2.0373),
        ((90.8027, -2.0831, 1.441), (91.1528, -1.6435, 0.0447), 1.4441),
    ],
)
def test_the_measure_is_that_of_its_authors(one: tuple[float, ...], other: tuple[float, ...], expected: float) -> None:
    """Pairs of the supplement of Sharma et al. (2005)."""
    assert difference(np.array(one), np.array(other)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("colour", [*CLASSES, *RUNS, SOFT])
def test_a_colour_can_be_seen_on_either_background(colour: str) -> None:
    assert contrast(colour, WHITE) >= 3
    assert contrast(colour, DARK) >= 3


def test_text_can_be_read() -> None:
    assert PAPER == WHITE
    assert contrast(INK, WHITE) >= 7
    assert contrast(TEXT_ON_DARK, DARK) >= 7
    assert contrast(SOFT, WHITE) >= 4.5


@pytest.mark.parametrize("vision", VISION)
def test_ten_classes_are_told_apart(vision: str) -> None:
    """By colour alone as far as ten colours can be, and those of one kind of marker far more."""
    pairs = [(i, j) for i in range(10) for j in range(i)]
    alike = [(i, j) for i, j in pairs if class_look(i)[1] == class_look(j)[1]]
    assert nearest([(CLASSES[i], CLASSES[j]) for i, j in pairs], vision) >= (19 if vision == "normal" else 11)
    assert nearest([(CLASSES[i], CLASSES[j]) for i, j in alike], vision) >= (31 if vision == "normal" else 19)


@pytest.mark.parametrize("vision", VISION)
def test_runs_are_told_apart(vision: str) -> None:
    pairs = [(a, b) for a in RUNS for b in RUNS if a < b]
    assert nearest(pairs, vision) >= (25 if vision == "normal" else 17)


def test_no_colour_of_a_run_is_that_of_a_class() -> None:
    assert nearest([(run, kind) for run in RUNS for kind in CLASSES], "normal") >= 13


def test_no_two_classes_and_no_two_runs_look_the_same() -> None:
    assert len({class_look(label) for label in range(-1, MOST_CLASSES)}) == MOST_CLASSES + 1
    assert len({marker for kinds in MARKERS for marker in kinds}) == 12
    assert len({run_look(index)[::2] for index in range(20)}) == 20
