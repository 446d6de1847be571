"""Colours and markers of classes and of runs, without a colour in common.

Both were found by a search and are measured in ``tests/output/test_palette.py``. Every colour has a contrast of at
least 3 with white and with the dark background of a report (WCAG 2.2), which leaves a narrow band of lightness. The
smallest CIEDE2000 distances between two colours of a palette, as people with normal vision see them and with
protanopia, deuteranopia or tritanopia (Machado et al., 2009, severity 1):

- ``CLASSES``: 19.3 with normal vision and 11.5 without a type of cone. The search found at most 13 for ten colours in
  that band, so a class is known by its marker, too: two with the same kind of marker are 31.6 and 19.5 apart.
- ``RUNS``: 25.9 and 17.8; 13.5 from every colour of a class. Beyond six runs the line style differs, too.

References:
    A Physiologically-based Model for Simulation of Color Vision Deficiency (Machado et al., 2009),
    https://doi.org/10.1109/TVCG.2009.113
    The CIEDE2000 Color-Difference Formula (Sharma et al., 2005), https://doi.org/10.1002/col.20070
"""

from __future__ import annotations

CLASSES = (
    "#b03a0e", "#2193ff", "#b90dae", "#a28aa9", "#645e77", "#bd880f", "#2547ff", "#f75c75", "#4b6b4e", "#0b9d71",
)  # fmt: skip
RUNS = ("#f7590e", "#366688", "#b352ff", "#23a1a3", "#7d594e", "#9b9378")
# three kinds for each ten classes: those of one kind differ most in colour
MARKERS = ("o^s", "DvP", "X<p", ">*h")
STYLES = ("-", "--", ":", "-.")
# limit for classes whose colours and markers are all different
MOST_CLASSES = len(CLASSES) * len(MARKERS)

# text, lines in the background, and paper
INK, SOFT, PAPER = "#1f2328", "#6e7781", "#ffffff"


def class_look(label: int) -> tuple[str, str]:
    """Colour and marker of a class, which are the same in every picture; a label of -1 means that there is none."""
    if label == -1:
        return SOFT, "."
    kinds = MARKERS[label // len(CLASSES) % len(MARKERS)]
    return CLASSES[label % len(CLASSES)], kinds[label % len(CLASSES) % len(kinds)]


def run_look(index: int) -> tuple[str, str, str]:
    """Colour, marker and line style of a run, or of a group of runs, by its place in a comparison."""
    return RUNS[index % len(RUNS)], MARKERS[0][index % 3], STYLES[index // len(RUNS) % len(STYLES)]
