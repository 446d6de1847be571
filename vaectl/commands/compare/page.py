"""The page of ``vaectl compare -o FILE.html``, light or dark, which loads nothing."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vaectl.commands.compare.sheet import Sheet, sentence
from vaectl.system.text import harmless

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# a table wider than the window scrolls in its own box
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #0d1117; --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; }
}
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 1.5rem auto; padding: 0 1rem;
       color: var(--ink); background: var(--paper); overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.scroll { overflow-x: auto; } .note { color: var(--soft); }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
thead th { border-bottom-width: 2px; vertical-align: bottom; } tbody th { font-weight: normal; }
.right { text-align: right; }
figure { margin: 0; } img { display: block; width: 100%; max-width: 56rem; height: auto; }
"""


def page(sheet: Sheet, figures: Sequence[tuple[str, Figure]]) -> str:
    """The page with a comparison's text and figures, each under a heading.

    Args:
        sheet: The text.
        figures: Figures and their headings.
    """
    title = escaped(f"vaectl: {sheet.title}")
    body = [f"<h1>{escaped(sheet.title)}</h1>", *(f"<p>{escaped(line)}</p>" for line in sheet.above)]
    for name, table in zip(("Settings", "Metrics"), sheet.tables, strict=True):
        body += [f"<h2>{name}</h2>", _table(name, *table)]
    body += [f"<p class='note'>{escaped(sentence(line))}</p>" for line in (*sheet.below, *sheet.notes)]
    body += [_figure(name, figure) for name, figure in figures]
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{title}</title>\n<style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def escaped(text: str) -> str:
    """A text that others may have written, as HTML that shows it as it is."""
    return html.escape(harmless(text.strip()))


def _table(name: str, columns: list[tuple[str, str]], rows: list[list[str]]) -> str:
    """A table that scrolls in its own box, by the keyboard too."""
    justified = [justify for _, justify in columns]
    head = "".join(f"<th scope='col' class='{justify}'>{escaped(text)}</th>" for text, justify in columns)
    lines = []
    for first, *others in rows:
        cells = "".join(
            f"<td class='{justify}'>{escaped(cell)}</td>" for cell, justify in zip(others, justified[1:], strict=True)
        )
        lines.append(f"<tr><th scope='row'>{escaped(first)}</th>{cells}</tr>")
    return (
        f"<div class='scroll' tabindex='0' role='region' aria-label='{name}'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _figure(name: str, figure: Figure) -> str:
    from vaectl.output import plots

    encoded = base64.b64encode(plots.page_svg(figure).encode()).decode()
    text = escaped(name)
    return f"<h2>{text}</h2>\n<figure><img alt='{text}' src='data:image/svg+xml;base64,{encoded}'></figure>"
