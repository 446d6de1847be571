"""Which examples are anomalies, by their labels and the classes that a model was trained on.

Shapes: ``N`` examples.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from vaectl.errors import UsageError, did_you_mean

# labels that say normal and anomaly themselves, and classes that say normal where nothing else does
TWO = {"0", "1"}
NORMAL = {"good", "normal", "ok", "nominal", "inlier"}


@dataclass(frozen=True)
class Truth:
    """What the labels say.

    Attributes:
        anomalous: Whether each example is an anomaly, bool (N,).
        labelled: Whether it has a label, bool (N,).
        anomalies: Names of the labels that are anomalies.
    """

    anomalous: np.ndarray
    labelled: np.ndarray
    anomalies: tuple[str, ...]


def truth_of(
    names: np.ndarray, words: Sequence[str] | None, trained: Collection[str] | None, classes: Sequence[str] = ()
) -> Truth | str:
    """Tell the anomalies among labelled examples, or say why they cannot be told.

    Args:
        names: Name of each example's class, or its number as text (N,); empty or ``-1`` if it has none.
        words: Labels that a person calls anomalies, by name or number; None to tell them by the training.
        trained: Names of the classes that the model was trained on; None if that is unknown.
        classes: Names of the labels 0, 1, ... of these data, if they have names.

    Returns:
        The anomalies; or a sentence why there are none or nothing else, which is no error without ``words``.

    Raises:
        UsageError: A word is no label of the examples.
    """
    labelled = ~np.isin(names, ["", "-1"])
    present = set(names[labelled].tolist())
    if not present:
        if words:
            raise UsageError(f"--anomaly {','.join(words)} is for data with labels; these have none")
        return "the data have no labels"
    if words is not None:
        anomalies = {_meant(word, present, classes) for word in words}
    elif present == TWO and TWO.issuperset(trained or ()):
        anomalies = {"1"}
    elif not trained and len(normal := {name for name in present if name.lower() in NORMAL}) == 1:
        anomalies = present - normal
    elif not trained:
        return "which labels are anomalies is unknown; name them with --anomaly"
    else:
        anomalies = present - set(trained)
    if not anomalies & present:
        return "the model was trained on every class of these data; name the anomalies with --anomaly"
    if not present - anomalies:
        return "all labelled examples are of classes that the model was not trained on"
    return Truth(np.isin(names, sorted(anomalies)), labelled, tuple(sorted(anomalies)))


def _meant(word: str, present: Collection[str], classes: Sequence[str]) -> str:
    """The label that a person means, by name or, if the labels have names, by number."""
    if word in present:
        return word
    if word.isdecimal() and int(word) < len(classes) and classes[int(word)] in present:
        return classes[int(word)]
    raise UsageError(f"--anomaly {word}: no example has that label", hint=did_you_mean(word, present))
