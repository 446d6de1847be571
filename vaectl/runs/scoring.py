"""Score examples with a run's model, and compare them with normal ones of its data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vaectl.errors import UsageError, amount
from vaectl.evaluation.anomaly.names import SCORES
from vaectl.stats import mean_and_se
from vaectl.training.events import Progress, Said, Tell

if TYPE_CHECKING:
    import numpy as np

    from vaectl.data.base import Data
    from vaectl.data.examples import Examples
    from vaectl.model.vae import VAE

# most calibration examples, spread evenly over their split; a p-value then has steps of 0.0002
MOST_CALIBRATION = 5000
# standard errors of a difference that are taken for more than chance
BEYOND_CHANCE = 3
# the score that did not have a likelihood's fault where it was measured, see docs/anomalies.md
INSTEAD = ("regret",)


@dataclass(frozen=True)
class Misled:
    """The new examples have a higher bound than normal ones, so a likelihood takes them for more normal.

    Attributes:
        excess: Difference of the mean bounds in nats.
        se: Its standard error.
        instead: Further scores of the model that do not have this fault.
    """

    excess: float
    se: float
    instead: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The three attributes."""
        return {"excess": self.excess, "se": self.se, "instead": list(self.instead)}

    def sentence(self, where: str) -> str:
        """What is said to a person; ``where`` names the normal examples."""
        advice = f"; see --score {' or '.join(self.instead)} too" if self.instead else ""
        return (
            f"these examples have a higher bound on average than {where}, by {self.excess:.2f} ± {self.se:.2f} nats: "
            f"elbo, bound and recon take them for more normal than normal ones, which simpler data can cause{advice}"
        )


@dataclass(frozen=True)
class Scored:
    """Scores and p-values for examples.

    Attributes:
        values: Scores by name, float64 (N,).
        p: p-values by the name of the score, float64 (N,); empty without calibration.
        calibration: Split of the calibration examples and their number; None without.
        unavailable: Scores that the model does not have, each with the reason.
        misled: Set if a likelihood is known to mislead here.
        normal: Scores of the calibration examples by name, float64 (n,).
    """

    values: dict[str, np.ndarray]
    p: dict[str, np.ndarray] = field(default_factory=dict)
    calibration: tuple[str, int] | None = None
    unavailable: dict[str, str] = field(default_factory=dict)
    misled: Misled | None = None
    normal: dict[str, np.ndarray] = field(default_factory=dict)

    def summary(self) -> dict[str, dict[str, float | None]]:
        """By score the mean, its standard error over examples, and the mean of the calibration examples."""
        out: dict[str, dict[str, float | None]] = {}
        for name, values in self.values.items():
            mean, se = mean_and_se(values.tolist())
            usual = mean_and_se(self.normal[name].tolist()).mean if name in self.normal else None
            out[name] = {"mean": mean, "se": se, "normal_mean": usual}
        return out


def calibration_split(own: Data, scored: Sequence[str]) -> str | None:
    """The split to calibrate on: validation, else test; None if they are empty or among the splits scored."""
    return next((name for name in ("validation", "test") if name not in scored and len(own.split(name))), None)


def score_examples(
    model: VAE,
    examples: Examples,
    own: Data | None,
    split: str | None,
    names: Sequence[str],
    *,
    required: bool = True,
    foreign: bool = True,
    seed: int = 0,
    tell: Tell = lambda event: None,
) -> Scored:
    """Score examples, and a split of the run's own data to compare them with.

    Args:
        model: The model.
        examples: The examples, on any device.
        own: The run's own data; None if they are missing, and then there are neither p-values nor ``distance``.
        split: The split of ``own`` to calibrate on, or None.
        names: Names of the scores; of several those that the model has.
        required: Whether a single score that the model does not have is an error; else it is replaced by elbo.
        foreign: Whether the examples may be of another kind than the run's own, so that a likelihood can mislead.
        seed: Seed of the draws; those of calibration examples are others.
        tell: Called with ``Progress`` and ``Said`` events.

    Raises:
        DataError: There are no examples.
        UsageError: The only score is one that the model does not have.
    """
    from vaectl.data.thinned import thinned
    from vaectl.evaluation.anomaly.aggregate import aggregate_posterior
    from vaectl.evaluation.anomaly.calibration import p_values
    from vaectl.evaluation.anomaly.scores import anomaly_scores, unavailable

    device = next(model.parameters()).device
    examples = examples.to(device)
    missing = unavailable(model, examples) if len(examples) else {}
    if own is None and "distance" not in missing:
        missing["distance"] = "the data that the run was trained on are missing"
    if len(names) == 1 and names[0] in missing and not required:
        tell(Said(f"score elbo: this model has no score {names[0]}, because {missing[names[0]]}"))
        names = ["elbo"]
    if len(names) == 1 and names[0] in missing:
        raise UsageError(
            f"this model has no score {names[0]}: {missing[names[0]]}",
            hint=f"it has {', '.join(name for name in SCORES if name not in missing)}",
        )
    # elbo is computed in any case, because it tells whether a likelihood misleads
    wanted = [name for name in SCORES if name == "elbo" or (name in names and name not in missing)]
    aggregate = None
    if "distance" in wanted and own is not None:
        aggregate = aggregate_posterior(model, own.train.to(device))

    def scores(part: Examples, which: str, seed: int) -> dict[str, np.ndarray]:
        def progress(score: str, done: int) -> None:
            tell(Progress(f"{which}: {score}", done, len(part)))

        return anomaly_scores(model, part, wanted, aggregate=aggregate, seed=seed, progress=progress)

    values = scores(examples, "scoring", seed)
    normal: dict[str, np.ndarray] = {}
    if own is not None and split is not None:
        part = thinned(own.split(split), MOST_CALIBRATION).to(device)
        if len(part) < len(own.split(split)):
            tell(Said(f"calibrated on {amount(len(part), f'{split} example')}, evenly spread", "detail"))
        # the seeds of neighbours would give the examples of both the same draws
        normal = scores(part, f"calibrating on {split}", _other(seed))
    lacking = {name: reason for name, reason in missing.items() if name in names}
    named = {name: values[name] for name in wanted if name in names}
    if not normal:
        return Scored(named, unavailable=lacking)
    return Scored(
        named,
        {name: p_values(named[name], normal[name]) for name in named},
        (str(split), len(normal["elbo"])),
        lacking,
        None
        if not foreign
        else misled(-values["elbo"], -normal["elbo"], [name for name in INSTEAD if name not in (*missing, *names)]),
        {name: normal[name] for name in named},
    )


def least_calibration(rate: float, rows: int, where: str) -> None:
    """Raise a DataError if so many calibration examples, named by ``where``, are too few for a false positive rate."""
    from vaectl.evaluation.anomaly.calibration import check_rows

    check_rows(rate, rows, where)


def misled(bounds: np.ndarray, normal: np.ndarray, instead: Sequence[str]) -> Misled | None:
    """Whether new examples have a higher bound on average than normal ones, beyond three standard errors.

    Args:
        bounds: Bounds on the log-likelihood of the new examples in nats (N,).
        normal: Those of normal examples (n,).
        instead: Scores that do not have this fault.

    References:
        Do Deep Generative Models Know What They Don't Know? (Nalisnick et al., 2019), https://arxiv.org/abs/1810.09136
    """
    (mean, se), (usual, usual_se) = mean_and_se(bounds.tolist()), mean_and_se(normal.tolist())
    excess, spread = mean - usual, math.hypot(se, usual_se)
    # a comparison with nan, the standard error of a single example, is false
    return Misled(excess, spread, tuple(instead)) if excess > BEYOND_CHANCE * spread else None


def detections(
    scored: Scored, names: np.ndarray, words: Sequence[str] | None, own: Data | None, data: Data
) -> tuple[dict[str, Any], tuple[str, ...]] | str:
    """AUROC and average precision of every score, and the labels that are anomalies; or a sentence why not.

    Args:
        scored: The scores.
        names: Name or number of each example's class as text (N,), see ``truth_of``.
        words: Labels that a person calls anomalies, or None.
        own: The run's own data, or None.
        data: The data that were scored.

    Raises:
        UsageError: A word is no label of the examples.
    """
    from vaectl.evaluation.anomaly.detection import detection
    from vaectl.evaluation.anomaly.labels import truth_of

    truth = truth_of(names, words, None if own is None else trained_on(own), data.info.classes)
    if isinstance(truth, str):
        return truth
    rows = {
        name: detection(values[truth.labelled], truth.anomalous[truth.labelled]).to_json()
        for name, values in scored.values.items()
    }
    return rows, truth.anomalies


def trained_on(own: Data) -> set[str]:
    """Names, or numbers as text, of the classes of a run's training examples."""
    labels = sorted({label for label in own.train.labels.tolist() if label >= 0})
    return {own.info.classes[label] if own.info.classes else str(label) for label in labels}


def _other(seed: int) -> int:
    """A seed for a stream of its own."""
    import numpy as np

    return int(np.random.SeedSequence((seed, 1)).generate_state(1)[0])
