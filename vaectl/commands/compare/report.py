"""The report of ``vaectl compare -o``: the tables as Markdown or HTML, and the pictures."""

from __future__ import annotations

import base64
import html
import re
from pathlib import Path
from typing import TYPE_CHECKING

from vaectl.commands.compare.sheet import Sheet
from vaectl.commands.shared.render import Screen
from vaectl.commands.shared.session import Session
from vaectl.errors import UsageError
from vaectl.runs.comparison import CHECKPOINT, Comparison, evaluation
from vaectl.runs.grouping import by_setting
from vaectl.runs.run import Run
from vaectl.system.files import finite, replacing, write_json
from vaectl.system.reading import has_numbers
from vaectl.system.text import harmless

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vaectl.output.plots import Course

TILES, POINTS = 8, 2000


def pictures(comparison: Comparison, screen: Screen, device: str, data_dir: Path | None, seed: int) -> Figure:
    """Plot curves, rates and distortions of all runs; and for the first run of each column reconstructions of the same
    test images, samples with the same seed, and latents on shared axes.

    Raises:
        UsageError: The runs have data of different shapes.
    """
    import torch

    from vaectl.data.examples import given_for
    from vaectl.evaluation import latents
    from vaectl.output import plots
    from vaectl.output.grids import grid
    from vaectl.system.runtime import seeded

    shapes = {run.data_info.shape for run in comparison.runs}
    if len(shapes) > 1:
        raise UsageError(f"a picture needs runs with examples of one shape; these have {sorted(shapes)}")
    sessions = [Session(column.runs[0], screen, device, data_dir) for column in comparison.columns]
    test = sessions[0].data().test
    rows = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))[: 2 * TILES]
    batch = test.batch(rows)
    reconstructions, samples, views = [], [], []
    for session in sessions:
        model, own = session.model(CHECKPOINT), session.data()
        with torch.no_grad(), seeded(seed):
            span = session.run.data_info.range
            reconstructed = model.reconstruct(batch.to(session.device)).mean
            given = given_for(test, TILES * TILES, session.device)
            samples.append(grid(model.sample(TILES * TILES, given=given).mean, TILES, span=span))
            reconstructions.append(grid(reconstructed, 2 * TILES, span=span))
        view = latents.view_of(model, own.test.first(POINTS), own.train)
        views.append((view.points, own.test.labels[:POINTS].numpy(), view.axes))
    courses = _courses(comparison)
    plane = not any(comparison.unlike) and all(None not in (course.rate, course.distortion) for course in courses)
    if not plane:
        why = next((reason for reason in comparison.unlike if reason), "a run has no KL or reconstruction")
        screen.note(f"no picture of rate and distortion: {why}")
    originals = grid(batch.x, 2 * TILES, span=sessions[0].run.data_info.range)
    classes = sessions[0].run.data_info.classes if not any(comparison.unlike) else ()
    return plots.comparison(
        courses, comparison.labels, originals, reconstructions, samples, views, plane=plane, classes=classes
    )


def _courses(comparison: Comparison) -> list[Course]:
    """The course of every run, with a colour for its setting; in a group only the first run is named."""
    from vaectl.output.plots import Course

    courses = []
    for setting, group in enumerate(by_setting(comparison.runs)):
        for replica, run in enumerate(group.runs):
            name = run.id if not comparison.grouped else group.label if replica == 0 else ""
            metrics = evaluation(run)["metrics"]
            courses.append(Course(name, setting, replica, _history(run), metrics["kl"], metrics["recon"]))
    return courses


def _history(run: Run) -> dict[str, list[float]]:
    rows = [
        row for row in run.history() if has_numbers(row, "epoch") and has_numbers(row.get("validation"), "elbo", "kl")
    ]
    return {
        "epoch": [row["epoch"] for row in rows],
        "elbo": [row["validation"]["elbo"] for row in rows],
        "kl": [row["validation"]["kl"] for row in rows],
    }


def write(path: Path, comparison: Comparison, sheet: Sheet, figure: Figure | None) -> None:
    """Write a report in the format of the path's suffix.

    Args:
        path: The file: .json, .png, .md or .html.
        comparison: The comparison.
        sheet: Its text.
        figure: Its pictures, for .png and .html.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        write_json(path, finite(comparison.to_json()))
    elif suffix == ".png":
        from vaectl.output import plots

        assert figure is not None
        plots.save(figure, path)
    else:
        text = _markdown(sheet) if suffix == ".md" else _html(sheet, figure)
        with replacing(path) as temporary:
            # a setting of an altered run.json may hold half a character
            temporary.write_text(text, encoding="utf-8", errors="replace")


def _sentence(line: str) -> str:
    return f"{line[0].upper()}{line[1:]}."


# what begins markup in Markdown; "<" and "&" also begin HTML, and without "://" and "www." no link is made
MARKUP = re.compile(r"[\\`*\[\]|~$#]|(?<![^\W_])_|_(?![^\W_])|(?<=www)\.|:(?=//)|^[+-](?=\s)", re.IGNORECASE)


def _marked(text: str) -> str:
    """A text that others may have written, in one line of Markdown that shows it as it is."""
    escaped = MARKUP.sub(r"\\\g<0>", harmless(text.strip()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _markdown(sheet: Sheet) -> str:
    lines = [f"# {_marked(sheet.title)}", "", *(f"- {_marked(line)}" for line in sheet.above)]
    lines += [""] if sheet.above else []
    for columns, rows in sheet.tables:
        lines += ["| " + " | ".join(_marked(name) or " " for name, _ in columns) + " |"]
        lines += ["|" + "|".join("---:" if justify == "right" else "---" for _, justify in columns) + "|"]
        lines += ["| " + " | ".join(map(_marked, row)) + " |" for row in rows] + [""]
    lines += [f"- {_marked(_sentence(line))}" for line in (*sheet.below, *sheet.notes)]
    return "\n".join(lines).rstrip() + "\n"


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .8rem; border-bottom: 1px solid #ddd; text-align: left; }
.right { text-align: right; } img { max-width: 100%; }
"""


def _html(sheet: Sheet, figure: Figure | None) -> str:
    def escaped(text: str) -> str:
        return html.escape(harmless(text.strip()))

    title = escaped(f"vaectl: {sheet.title}")
    body = [f"<h1>{title}</h1>", *(f"<p>{escaped(line)}</p>" for line in sheet.above)]
    for columns, rows in sheet.tables:
        head = "".join(f"<th class='{justify}'>{escaped(name)}</th>" for name, justify in columns)
        lines = [
            "".join(f"<td class='{columns[i][1]}'>{escaped(cell)}</td>" for i, cell in enumerate(row)) for row in rows
        ]
        body.append(f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>")
    body += [f"<p>{escaped(_sentence(line))}</p>" for line in (*sheet.below, *sheet.notes)]
    if figure is not None:
        from vaectl.output import plots

        encoded = base64.b64encode(plots.encode(figure, ".png")).decode()
        contents = "curves, rate and distortion, reconstructions, samples and latent spaces"
        body.append(f"<img alt='{contents}' src='data:image/png;base64,{encoded}'>")
    return (
        f"<!doctype html>\n<html lang='en'><meta charset='utf-8'><title>{title}</title>\n<style>{STYLE}</style>\n"
        + "\n".join(body)
        + "\n</html>\n"
    )
