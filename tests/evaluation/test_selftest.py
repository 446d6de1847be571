"""The selftest passes as the package is, and each of its checks fails where the estimator is broken."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution

from tests.conftest import Cli
from vaectl import stats
from vaectl.data.base import Split
from vaectl.evaluation import information as information_module
from vaectl.evaluation import metrics, selftest
from vaectl.evaluation.importance import ImportanceBound, importance_bound
from vaectl.evaluation.information import Information, information
from vaectl.evaluation.selftest import Bench, Check
from vaectl.model import vae
from vaectl.stats import Estimate

CPU = torch.device("cpu")
# the sizes of the command are for precision; a broken estimator shows with far fewer
SMALL = Bench(CPU, examples=2000, weighted=300, encoded=2000, draws=1000)

Patch = Callable[[pytest.MonkeyPatch], None]


def failing(group: Callable[[Bench], Iterator[Check]]) -> set[str]:
    return {check.name for check in group(SMALL) if not check.passed}


@pytest.fixture(scope="module")
def made() -> list[Check]:
    return list(selftest.checks(CPU))


def test_it_passes(made: list[Check]) -> None:
    assert [check for check in made if not check.passed] == []


def test_it_makes_as_many_checks_as_it_says(made: list[Check]) -> None:
    assert len(made) == selftest.COUNT == len({check.name for check in made})


def test_the_bound_is_the_evidence_to_a_hundred_thousandth(made: list[Check]) -> None:
    """With the exact posterior the ELBO of every example, in fp32, is log p(x) to 1e-5 nats."""
    check = next(check for check in made if check.name == "ELBO error, worst example")
    assert check.tolerance == 1e-5
    assert 0 < check.got < 1e-5


def test_a_check_fails_on_what_is_no_number() -> None:
    check = Check("a", 1.0, 1.05, 0.1, "0.1")
    assert check.passed
    assert not dataclasses.replace(check, got=0.85).passed
    assert not dataclasses.replace(check, got=1.15).passed
    assert dataclasses.replace(check, got=1.15, at_least=True).passed
    assert not dataclasses.replace(check, got=0.85, at_least=True).passed
    for value in (math.nan, math.inf, -math.inf):
        assert not dataclasses.replace(check, got=value).passed
    assert not dataclasses.replace(check, got=math.nan, at_least=True).passed
    assert not dataclasses.replace(check, tolerance=math.nan).passed


@pytest.mark.parametrize("group", selftest.GROUPS)
def test_small_sizes_pass_too(group: Callable[[Bench], Iterator[Check]]) -> None:
    """What the tests of broken estimators start from."""
    assert failing(group) == set()


# --- broken estimators ------------------------------------------------------------------------------------------------


def extreme_sample(patch: pytest.MonkeyPatch, choose: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Up to 20 one-sample bounds, of which one is chosen."""

    def broken(model: vae.VAE, split: Split, samples: int, *, seed: int = 0) -> ImportanceBound:
        bound = importance_bound(model, split, 1, seed=seed).bound
        for other in range(1, min(samples, 20)):
            bound = choose(bound, importance_bound(model, split, 1, seed=seed + other).bound)
        return ImportanceBound(samples, bound, torch.full_like(bound, samples))

    patch.setattr(selftest, "importance_bound", broken)


def worst_sample(patch: pytest.MonkeyPatch) -> None:
    """Weights that favour the worst sample, log min w in place of log mean w."""
    extreme_sample(patch, torch.minimum)


def best_sample(patch: pytest.MonkeyPatch) -> None:
    """The best sample alone: log max w, which is no lower bound."""
    extreme_sample(patch, torch.maximum)


def mean_of_logs(patch: pytest.MonkeyPatch) -> None:
    """The mean of log w, an ELBO for every K, in place of the log of the mean."""

    def broken(model: vae.VAE, split: Split, samples: int, *, seed: int = 0) -> ImportanceBound:
        found = importance_bound(model, split, samples, seed=seed)
        return dataclasses.replace(found, bound=importance_bound(model, split, 1, seed=seed).bound)

    patch.setattr(selftest, "importance_bound", broken)


def more_samples_than_asked(patch: pytest.MonkeyPatch) -> None:
    """100 samples drawn when 1 is asked for."""

    def broken(model: vae.VAE, split: Split, samples: int, *, seed: int = 0) -> ImportanceBound:
        return importance_bound(model, split, max(samples, 100), seed=seed)

    patch.setattr(selftest, "importance_bound", broken)


def closed_form_in_the_weight(patch: pytest.MonkeyPatch) -> None:
    """The analytic KL mixed into an importance weight."""
    patch.setattr(vae.Draw, "log_q", property(lambda draw: draw.kl.expand(len(draw.z), -1)))
    patch.setattr(vae.Draw, "log_p", property(lambda draw: torch.zeros_like(draw.log_px)))


def kl_averaged_over_dimensions(patch: pytest.MonkeyPatch) -> None:
    """The KL a mean over latent dimensions."""
    right = vae.kl
    patch.setattr(vae, "kl", lambda q, p, z: right(q, p, z) / z.shape[-1])


def kl_of_the_wrong_direction(patch: pytest.MonkeyPatch) -> None:
    right = vae.kl_divergence

    def broken(q: Distribution, p: Distribution) -> Tensor:
        return right(p.expand(q.batch_shape), q)  # type: ignore[no-untyped-call]

    patch.setattr(vae, "kl_divergence", broken)


def recon_averaged_over_pixels(patch: pytest.MonkeyPatch) -> None:
    """The reconstruction a mean over pixels."""
    patch.setattr(vae.Draw, "recon", property(lambda draw: -draw.log_px.mean(0) / draw.x.shape[-1]))


def bound_at_the_mean(patch: pytest.MonkeyPatch) -> None:
    """Sampling switched off, z = mean, and still called ELBO."""
    draw = vae.VAE.draw

    def broken(model: vae.VAE, x: Tensor, k: int = 1) -> vae.Draw:
        right = draw(model, x, k)
        z = right.q.mean.expand_as(right.z)
        return vae.Draw(right.batch, q=right.q, z=z, p=right.p, px=model.decode(z))

    patch.setattr(vae.VAE, "draw", broken)


def logarithms_of_base_two(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(vae.Draw, "elbo", property(lambda draw: -(draw.recon + draw.kl) / math.log(2)))


def kl_by_dimension_summed_over_examples(patch: pytest.MonkeyPatch) -> None:
    right = vae.kl_per_dimension
    patch.setattr(vae, "kl_per_dimension", lambda q, p: right(q, p) * len(q.mean))


def activity_ten_times_as_strict(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(metrics, "ACTIVE_VARIANCE", 0.1)


def activity_ten_times_as_lax(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(metrics, "ACTIVE_VARIANCE", 0.001)


def mixture_of_one_batch(patch: pytest.MonkeyPatch) -> None:
    """The aggregate posterior taken over the first examples only, and called that of all."""

    def broken(model: vae.VAE, split: Split, *, draws: int = 1000, seed: int = 0) -> Information:
        return information(model, split.first(20), draws=draws, seed=seed)

    patch.setattr(selftest, "information", broken)


def upper_bound_for_the_lower(patch: pytest.MonkeyPatch) -> None:
    """The example's own posterior left out of the mixture of the lower bound."""

    def broken(model: vae.VAE, split: Split, *, draws: int = 1000, seed: int = 0) -> Information:
        found = information(model, split, draws=draws, seed=seed)
        return dataclasses.replace(found, mutual_information=found.mutual_information_upper)

    patch.setattr(selftest, "information", broken)


def mixture_without_log_n(patch: pytest.MonkeyPatch) -> None:
    class NoLog:
        inf, nan = math.inf, math.nan

        @staticmethod
        def log(value: float) -> float:
            return 0.0

    patch.setattr(information_module, "math", NoLog)


def gap_left_out(patch: pytest.MonkeyPatch) -> None:
    """The aggregate's KL taken for zero."""

    def broken(model: vae.VAE, split: Split, *, draws: int = 1000, seed: int = 0) -> Information:
        found = information(model, split, draws=draws, seed=seed)
        return dataclasses.replace(found, aggregate_kl=Estimate(0.0, 1e-9))

    patch.setattr(selftest, "information", broken)


def errors_of_two_samples(patch: pytest.MonkeyPatch) -> None:
    """The standard error of two independent samples, for one of paired differences."""

    def broken(values: list[float], baseline: list[float]) -> Estimate:
        first, second = stats.mean_and_se(values), stats.mean_and_se(baseline)
        return Estimate(first.mean - second.mean, math.hypot(first.se, second.se))

    patch.setattr(selftest, "paired_difference", broken)


def deviation_for_error(patch: pytest.MonkeyPatch) -> None:
    """The standard deviation over examples for the standard error of their mean."""
    right = stats.paired_difference

    def broken(values: list[float], baseline: list[float]) -> Estimate:
        found = right(values, baseline)
        return Estimate(found.mean, found.se * math.sqrt(len(values)))

    patch.setattr(selftest, "paired_difference", broken)


def difference_of_the_wrong_sign(patch: pytest.MonkeyPatch) -> None:
    right = stats.paired_difference
    patch.setattr(selftest, "paired_difference", lambda values, baseline: right(baseline, values))


BROKEN: list[tuple[Patch, Callable[[Bench], Iterator[Check]], str]] = [
    (worst_sample, selftest.check_importance, "increase of the bound to K = 10"),
    (worst_sample, selftest.check_importance, "bound, K = 5000, posterior too wide"),
    (mean_of_logs, selftest.check_importance, "bound, K = 100, posterior too wide"),
    (more_samples_than_asked, selftest.check_importance, "bound, K = 1, posterior too wide"),
    (more_samples_than_asked, selftest.check_importance, "ess error, K = 1, worst example"),
    (closed_form_in_the_weight, selftest.check_importance, "bound error, K = 1, worst example"),
    (closed_form_in_the_weight, selftest.check_importance, "bound, K = 5000, posterior too wide"),
    (best_sample, selftest.check_importance, "log p(x) above the last bound"),
    (kl_averaged_over_dimensions, selftest.check_kl, "kl error, worst example"),
    (kl_averaged_over_dimensions, selftest.check_kl, "kl from draws, without a closed form"),
    (kl_averaged_over_dimensions, selftest.check_bound, "ELBO error, worst example"),
    (kl_averaged_over_dimensions, selftest.check_bound, "ELBO, posterior too wide"),
    (kl_averaged_over_dimensions, selftest.check_information, "mutual information + aggregate KL"),
    (kl_averaged_over_dimensions, selftest.check_comparison, "half a nat between two models"),
    (kl_of_the_wrong_direction, selftest.check_bound, "ELBO, exact posterior"),
    (recon_averaged_over_pixels, selftest.check_bound, "recon"),
    (bound_at_the_mean, selftest.check_bound, "ELBO, exact posterior"),
    (bound_at_the_mean, selftest.check_bound, "recon"),
    (logarithms_of_base_two, selftest.check_bound, "ELBO error, worst example"),
    (kl_by_dimension_summed_over_examples, selftest.check_kl, "kl_per_dim error, worst dimension"),
    (activity_ten_times_as_strict, selftest.check_kl, "active units of 5"),
    (activity_ten_times_as_lax, selftest.check_kl, "active units of 5"),
    (mixture_of_one_batch, selftest.check_information, "information of 3000 separate latents"),
    (upper_bound_for_the_lower, selftest.check_information, "information of 3000 separate latents"),
    (mixture_without_log_n, selftest.check_information, "mutual information, from below"),
    (mixture_without_log_n, selftest.check_information, "mutual information, collapsed"),
    (gap_left_out, selftest.check_information, "aggregate KL, posterior off by sigma"),
    (errors_of_two_samples, selftest.check_comparison, "standard error of that half nat"),
    (deviation_for_error, selftest.check_comparison, "standard error of that half nat"),
    (difference_of_the_wrong_sign, selftest.check_comparison, "half a nat between two models"),
]


@pytest.mark.parametrize(("broken", "group", "name"), BROKEN, ids=[f"{p.__name__}-{name}" for p, _, name in BROKEN])
def test_a_broken_estimator_is_found(
    broken: Patch, group: Callable[[Bench], Iterator[Check]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    assert name in failing(group)


# --- the command ------------------------------------------------------------------------------------------------------


def few(passed: bool) -> Callable[..., Iterator[Check]]:
    """Two checks that cost nothing, of which the second passes or not."""
    found = [Check("a bound", -6.0, -6.0, 1e-5, "1e-05"), Check("a kl", 1.0, 1.0 if passed else 2.0, 0.1, "4 SE")]
    return lambda device, seed: iter(found)


def test_the_command_prints_every_check_and_succeeds(cli: Cli, made: list[Check]) -> None:
    """The real thing: a table with a verdict for each check, and exit code 0."""
    result = cli("selftest", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert all(f"ok  {check.name}" in result.stdout for check in made)
    assert "FAIL" not in result.stdout
    assert f"{selftest.COUNT} of {selftest.COUNT} passed on cpu" in result.stdout


def test_its_document(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "checks", few(True))
    result = cli("selftest", "--device", "cpu", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert set(document) == {"passed", "checks", "seconds"}
    assert document["passed"] is True
    assert document["checks"][1] == {
        "name": "a kl", "expected": 1.0, "got": 1.0, "tolerance": 0.1, "rule": "within 4 SE", "passed": True,
    }  # fmt: skip


def test_a_failure_is_named_after_the_table(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "checks", few(False))
    result = cli("selftest", "--device", "cpu")
    assert result.exit_code == 1
    assert "ok    a bound" in result.stdout
    assert "FAIL  a kl" in result.stdout
    assert "1 of 2 passed" in result.stdout
    assert result.stderr.startswith("error: 1 of 2 checks failed: a kl\nhint: ")


def test_a_failure_is_one_document(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --json the failing checks are on stdout once, exit code 1, and the error line is on stderr."""
    monkeypatch.setattr(selftest, "checks", few(False))
    result = cli("selftest", "--device", "cpu", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["passed"] is False
    assert [check["passed"] for check in document["checks"]] == [True, False]
    assert result.stderr.startswith("error: 1 of 2 checks failed: a kl")


def test_a_value_that_is_no_number_is_null(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Check("a bound", 1.0, math.nan, 0.1, "0.1")
    monkeypatch.setattr(selftest, "checks", lambda device, seed: iter([found]))
    result = cli("selftest", "--device", "cpu", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["checks"][0]["got"] is None


@pytest.mark.parametrize(("passed", "printed", "code"), [(True, "2/2\n", 0), (False, "1/2\n", 1)])
def test_quiet(cli: Cli, monkeypatch: pytest.MonkeyPatch, passed: bool, printed: str, code: int) -> None:
    monkeypatch.setattr(selftest, "checks", few(passed))
    result = cli("selftest", "--device", "cpu", "-q")
    assert (result.stdout, result.exit_code) == (printed, code)


def test_the_seed_and_the_device_reach_the_checks(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[torch.device, int]] = []

    def watched(device: torch.device, seed: int) -> Iterator[Check]:
        given.append((device, seed))
        return few(True)(device, seed)

    monkeypatch.setattr(selftest, "checks", watched)
    assert cli("selftest", "--device", "cpu", "--seed", 7).exit_code == 0
    assert given == [(CPU, 7)]
    for arguments in (("--device", "gpu"), ("--seed", -1), ("-q", "--json"), ("--progress", "loud")):
        assert cli("selftest", *arguments).exit_code == 2
    assert len(given) == 1


def test_another_seed_has_other_data() -> None:
    first, again, second = (Bench(CPU, seed) for seed in (0, 0, 1))
    x, same, other = (bench.split(bench.oracle, 50).images for bench in (first, again, second))
    assert torch.equal(x, same)
    assert not torch.equal(x, other)
