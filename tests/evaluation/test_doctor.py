"""The doctor: each ailment fires on a training made to have it, at its threshold, and a healthy one gets no word."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli
from tests.support.marks import some
from tests.support.toys import toy_data
from vaectl.config.recipes import RECIPES, vae
from vaectl.config.spec import Part, Spec
from vaectl.evaluation.doctor import (
    CLEAR_ERRORS,
    COLLAPSED_KL,
    FEWEST_EXAMPLES,
    OVERFITTING_GAP,
    SHORT_STEPS,
    examine,
    forecast,
)
from vaectl.model.builder import build
from vaectl.model.posteriors import POSTERIORS
from vaectl.model.priors import PRIORS

SIZES = {"train": 900, "validation": 100, "test": 100}
HEALTHY: dict[str, Any] = {
    "elbo": -25.0, "elbo_se": 0.25, "recon": 22.0, "kl": 3.0, "active_units": 2, "posterior_saturation": 0.0,
    "likelihood_saturation": 0.0,
}  # fmt: skip


def elbo_with(**objective: Any) -> Spec:
    """The default spec of two dimensions, with options of its objective."""
    spec = dataclasses.replace(vae(), latent_dim=2)
    return dataclasses.replace(spec, objective=Part("elbo", {**spec.objective.options, **objective}))


def history(epochs: int = 30, step: int = 100, beta: float = 1.0, elbo: float = -24.5, **validation: Any) -> list[Any]:
    """So many epochs alike, each of ``step`` optimizer steps."""
    return [
        {"epoch": n, "step": n * step, "elbo": elbo, "beta": beta, "validation": HEALTHY | validation}
        for n in range(1, epochs + 1)
    ]


def names(spec: Spec, rows: list[Any], metrics: dict[str, Any] | None = None) -> list[str]:
    return [finding.name for finding in examine(spec, rows, SIZES, metrics)]


def test_a_healthy_training_gets_no_word() -> None:
    assert names(elbo_with(), history()) == []
    assert names(elbo_with(), history(), HEALTHY) == []
    assert forecast(elbo_with()) == []


@pytest.mark.parametrize(
    ("signs", "ill"),
    [
        ({"kl": 0.05}, True),
        ({"kl": 0.99 * COLLAPSED_KL}, True),
        ({"kl": 1.01 * COLLAPSED_KL}, False),
        ({"kl": 3.0, "active_units": 0}, True),
    ],
)
def test_collapse_is_less_than_one_bit_or_no_active_dimension(signs: dict[str, Any], ill: bool) -> None:
    """A z = 2 model with a KL of 0.05 nats is caught although its posterior means still move."""
    for metrics in (None, HEALTHY | signs):
        assert ("posterior collapse" in names(elbo_with(), history(**signs), metrics)) == ill


def test_an_ailment_during_training_has_lasted() -> None:
    """Nothing is said in the first 500 steps, during a warm-up, or of one bad epoch among good ones."""
    assert names(elbo_with(), history(epochs=30, step=SHORT_STEPS // 30, kl=0.01)) == []
    assert names(elbo_with(warmup_epochs=28), history(epochs=29, kl=0.01)) == []
    assert names(elbo_with(warmup_epochs=27), history(epochs=29, kl=0.01)) == ["posterior collapse"]
    good, bad = history()[:-1], history(kl=0.01)[-1:]
    assert names(elbo_with(), good + bad) == []
    assert names(elbo_with(), []) == []


def test_a_code_that_was_asked_to_say_nothing_is_no_collapse() -> None:
    signs = {"kl": 0.3}
    for name, option in (("capacity", "capacity"), ("kl-target", "target")):
        for value, expected in ((0.3, []), (10.0, ["posterior collapse", "KL off its target"])):
            spec = dataclasses.replace(elbo_with(), objective=Part(name, {option: value}))
            assert names(spec, history(**signs), HEALTHY | signs) == expected


@pytest.mark.parametrize(
    ("options", "step", "remedy"),
    [
        ({}, 1, "--epochs"),
        ({"beta": 4.0}, 100, "--beta"),
        ({"warmup_epochs": 0}, 100, "--warmup-epochs 10"),
        ({"warmup_epochs": 5}, 100, "--free-bits"),
        ({"warmup_epochs": 5, "free_bits": 0.1}, 100, "--lr"),
    ],
)
def test_the_remedy_of_a_collapse_depends_on_what_was_tried(options: dict[str, Any], step: int, remedy: str) -> None:
    rows = history(step=step, beta=options.get("beta", 1.0), kl=0.01)
    found = examine(elbo_with(**options), rows, SIZES, HEALTHY | {"kl": 0.01})
    assert remedy in found[0].remedy
    assert found[0].sentence == f"{found[0].name}: {found[0].problem}; try {found[0].remedy}"


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({}, "a lower --beta"),
        ({"beta": 1.0}, "--set objective.alpha=0.25"),
        ({"beta": 1.0, "gamma": 6.0}, "--set objective.gamma=1.5"),
        ({"beta": 1.0, "alpha": 0.0, "gamma": 0.0, "warmup_epochs": 2}, "a lower --lr"),
    ],
)
def test_a_kl_taken_apart_is_weighed_by_its_parts(options: dict[str, Any], remedy: str) -> None:
    """A warm-up of the total correlation alone, or a flag that it has not, is no remedy: its other weights are."""
    recipe = dataclasses.replace(RECIPES["beta-tcvae"](), latent_dim=2)
    spec = dataclasses.replace(recipe, objective=Part("tc", {**recipe.objective.options, **options}))
    found = examine(spec, history(kl=0.01, beta=6.0), SIZES, HEALTHY | {"kl": 0.01})
    assert [finding.remedy for finding in found if finding.name == "posterior collapse"] == [remedy]


@pytest.mark.parametrize(
    ("recipe", "remedy"),
    [
        ("vae", "a higher --beta or a lower --lr"),
        ("beta-tcvae", "a higher objective.alpha or a lower --lr"),
        ("capacity-vae", "a lower --lr"),
    ],
)
def test_the_remedy_of_a_narrow_posterior_is_a_setting_that_the_objective_has(recipe: str, remedy: str) -> None:
    spec = dataclasses.replace(RECIPES[recipe](), latent_dim=2)
    rows = history(beta=spec.objective.options.get("beta", 1.0))
    (finding,) = examine(spec, rows, SIZES, HEALTHY | {"posterior_saturation": 0.5, "kl": 25.0})
    assert finding.remedy == remedy


@pytest.mark.parametrize(("posterior", "prior"), list(itertools.product(POSTERIORS, PRIORS)))
def test_free_bits_are_offered_only_where_they_can_be_used(posterior: str, prior: str) -> None:
    """What the builder refuses is no remedy: free bits where the KL does not factorise over dimensions."""
    spec = dataclasses.replace(elbo_with(warmup_epochs=5), posterior=Part(posterior), prior=Part(prior))
    (finding,) = examine(spec, history(kl=0.01), SIZES)
    if "--free-bits" in finding.remedy:
        build(dataclasses.replace(spec, objective=Part("elbo", {"free_bits": 0.5})), toy_data().info)
    else:
        assert finding.remedy == "a lower --lr"


def test_over_strong_beta_switches_most_dimensions_off() -> None:
    spec = dataclasses.replace(elbo_with(beta=8.0), latent_dim=10)
    for active, expected in ((4, ["over-strong beta"]), (5, ["unused latent dimensions"]), (10, [])):
        assert names(spec, history(beta=8.0, active_units=10), HEALTHY | {"active_units": active}) == expected
    mild = dataclasses.replace(elbo_with(), latent_dim=10)
    assert names(mild, history(active_units=10), HEALTHY | {"active_units": 4}) == ["unused latent dimensions"]


def test_unused_dimensions_are_a_note_with_the_number_that_is_enough() -> None:
    (finding,) = examine(
        dataclasses.replace(elbo_with(), latent_dim=32), history(), SIZES, HEALTHY | {"active_units": 19}
    )
    assert finding.harmless
    assert "13 of 32" in finding.problem
    assert "--latent-dim 19" in finding.remedy


def test_an_unfinished_warmup_is_forecast_and_found() -> None:
    spec = dataclasses.replace(elbo_with(warmup_epochs=60))
    (finding,) = forecast(spec)
    assert finding.name == "unfinished warm-up"
    assert "--epochs" in finding.remedy
    assert names(spec, history(beta=0.5), HEALTHY) == ["unfinished warm-up"]
    assert names(elbo_with(), history(beta=0.98), HEALTHY) == ["unfinished warm-up"]
    assert names(elbo_with(), history(beta=0.995), HEALTHY) == []
    capacity = RECIPES["capacity-vae"]()
    assert names(dataclasses.replace(capacity, latent_dim=2), history(epochs=9), HEALTHY) == ["unfinished warm-up"]
    assert names(dataclasses.replace(capacity, latent_dim=2), history(epochs=10), HEALTHY | {"kl": 25.0}) == []
    cyclical = elbo_with(schedule="cyclical", warmup_epochs=6)
    assert names(cyclical, history(epochs=12, beta=0.0), HEALTHY) == [], "a new cycle has begun"


@pytest.mark.parametrize(("kl", "expected"), [(9.1, []), (8.9, ["KL off its target"]), (11.1, ["KL off its target"])])
def test_a_target_that_was_missed_is_said(kl: float, expected: list[str]) -> None:
    """By more than 10 % and half a nat."""
    spec = dataclasses.replace(RECIPES["control-vae"](), latent_dim=2)
    assert names(spec, history(), HEALTHY | {"kl": kl}) == expected
    near = dataclasses.replace(spec, objective=Part("kl-target", {"target": 1.0}))
    assert names(near, history(), HEALTHY | {"kl": 1.4}) == []


def test_codes_that_say_nothing_far_from_the_prior_are_a_collapse() -> None:
    """A KL of 9.6 nats of which the code's information is at most 0.2 is the distance of all codes from the prior."""
    metrics = HEALTHY | {"kl": 9.6, "mutual_information_upper": 0.12, "mutual_information_upper_se": 0.04}
    (finding,) = examine(elbo_with(), history(), SIZES, metrics)
    assert finding.name == "posterior collapse"
    assert "0.2 nats" in finding.problem
    assert "9.6 nats" in finding.problem
    assert names(elbo_with(), history(), metrics | {"mutual_information_upper": 0.7}) == []
    assert names(elbo_with(), history(), metrics | {"mutual_information_upper": None}) == []


def test_a_likelihood_of_unit_scale_is_the_first_thing_to_change() -> None:
    for part, remedy in ((Part("mse"), "--likelihood gaussian"), (Part("laplace", {"scale": "fixed"}), "scale=shared")):
        spec = dataclasses.replace(elbo_with(), likelihood=part)
        assert remedy in examine(spec, history(), SIZES, HEALTHY | {"kl": 0.01})[0].remedy


def test_without_validation_or_history_no_steps_are_made_up() -> None:
    rows = [{**row, "validation": None} for row in history()]
    assert "--warmup-epochs" in examine(elbo_with(), rows, SIZES, HEALTHY | {"kl": 0.01})[0].remedy
    assert "steps" not in examine(elbo_with(), [], SIZES, HEALTHY | {"kl": 0.01})[0].remedy
    assert names(elbo_with(), [{**row, "beta": 0.5} for row in rows], HEALTHY) == ["unfinished warm-up"]


@pytest.mark.parametrize("which", ["posterior", "likelihood"])
def test_more_than_one_in_a_hundred_scales_at_an_end_is_said(which: str) -> None:
    for part, expected in ((0.009, []), (0.02, [f"saturated {which} scale"])):
        signs = {f"{which}_saturation": part}
        assert names(elbo_with(), history(**signs)) == expected
        assert names(elbo_with(), history(), HEALTHY | signs) == expected


def test_overfitting_is_a_gap_of_a_quarter_of_a_standard_deviation() -> None:
    """The standard deviation over examples is 0.25 * sqrt(100) = 2.5 nats here."""
    threshold = OVERFITTING_GAP * HEALTHY["elbo_se"] * math.sqrt(SIZES["validation"])
    for factor, expected in ((0.9, []), (1.1, ["overfitting"])):
        rows = history(elbo=HEALTHY["elbo"] + factor * threshold)
        assert names(elbo_with(), rows) == expected
        assert names(elbo_with(), rows, HEALTHY) == expected


@pytest.mark.parametrize(("validation", "errors", "expected"), [
    (40, 0.9 * CLEAR_ERRORS, []),
    (40, 1.1 * CLEAR_ERRORS, ["overfitting"]),
    (FEWEST_EXAMPLES, 1.1 * CLEAR_ERRORS, ["overfitting"]),
    (FEWEST_EXAMPLES - 1, 10 * CLEAR_ERRORS, []),
])  # fmt: skip
def test_overfitting_is_no_accident_of_few_validation_examples(
    validation: int, errors: float, expected: list[str]
) -> None:
    """Below a hundred examples the gap must be clear of its standard error, which a handful does not even tell."""
    rows = history(elbo=HEALTHY["elbo"] + errors * HEALTHY["elbo_se"])
    found = examine(elbo_with(), rows, {**SIZES, "validation": validation}, HEALTHY)
    assert [finding.name for finding in found] == expected


@pytest.mark.parametrize(("train", "expected"), [(1, []), (2, []), (3, ["posterior collapse"])])
def test_of_one_or_two_images_there_is_nothing_to_say(train: int, expected: list[str]) -> None:
    """A code that must tell two images apart needs no more than log 2 nats, so a lower KL is no collapse."""
    found = examine(elbo_with(), history(), {**SIZES, "train": train}, {**HEALTHY, "kl": 0.1, "active_units": 0})
    assert [finding.name for finding in found] == expected


def test_damaged_epochs_are_passed_over() -> None:
    rows = [{}, {"validation": 3}, *history(), {"validation": {"kl": "x"}}, {"epoch": 1, "validation": None}]
    assert names(elbo_with(), rows, HEALTHY) == []


MADE: dict[str, tuple[str, set[str]]] = {
    "healthy": ("--latent-dim 2 --epochs 50 --warmup-epochs 5", set()),
    "collapsed": ("--latent-dim 2 --epochs 8 --likelihood mse --batch-size 16", {"posterior collapse"}),
    "over-strong": ("--latent-dim 2 --epochs 50 --beta 60", {"posterior collapse", "over-strong beta"}),
    "unused": ("--latent-dim 12 --epochs 80", {"unused latent dimensions"}),
    "warm-up": ("--latent-dim 2 --epochs 40 --warmup-epochs 100", {"unfinished warm-up"}),
    "overfitted": (
        "--latent-dim 8 --epochs 250 --hidden-dims 256,128 --validation-fraction 0.9",
        {"overfitting", "unused latent dimensions"},
    ),
    "deterministic": ("--latent-dim 2 --epochs 120 --beta 0 --validation-fraction 0", {"saturated posterior scale"}),
    "per-pixel": (
        "--latent-dim 4 --epochs 60 --likelihood gaussian --set likelihood.scale=per-pixel --set likelihood.floor=0.1",
        {"saturated likelihood scale"},
    ),
}


@pytest.mark.parametrize("made", some([*MADE], 4))
def test_runs_made_to_be_ill_are_named_and_a_healthy_one_is_not(cli: Cli, isolated: Path, made: str) -> None:
    """Through train and eval, on scikit-learn's digits: what is said, on stderr and in JSON, is what ails the run."""
    arguments, expected = MADE[made]
    base = ["train", "--dataset", "digits", "--hidden-dims", "64,32", "--progress", "none", "--json"]
    if "--hidden-dims" in arguments:
        base = [word for word in base if word not in ("--hidden-dims", "64,32")]
    trained = cli(*base, *arguments.split())
    assert trained.exit_code == 0, trained.output
    sentences = [line for line in trained.stderr.splitlines() if "; try " in line]
    said = {sentence.removeprefix("warning: ").partition(":")[0] for sentence in sentences}
    assert said == expected
    log = (isolated / "runs" / "run1" / "train.log").read_text()
    assert all(name in log for name in expected)
    evaluated = json.loads(cli("eval", "run1", "--checkpoint", "last", "--json").stdout)["findings"]
    assert {finding["name"] for finding in evaluated} == expected
    assert all(set(finding) == {"name", "problem", "try"} for finding in evaluated)


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400, "3", None, [1]])
def test_what_is_no_number_does_not_upset_it(value: Any) -> None:
    """An integer that JSON can hold and a float cannot, among others."""
    rows = [*history(), {**history()[-1], "step": value}, {**history()[-1], "validation": HEALTHY | {"kl": value}}]
    assert names(elbo_with(), rows, HEALTHY) == []


def coded(**posterior: Any) -> Spec:
    spec = RECIPES["vq-vae"]()
    return dataclasses.replace(
        spec, posterior=dataclasses.replace(spec.posterior, options={**spec.posterior.options, **posterior})
    )


@pytest.mark.parametrize(
    ("posterior", "remedy"),
    [({"revive": 0.0}, "posterior.revive"), ({"codebook": "loss"}, "posterior.codebook=ema"), ({}, "--codes")],
)
def test_a_codebook_that_is_hardly_used_is_named(posterior: dict[str, Any], remedy: str) -> None:
    """Where the positions of the split are enough to use all codes, although its examples alone are not."""
    spec, sizes = coded(**posterior), {"train": 5000, "validation": 400, "test": 400}
    metrics = {"elbo": -100.0, "recon": 60.0, "kl": 40.0, "codes_used": 20, "codes": 512, "perplexity": 9.0}
    grid = {49: True, 1: False}
    for positions, named in grid.items():
        found = examine(spec, [], sizes, metrics | {"uniform_bits": 9.0 * positions})
        assert [finding.name for finding in found] == ["codebook collapse"] * named
        assert all(remedy in finding.remedy for finding in found)
    assert not examine(spec, [], sizes, metrics | {"uniform_bits": 441.0, "codes_used": 60})


def test_a_remedy_names_flags_that_the_run_has() -> None:
    """Of a convolutional net its width, and no weight of the KL where the objective has none."""
    rows = history()
    rows[-1]["elbo"] = -4.0
    rows[-1]["validation"] |= {"elbo": -24.0, "elbo_se": 0.1}
    sizes = {"train": 5000, "validation": 500, "test": 500}
    for recipe, flag in (("vae", "--hidden-dims"), ("vq-vae", "--width")):
        found = {finding.name: finding.remedy for finding in examine(RECIPES[recipe](), rows, sizes, {
            "elbo": -24.0, "recon": 4.0, "kl": 20.0, "active_units": 32
        })}  # fmt: skip
        assert flag in found["overfitting"]
    flat = dataclasses.replace(coded(), likelihood=Part("mse"))
    used = {"elbo": -24.0, "recon": 24.0, "kl": 0.1, "codes_used": 90, "codes": 100, "uniform_bits": 441.0}
    (collapse,) = [f for f in examine(flat, history(), sizes, used) if f.name == "posterior collapse"]
    assert "--beta" not in collapse.remedy
