"""``vaectl score``: how unusual examples are, with p-values, thresholds, maps and AUROC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaectl.commands.score import files, text
from vaectl.commands.score.parts import columns_of, example_of, threshold_of, title_of
from vaectl.commands.score.threshold import Threshold
from vaectl.commands.shared.listening import Shown
from vaectl.commands.shared.marks import Marks
from vaectl.commands.shared.options import (
    Checkpoint,
    DataDir,
    Device,
    Force,
    Json,
    OtherSplit,
    PathArgument,
    ProgressMode,
    Quiet,
    RunArgument,
    Seed,
    Verbose,
    check_split,
    choice,
    number,
    output_option,
    state,
)
from vaectl.commands.shared.pace import Clock
from vaectl.commands.shared.plugins import Plugins, load
from vaectl.commands.shared.render import Screen
from vaectl.commands.shared.session import STANDARD_INPUT, Session
from vaectl.config.datasets import is_path, located
from vaectl.config.spec import ALL, splits_of
from vaectl.errors import DataError, UsageError, amount, check_choice
from vaectl.evaluation.anomaly.names import DEFAULT, SCORES
from vaectl.runs.run import Run
from vaectl.runs.scoring import (
    MOST_CALIBRATION,
    Scored,
    calibration_split,
    detections,
    least_calibration,
    score_examples,
)
from vaectl.system.files import check_output, write_output

if TYPE_CHECKING:
    import numpy as np

    from vaectl.data.base import Data
    from vaectl.data.examples import Examples

ALL_SCORES = "all"


def score_cli(
    context: typer.Context,
    run: RunArgument,
    path: PathArgument = None,
    score: Annotated[
        str | None,
        choice("--score", (*SCORES, ALL_SCORES), "The score; a higher one is more unusual.", show_default=DEFAULT),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            "--threshold",
            metavar="fpr=RATE|SCORE",
            show_default="none",
            help="Flag examples whose p-value is at most a false positive rate, or whose score is above a number.",
        ),
    ] = None,
    anomaly: Annotated[
        str | None,
        typer.Option(
            "--anomaly",
            metavar="LABEL,...",
            show_default="1 of 0 and 1, else classes that the run was not trained on",
            help="The labels that are anomalies, for AUROC and average precision.",
        ),
    ] = None,
    split: OtherSplit = None,
    count: Annotated[
        int, typer.Option("-n", metavar="N", parser=number(int, 1, 10_000), help="How many examples to show.")
    ] = 10,
    output: Annotated[
        Path | None,
        output_option("Write scores and p-values of all examples: .npz, .csv or .parquet."),
    ] = None,
    maps: Annotated[
        Path | None,
        typer.Option(
            "--maps",
            metavar="DIR",
            readable=False,
            show_default=False,
            help="Write a picture of what is unexpected in each flagged example, or in the N most unusual ones.",
        ),
    ] = None,
    force: Force = False,
    checkpoint: Checkpoint = "best",
    data_dir: DataDir = None,
    plugin: Plugins = None,
    device: Device = "auto",
    seed: Seed = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
    progress: ProgressMode = "auto",
) -> None:
    """Score how unusual examples are, with p-values from the run's validation split, and flag anomalies."""
    import numpy as np

    from vaectl.data.joined import joined

    screen = Screen(quiet, verbose, as_json, progress)
    check_split(split)
    if score is not None:
        check_choice("--score", score, (*SCORES, ALL_SCORES))
    limit = None if threshold is None else Threshold.parse(threshold)
    words = None if anomaly is None else [word.strip() for word in anomaly.split(",")]
    _check_outputs(output, maps, force=force)
    load(plugin, screen)
    session = Session(Run.open(run, state(context).runs_dir), screen, device, data_dir)
    data, split = session.examples(path, split, whole=True)
    # a path stands for all that it holds, also if the run was trained on a part of that
    other = path is not None and (path == STANDARD_INPUT or session.is_other(path) or (is_path(path) and split == ALL))
    own = _own(session, limit, screen) if other else data
    if path is not None and split == ALL and located(path) == session.run.complete_spec().data.name:
        screen.note(
            f"{path} holds what {session.run.id} was trained on, and those examples look more usual than new ones"
        )
    names = splits_of(split)
    examples = joined(data, names).to(session.device)
    if len(examples) == 0:
        raise DataError(f"--split {split}: {data.info.name} has no {split} examples")
    calibration = None if own is None else calibration_split(own, () if other else names)
    _check_calibration(limit, own, calibration, session, screen)
    model, clock = session.model(checkpoint), Clock()
    requested = list(SCORES) if score == ALL_SCORES else [score or DEFAULT]
    with Shown(screen) as listener:
        options: dict[str, Any] = {"required": score is not None, "foreign": other, "seed": seed, "tell": listener.on}
        scored = score_examples(model, examples, own, calibration, requested, **options)
    main = next(name for name in (score, DEFAULT, *scored.values) if name in scored.values)
    values, p = scored.values[main], scored.p.get(main)
    flagged = np.zeros(len(values), bool) if limit is None else limit.flags(values, p)
    marks = Marks(data, session.run.data_info.classes).of_all(split)
    classes = marks.get("class", np.array([str(label) for label in joined(data, names).labels.tolist()]))
    known = detections(scored, classes, words, own, data)
    order = np.argsort(-values, kind="stable")
    pictured: list[Path] = []
    if maps is not None:
        chosen = _mapped(order, flagged, limit, count, screen)
        titles = {place: title_of(place, rank, main, values, p, marks) for rank, place in enumerate(chosen.tolist(), 1)}
        normal = None if own is None or calibration is None else own.split(calibration).to(session.device)
        with screen.counting("maps", len(chosen)) as counted:
            pictured = files.write_maps(
                maps, model, examples, chosen, titles, session.run.data_info, normal, counted
            )  # fmt: skip
    if output is not None:
        columns = {**marks, **columns_of(scored), **({} if limit is None else {"flagged": flagged})}
        _write(output, columns, session, checkpoint, examples, force=force)
        screen.note(f"scores of {amount(len(values), 'example')}: {output}")
    document = {
        "run": session.run.id,
        "dataset": data.info.name,
        "split": split,
        "n": len(values),
        "checkpoint": checkpoint,
        "seed": seed,
        "score": main,
        "scores": scored.summary(),
        "unavailable": scored.unavailable,
        "calibration": None if scored.calibration is None else dict(
            zip(("split", "n"), scored.calibration, strict=True)
        ),
        "threshold": None if limit is None else threshold_of(limit, flagged),
        "examples": [example_of(place, rank, values, p, flagged, marks) for rank, place in enumerate(order[:count], 1)],
        "anomalies": None if isinstance(known, str) else list(known[1]),
        "detection": None if isinstance(known, str) else known[0],
        "misled": None if scored.misled is None else scored.misled.to_json(),
        "output": None if output is None else str(output),
        "maps": list(map(str, pictured)),
        **clock.pace(len(values)).to_json(),
    }  # fmt: skip
    _show(document, known, scored, session, screen)


def _check_outputs(output: Path | None, maps: Path | None, *, force: bool) -> None:
    from vaectl.output import arrays
    from vaectl.output.folders import check_folder

    if output is not None:
        check_output(output, arrays.FORMATS, force=force)
        arrays.require_format(output.suffix.lower())
    if maps is not None:
        check_folder(maps, force=force, flag="--maps")
    if force and output is None and maps is None:
        raise UsageError("--force without -o or --maps has nothing to overwrite")


def _own(session: Session, limit: Threshold | None, screen: Screen) -> Data | None:
    """The run's own data; None, with a warning, if they cannot be loaded and are not necessary."""
    try:
        return session.data()
    except DataError as error:
        if limit is not None and limit.fpr is not None:
            raise
        screen.warn(f"no p-values, because the run's own data cannot be loaded: {error.message}")
        return None


def _check_calibration(
    limit: Threshold | None, own: Data | None, split: str | None, session: Session, screen: Screen
) -> None:
    """Check that there are enough normal examples for a rate, and say which ones they are if that is unusual."""
    rows = 0 if own is None or split is None else min(len(own.split(split)), MOST_CALIBRATION)
    if limit is not None and limit.fpr is not None:
        if split is None:
            raise DataError(
                f"--threshold fpr={limit.fpr:g} takes normal examples beside those that are scored; "
                f"{session.run.id} has none left",
                hint="train with --validation-fraction 0.1, score another split, or give a score as --threshold",
            )
        least_calibration(limit.fpr, rows, f"the {split} split of {session.run.id}")
    if own is not None and split is None:
        screen.note("no p-values: no split of the run's own data is left to compare with")
    elif split == "test":
        screen.note(f"p-values come from the test split, because {session.run.id} has no other validation examples")


def _mapped(order: np.ndarray, flagged: np.ndarray, limit: Threshold | None, count: int, screen: Screen) -> np.ndarray:
    """The examples to draw: all flagged ones with a threshold, else the most unusual."""
    chosen = order[:count] if limit is None else order[flagged[order]]
    if not len(chosen):
        screen.note("no maps, because no example is flagged")
    if len(chosen) > files.MOST_MAPS:
        screen.note(f"maps of the {files.MOST_MAPS} most unusual of {len(chosen):,} flagged examples")
    return chosen[: files.MOST_MAPS]


def _write(
    output: Path,
    columns: Mapping[str, np.ndarray],
    session: Session,
    checkpoint: str,
    examples: Examples,
    *,
    force: bool,
) -> None:
    from vaectl.output import arrays

    def write(path: Path) -> None:
        rows = files.table_rows(columns, session.model(checkpoint), examples, session.run.data_info)
        arrays.save(rows, len(examples), path)

    write_output(output, write, force=force)


def _show(
    document: Mapping[str, Any],
    known: tuple[dict[str, Any], Sequence[str]] | str,
    scored: Scored,
    session: Session,
    screen: Screen,
) -> None:
    """Print the result, and warn where a likelihood misleads."""
    title = (
        f"{document['run']}  {document['dataset']}, {document['split']}, {amount(document['n'], 'example')}  "
        f"score {document['score']}: {SCORES[document['score']]}"
    )
    pieces: list[Any] = [
        title,
        screen.table(*text.example_rows(document["examples"])),
    ]
    if line := text.summary(document):
        pieces.append(line)
    if len(document["scores"]) > 1:
        header = [("score", "left"), ("mean", "right"), ("mean of normal examples", "right")]
        pieces.append(screen.table(header, text.mean_rows(document["scores"])))
    if not isinstance(known, str):
        header = [("score", "left"), ("AUROC", "left"), ("average precision", "left")]
        pieces += [
            f"anomalies: {', '.join(known[1])}; with 95 % intervals",
            screen.table(header, text.detection_rows(known[0])),
        ]
    flagged = document["threshold"]
    short = str(flagged["flagged"]) if flagged else f"{document['scores'][document['score']]['mean']:.4f}"
    screen.result(document, short=short, text=pieces)
    if isinstance(known, str):
        screen.detail(f"no AUROC: {known}")
    for name, reason in scored.unavailable.items():
        screen.note(f"no score {name}: {reason}")
    if document["maps"]:
        screen.note(f"{amount(len(document['maps']), 'map')} in {Path(document['maps'][0]).parent}")
    if scored.misled is not None and scored.calibration is not None:
        screen.warn(scored.misled.sentence(f"the {scored.calibration[0]} split of {session.run.id}"))
