"""The report of ``vaectl compare -o``: the document, Markdown, and figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vaectl.commands.compare.page import page
from vaectl.commands.compare.sheet import Sheet, sentence
from vaectl.commands.shared.render import Screen
from vaectl.commands.shared.session import Session
from vaectl.errors import UsageError
from vaectl.runs.comparison import CHECKPOINT, Comparison, evaluation
from vaectl.runs.run import Run
from vaectl.system.files import finite, replacing, write_json
from vaectl.system.reading import has_numbers
from vaectl.system.text import harmless

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vaectl.output.plots import Course

TILES, POINTS = 8, 2000


def pictures(
    comparison: Comparison, screen: Screen, device: str, data_dir: Path | None, seed: int
) -> list[tuple[str, Figure]]:
    """Plot curves, rates and distortions of all runs; and for the first run of each column reconstructions of the same
    test images, samples with the same seed, and latents on shared axes. Each figure has a heading.

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
    test, info = sessions[0].data().test, sessions[0].data().info
    rows = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))[: 2 * TILES]
    batch = test.batch(rows)
    strips, samples, clouds = [("test images", grid(batch.x, 2 * TILES, span=info.range))], [], []
    for label, session in zip(comparison.labels, sessions, strict=True):
        model, own = session.model(CHECKPOINT), session.data()
        with torch.no_grad(), seeded(seed):
            span = session.run.data_info.range
            reconstructed = model.reconstruct(batch.to(session.device)).mean
            given = given_for(test, TILES * TILES, session.device)
            samples.append((label, grid(model.sample(TILES * TILES, given=given).mean, TILES, span=span)))
            strips.append((label, grid(reconstructed, 2 * TILES, span=span)))
        view = latents.view_of(model, own.test.first(POINTS), own.train)
        labels = own.test.labels[:POINTS].numpy()
        clouds.append((label, plots.Cloud(view.points, labels, view.axes, view.origin is not None)))
    courses = _courses(comparison)
    figures = [(_curves_heading(comparison), plots.curves(courses))]
    if why := _no_plane(comparison, courses):
        screen.note(f"no picture of rate and distortion: {why}")
    else:
        figures.append(("Rate and distortion", plots.rate_distortion(courses)))
    classes = info.classes if not any(comparison.unlike) else ()
    return [
        *figures,
        ("Test images and their reconstructions", plots.strips(strips)),
        (f"Samples with seed {seed}", plots.panels(samples)),
        ("Latents on shared axes, from the 1st to the 99th percentile of all", plots.clouds(clouds, classes)),
    ]


def _curves_heading(comparison: Comparison) -> str:
    ranges = any(len(column.runs) > 1 for column in comparison.columns)
    return "Training" + (": mean over seeds, and the range from the lowest to the highest" if ranges else "")


def _no_plane(comparison: Comparison, courses: list[Course]) -> str | None:
    """The reason why rates and distortions are not plotted, or None."""
    unlike = next((reason for reason in comparison.unlike if reason), None)
    incomplete = any(None in point for course in courses for point in course.points)
    return unlike or ("a run has no KL or reconstruction" if incomplete else None)


def _courses(comparison: Comparison) -> list[Course]:
    """The course of each column's runs."""
    from vaectl.output.plots import Course

    courses = []
    for column in comparison.columns:
        metrics = [evaluation(run)["metrics"] for run in column.runs]
        points = [(each["kl"], each["recon"]) for each in metrics]
        courses.append(Course(column.label, [_history(run) for run in column.runs], points))
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


def write(path: Path, comparison: Comparison, sheet: Sheet, figures: Sequence[tuple[str, Figure]]) -> None:
    """Write a report in the format of the path's suffix.

    Args:
        path: The file: .json, .png, .md or .html.
        comparison: The comparison.
        sheet: Its text.
        figures: Its figures with their headings, for .png and .html.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        write_json(path, finite(comparison.to_json()))
    elif suffix == ".png":
        from vaectl.output import plots
        from vaectl.output.grids import save_png

        save_png(plots.stacked(sheet.title, figures), path)
    else:
        text = _markdown(sheet) if suffix == ".md" else page(sheet, figures)
        with replacing(path) as temporary:
            # a setting of an altered run.json may hold half a character
            temporary.write_text(text, encoding="utf-8", errors="replace")


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
    lines += [f"- {_marked(sentence(line))}" for line in (*sheet.below, *sheet.notes)]
    return "\n".join(lines).rstrip() + "\n"
