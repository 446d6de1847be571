"""Writes ``vaectl/data/builtin/midlines.npz``, from which the glyphs are drawn: characters of fonts, thinned to lines.

    python docs/midlines.py

The fonts are those of matplotlib 3.11.2, drawn by Pillow 13.0.0: DejaVu (Bitstream Vera licence), STIX (SIL Open Font
License) and Computer Modern (AMS and BaKoMa licences). Other versions draw other edges, so that the glyphs would be
other images: they need a new ``VERSION`` in ``glyphs.py``.

Shapes: G glyphs (all usable ones of the fonts, digit fastest), T side of a tile.
"""

from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from vaectl.data.builtin.glyphs import FONTS, MIDLINES, TILE

Bools = npt.NDArray[np.bool_]

HEIGHT = 96  # height of a glyph in its tile; the margin is wider than the thickest pen


def write() -> None:
    """Write the file."""
    usable = [(file, character) for file, _, characters in FONTS for character in characters if character != "."]
    lines = _thin(np.stack([_mask(file, character) for file, character in usable]))  # (G, T, T)
    np.savez_compressed(MIDLINES, midlines=np.packbits(lines, axis=-1))


def _mask(file: str, character: str) -> Bools:
    """Filled shape (T, T) of a character, with longer side HEIGHT, in the middle of its tile."""
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / file
    canvas = Image.new("L", (400, 400))
    ImageDraw.Draw(canvas).text((100, 50), character, 255, ImageFont.truetype(str(path), 200))
    cut = canvas.crop(canvas.getbbox())
    ratio = HEIGHT / max(cut.size)
    cut = cut.resize((round(cut.width * ratio), round(cut.height * ratio)), Image.Resampling.LANCZOS)
    tile = Image.new("L", (TILE, TILE))
    tile.paste(cut, ((TILE - cut.width) // 2, (TILE - cut.height) // 2))
    # Rounded corners leave fewer spurs on the midline.
    parts, _ = ndimage.label(ndimage.gaussian_filter(np.asarray(tile, np.float32), 1.5) > 110)
    # Only the largest part, because some zeros have a dot inside that people do not write.
    return np.asarray(parts == 1 + np.bincount(parts.ravel())[1:].argmax(), np.bool_)


def _thin(masks: Bools) -> Bools:
    """Midlines (G, T, T) of shapes (G, T, T) that do not touch their tiles' edges (Zhang and Suen, 1984)."""
    ring = (np.arange(256)[:, None] >> np.arange(8)) & 1  # (256, 8): neighbours, north first, then clockwise
    count, starts = ring.sum(1), ((ring == 0) & (np.roll(ring, -1, 1) == 1)).sum(1)  # (256,)
    joined = (count >= 2) & (count <= 6) & (starts == 1)  # (256,)
    north, east, south, west = ring[:, ::2].T  # each (256,)
    removable = (
        joined & (north * east * south == 0) & (east * south * west == 0),
        joined & (north * east * west == 0) & (north * south * west == 0),
    )  # each (256,)
    side = masks.shape[-1]
    offsets = (-side, 1 - side, 1, 1 + side, side, side - 1, -1, -1 - side)
    flat = masks.ravel().astype(np.int64)  # (G*T*T,)
    before = -1
    while (count_now := int(np.count_nonzero(flat))) != before:
        before = count_now
        for table in removable:
            inside = np.flatnonzero(flat)
            code = sum(flat[inside + offset] << bit for bit, offset in enumerate(offsets))
            flat[inside[table[code]]] = 0
    return flat.reshape(masks.shape).astype(np.bool_)


if __name__ == "__main__":
    write()
