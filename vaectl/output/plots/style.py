"""The look of figures and their files, and SVGs in the light or dark theme of a page."""

from __future__ import annotations

import functools
import io
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from vaectl.output.plots.palette import INK, PAPER, SOFT
from vaectl.system.files import replacing
from vaectl.system.text import harmless

P = ParamSpec("P")
R = TypeVar("R")
# inches of a figure, and points of its smallest text: 10 pixels where a figure is 568 pixels wide
WIDTH, SMALL = 7.0, 9.0
DPI = 150
# the last letter that matplotlib's font has
LAST_LETTER = 0x52F
# characters of a title in a line
TITLE_WIDTH = 78
RC: Any = {
    # without it matplotlib salts the ids in an SVG at random
    "svg.hashsalt": "vaectl",
    "font.size": SMALL,
    "axes.titlesize": 10,
    "axes.labelsize": SMALL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "axes.edgecolor": SOFT,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "axes.spines.top": False,
    "axes.spines.right": False,
    # pictures are enlarged by whole pixels, in vector formats too
    "image.interpolation": "none",
}
# an SVG in an <img> knows the theme of its page, but none of its colours
THEME = (
    "<style>svg{color:#1f2328;--paper:#fff}"
    "@media(prefers-color-scheme:dark){svg{color:#e6edf3;--paper:#0d1117}}</style>"
)


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Give the figures that a function draws the look of vaectl, whatever the caller's matplotlib settings are."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(RC)
            return draw(*args, **kwargs)

    return wrapper


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """A figure of so many inches, without overlaps."""
    figure = Figure(figsize=(width, height), layout="constrained")
    # room between panels, so that the labels of one do not touch the next
    cast(ConstrainedLayoutEngine, figure.get_layout_engine()).set(w_pad=0.1, h_pad=0.07)
    return figure


@styled
def encode(figure: Figure, suffix: str) -> bytes:
    """Encode a figure in the format of a suffix without blank margins; the same figure gives the same bytes."""
    dated: dict[str, dict[str, Any]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    out = io.BytesIO()
    figure.savefig(out, format=suffix[1:], dpi=DPI, metadata=dated.get(suffix), bbox_inches="tight", pad_inches=0.1)
    return out.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's suffix.

    Raises:
        OutputError: The file cannot be written.
    """
    content = encode(figure, path.suffix.lower())
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@styled
def page_svg(figure: Figure) -> str:
    """The SVG of a figure for a page: its text and background have the colours of the reader's theme."""
    out = io.StringIO()
    figure.savefig(out, format="svg", dpi=DPI, metadata={"Date": None}, transparent=True)
    text = out.getvalue().replace(INK, "currentColor").replace(PAPER, "var(--paper)")
    opening = text.index(">", text.index("<svg")) + 1
    return text[:opening] + THEME + text[opening:]


@styled
def pixels(figure: Figure) -> np.ndarray:
    """A figure in its whole size as pixels, uint8 (height, width, 3)."""
    out = io.BytesIO()
    figure.savefig(out, format="rgba", dpi=DPI)
    width = round(figure.get_size_inches()[0] * DPI)
    return np.frombuffer(out.getvalue(), np.uint8).reshape(-1, width, 4)[:, :, :3]


def plain(name: str) -> str:
    """Show a name literally: neither formulas nor control codes, and a question mark for what the font lacks."""
    text = "".join(letter if ord(letter) <= LAST_LETTER else "?" for letter in harmless(name)).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text  # a legend omits names that begin with "_"


def folded(text: str, width: int = TITLE_WIDTH) -> str:
    """A literal text in lines of at most so many characters."""
    return "\n".join(plain(line) for line in textwrap.wrap(harmless(text), width))


def frameless(ax: Axes, picture: np.ndarray, **options: Any) -> None:
    """Show a picture without an axis."""
    ax.imshow(picture, aspect="equal", **options)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
