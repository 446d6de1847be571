"""The report of ``vaectl compare -o``: the tables as Markdown or HTML, and the pictures."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaectl.commands._render import Screen, Tables, finite
from vaectl.commands._session import Session
from vaectl.comparison import CHECKPOINT, Comparison
from vaectl.errors import UsageError
from vaectl.files import replacing, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TILES, POINTS = 8, 2000


def pictures(found: Comparison, screen: Screen, device: str, data_dir: Path | None, seed: int) -> Figure:
    """Curves, the same test images through every run, samples of one seed, latents on shared axes.

    Raises:
        UsageError: The runs have data of different shapes.
    """
    import torch

    from vaectl import latents, plots
    from vaectl.grids import grid
    from vaectl.runtime import seeded

    shapes = {run.data_info.shape for run in found.runs}
    if len(shapes) > 1:
        raise UsageError(f"a picture needs runs with examples of one shape; these have {sorted(shapes)}")
    sessions = [Session(run, screen, device, data_dir) for run in found.runs]
    test = sessions[0].data().test
    rows = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))[: 2 * TILES]
    x = test.batch(rows)
    reconstructions, samples, views = [], [], []
    for session in sessions:
        model, own = session.model(CHECKPOINT), session.data()
        with torch.no_grad(), seeded(seed):
            samples.append(grid(model.sample(TILES * TILES).mean, TILES))
            reconstructions.append(grid(model.decoder(model.encoder(x.to(session.device)).mean).mean, 2 * TILES))
        view = latents.view_of(model, own.test.first(POINTS), own.train)
        views.append((view.points, own.test.labels[:POINTS].numpy(), view.axes))
    histories = [_history(session) for session in sessions]
    ids = [run.id for run in found.runs]
    return plots.comparison(ids, histories, grid(x, 2 * TILES), reconstructions, samples, views)


def _is_drawable(row: dict[str, Any]) -> bool:
    validation = row.get("validation")
    numbers = (
        [row.get("epoch"), *(validation.get(key) for key in ("elbo", "kl"))] if isinstance(validation, dict) else [None]
    )
    return all(isinstance(number, int | float) for number in numbers)


def _history(session: Session) -> dict[str, list[float]]:
    rows = [row for row in session.run.history() if _is_drawable(row)]
    return {
        "epoch": [row["epoch"] for row in rows],
        "elbo": [row["validation"]["elbo"] for row in rows],
        "kl": [row["validation"]["kl"] for row in rows],
    }


def write(path: Path, found: Comparison, shown: Tables, figure: Figure | None) -> None:
    """Write a report in the format of the path's suffix.

    Args:
        path: The file: .json, .png, .md or .html.
        found: The comparison.
        shown: Its tables.
        figure: Its pictures, for .png and .html.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        write_json(path, finite(found.to_json()))
    elif suffix == ".png":
        from vaectl import plots

        assert figure is not None
        plots.save(figure, path)
    else:
        text = _markdown(found, shown) if suffix == ".md" else _html(found, shown, figure)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _markdown(found: Comparison, shown: Tables) -> str:
    lines = [f"# {' and '.join(run.id for run in found.runs)}", ""]
    for columns, rows in shown:
        lines += ["| " + " | ".join(name or " " for name, _ in columns) + " |"]
        lines += ["|" + "|".join("---:" if justify == "right" else "---" for _, justify in columns) + "|"]
        lines += ["| " + " | ".join(cell.strip() for cell in row) + " |" for row in rows] + [""]
    lines += [f"No verdicts: {reason}." for reason in found.reasons]
    return "\n".join(lines).rstrip() + "\n"


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .8rem; border-bottom: 1px solid #ddd; text-align: left; }
.right { text-align: right; } img { max-width: 100%; }
"""


def _html(found: Comparison, shown: Tables, figure: Figure | None) -> str:
    title = html.escape("vaectl: " + " and ".join(run.id for run in found.runs))
    body = [f"<h1>{title}</h1>"]
    for columns, rows in shown:
        head = "".join(f"<th class='{justify}'>{html.escape(name)}</th>" for name, justify in columns)
        lines = [
            "".join(f"<td class='{columns[i][1]}'>{html.escape(cell.strip())}</td>" for i, cell in enumerate(row))
            for row in rows
        ]
        body.append(f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>")
    body += [f"<p>No verdicts: {html.escape(reason)}.</p>" for reason in found.reasons]
    if figure is not None:
        from vaectl import plots

        encoded = base64.b64encode(plots.encode(figure, ".png")).decode()
        body.append(
            f"<img alt='curves, reconstructions, samples and latent spaces' src='data:image/png;base64,{encoded}'>"
        )
    return (
        f"<!doctype html>\n<html lang='en'><meta charset='utf-8'><title>{title}</title>\n<style>{STYLE}</style>\n"
        + "\n".join(body)
        + "\n</html>\n"
    )
