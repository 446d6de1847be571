"""When a likelihood is said to mislead, and which examples p-values come from."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from tests.support.toys import toy_data
from vaectl import vae
from vaectl.model.builder import build
from vaectl.runs.scoring import calibration_split, detections, misled, score_examples, trained_on


def test_a_likelihood_misleads_where_the_bound_is_higher_beyond_chance() -> None:
    normal, new = np.array([-10.0, -12.0, -11.0, -9.0]), np.array([-5.0, -6.0, -4.0])
    outcome = misled(new, normal, ("regret",))
    assert outcome is not None
    assert outcome.excess == 5.5
    assert outcome.se == pytest.approx(math.hypot(1 / math.sqrt(3), np.std(normal, ddof=1) / 2))
    assert "by 5.50 ± 0.87 nats" in outcome.sentence("here")
    assert outcome.sentence("here").endswith("see --score regret too")
    assert misled(normal, new, ()) is None
    assert misled(normal + 1, normal, ()) is None  # 1.1 standard errors
    assert misled(new[:1], normal, ()) is None  # a single example has no standard error
    assert outcome.to_json() == {"excess": outcome.excess, "se": outcome.se, "instead": ["regret"]}


def test_the_split_to_calibrate_on() -> None:
    data = toy_data()
    assert calibration_split(data, ("test",)) == "validation"
    assert calibration_split(data, ()) == "validation"
    assert calibration_split(data, ("validation",)) == "test"
    assert calibration_split(data, ("train", "validation", "test")) is None
    bare = toy_data(validation_fraction=0.0)
    assert calibration_split(bare, ()) == "test"
    assert calibration_split(bare, ("test",)) is None


def test_scores_with_p_values_of_a_models_own_data() -> None:
    data = toy_data(test=200)
    model, _ = build(vae(latent_dim=2, hidden_dims=(8,)), data.info)
    scored = score_examples(model, data.test, data, "validation", ("elbo", "distance"))
    assert list(scored.values) == list(scored.p) == ["elbo", "distance"]
    assert scored.calibration == ("validation", 60)
    assert (scored.p["elbo"] >= 1 / 61).all()
    # p-values of examples like those calibrated on are nearly uniform
    assert scored.p["elbo"].mean() == pytest.approx(0.5, abs=0.12)
    order = np.argsort(scored.values["elbo"])
    assert (np.diff(scored.p["elbo"][order]) <= 0).all()
    assert scored.summary()["elbo"]["normal_mean"] == pytest.approx(scored.normal["elbo"].mean())
    alone = score_examples(model, data.test, None, None, ("elbo", "distance"))
    assert list(alone.values) == ["elbo"]
    assert alone.p == {}
    assert "missing" in alone.unavailable["distance"]
    torch.testing.assert_close(alone.values["elbo"], scored.values["elbo"])


def test_classes_of_the_training_examples_are_normal() -> None:
    data = toy_data()
    assert trained_on(data) == {"0", "1"}
    named = dataclasses.replace(data, info=dataclasses.replace(data.info, classes=("low", "high")))
    assert trained_on(named) == {"low", "high"}
    model, _ = build(vae(latent_dim=2, hidden_dims=(8,)), data.info)
    scored = score_examples(model, data.test, data, "validation", ("recon",))
    labels = np.array([str(label) for label in data.test.labels.tolist()])
    outcome = detections(scored, labels, ["0"], data, data)
    assert not isinstance(outcome, str)
    assert outcome[1] == ("0",)
    other = detections(scored, labels, ["1"], data, data)
    assert not isinstance(other, str)
    assert outcome[0]["recon"]["auroc"] == pytest.approx(1 - other[0]["recon"]["auroc"])
