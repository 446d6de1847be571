"""The likelihoods: normalised where they say so, right at the edges of float32, and honest about what they measure.

Shapes: ``N`` values or draws, ``X`` data shape (1, 2, 2), ``G`` grid points.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions import Distribution

from tests.conftest import Cli
from tests.support.toys import toy_data
from vaectl.config.recipes import RECIPES
from vaectl.config.spec import Part
from vaectl.data.batch import Batch
from vaectl.errors import SettingError
from vaectl.evaluation.metrics import evaluate
from vaectl.model.builder import build, complete
from vaectl.model.distributions import pixels as distributions
from vaectl.model.distributions.codes import LatentSpace
from vaectl.model.distributions.pixels import (
    ContinuousBernoulli,
    DiscretizedLogistic,
    LowRankCategorical,
    at_least_fp32,
    base_of,
    mode_of,
    scale_of,
)
from vaectl.model.likelihoods import CROSS_ENTROPY, DENSITY, DISCRETE, FLOOR, LIKELIHOODS, SQUARED_ERROR
from vaectl.model.posteriors import GaussianPosterior
from vaectl.model.priors import StandardNormal
from vaectl.model.vae import kl
from vaectl.runs import weights

SHAPE = (1, 2, 2)
SCALES = ("fixed", "shared", "per-pixel", "optimal")
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("bernoulli", {}),
    ("continuous-bernoulli", {}),
    *((name, {"scale": scale}) for name in ("gaussian", "laplace") for scale in SCALES),
    ("mse", {}),
    ("categorical", {}),
    ("categorical", {"rank": 3}),
    ("discretized-logistic", {}),
    ("discretized-logistic", {"scale": "shared"}),
]
each_variant = pytest.mark.parametrize(
    ("name", "options"),
    VARIANTS,
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
BYTES = torch.arange(256, dtype=torch.float64) / 255


def head(name: str, options: dict[str, Any], features: int = 5, shape: tuple[int, ...] = SHAPE) -> Any:
    """A head with weights large enough that its pixels differ."""
    torch.manual_seed(0)
    made = LIKELIHOODS[name]((features,), shape, **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(3)
    return made


def pixels(name: str, options: dict[str, Any], dtype: torch.dtype = torch.float64) -> Distribution:
    """One p(x|z) as evaluation sees it, pixel by pixel: batch shape X."""
    p = head(name, options).to(dtype).eval()(torch.randn(5, dtype=dtype))
    assert p.batch_shape == ()
    assert p.event_shape == SHAPE
    return base_of(p)


def grid(measure: str, support: str, p: Distribution) -> Tensor:
    """Every value of discrete data, or a fine grid over all that has mass (G, *X); a kink at the mean is on it."""
    if measure in DISCRETE:
        values = torch.tensor([0.0, 1.0]) if support == "binary" else BYTES
    elif p.support is td.constraints.real:
        scale = scale_of(p)
        t = torch.linspace(-40, 40, 80_001, dtype=torch.float64).reshape(-1, 1, 1, 1)
        return p.mean + t * (1.0 if scale is None else scale)
    else:
        values = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    return values.double().reshape(-1, 1, 1, 1).expand(-1, *SHAPE)


@each_variant
def test_probabilities_sum_and_densities_integrate_to_one(name: str, options: dict[str, Any]) -> None:
    """Of each pixel, under every measure; a squared error to sqrt(2 pi), and a grey cross-entropy to less than one."""
    p = pixels(name, options)
    measures: dict[str, str] = LIKELIHOODS[name].measures  # type: ignore[attr-defined]
    for support, measure in measures.items():
        x = grid(measure, support, p)
        probability = p.log_prob(x).exp()  # (G, *X)
        mass = probability.sum(0) if measure in DISCRETE else torch.trapezoid(probability, x, dim=0)
        if measure == CROSS_ENTROPY:
            assert (mass < 0.9).all(), "a cross-entropy is no density of grey levels"
            continue
        assert measure in DISCRETE | {DENSITY, SQUARED_ERROR}
        expected = math.sqrt(2 * math.pi) if measure == SQUARED_ERROR else 1.0
        assert torch.allclose(mass, torch.full_like(mass, expected), rtol=0, atol=1e-6), (support, mass)


@each_variant
def test_draws_lie_in_the_support_and_average_to_the_mean(name: str, options: dict[str, Any]) -> None:
    """The mean of 20,000 draws is ``mean`` within 4 standard errors, pixel by pixel."""
    p = pixels(name, options, torch.float32)
    torch.manual_seed(1)
    drawn = p.sample((20_000,))  # (N, *X)
    assert drawn.shape == (20_000, *SHAPE)
    assert drawn.dtype == torch.float32
    assert p.support.check(drawn).all()
    spread = drawn.double().std(0) / math.sqrt(len(drawn))
    assert ((drawn.double().mean(0) - p.mean).abs() <= 4 * spread).all()


@each_variant
def test_no_value_is_more_probable_than_the_mode(name: str, options: dict[str, Any]) -> None:
    p = pixels(name, options)
    measures: dict[str, str] = LIKELIHOODS[name].measures  # type: ignore[attr-defined]
    support, measure = next(iter(measures.items()))
    best = p.log_prob(grid(measure, support, p)).amax(0)
    assert (p.log_prob(p.mode) >= best - 1e-9).all()


@each_variant
def test_log_probabilities_never_come_from_half_precision(name: str, options: dict[str, Any]) -> None:
    """Under bfloat16 autocast log p, scale, mean, mode and draws are float32 and finite, in training and after."""
    made = head(name, options, features=64)
    x = torch.randint(0, 2, (8, *SHAPE)).float()
    for training in (True, False):
        made.train(training)
        with torch.autocast("cpu", torch.bfloat16):
            assert made.linear(torch.randn(3, 8, 64)).dtype == torch.bfloat16
            p = made(torch.randn(3, 8, 64))
            values = [p.log_prob(x), p.mean, p.mode, p.sample()]
            scale = scale_of(p)
        for value in (*values, *([] if scale is None else [scale])):
            assert value.dtype == torch.float32
            assert value.isfinite().all()


@pytest.mark.parametrize("scale", ["softplus", "log-variance"])
def test_posterior_and_kl_never_come_from_half_precision(scale: Any) -> None:
    posterior = GaussianPosterior((64,), 7, scale=scale)
    with torch.autocast("cpu", torch.bfloat16):
        q = posterior(torch.randn(8, 64))
        z = q.rsample((3,))
        values = (q.mean, q.stddev, q.log_prob(z), kl(q, StandardNormal(LatentSpace((7,)), (1,), "real")(posterior), z))
    for value in values:
        assert value.dtype == torch.float32
        assert value.isfinite().all()


def test_what_is_wide_enough_stays_to_the_bit() -> None:
    """float32 and float64 pass as they are, so that numbers without autocast do not change."""
    for dtype in (torch.float32, torch.float64):
        t = torch.randn(3, dtype=dtype)
        assert at_least_fp32(t) is t
    for dtype in (torch.float16, torch.bfloat16):
        assert at_least_fp32(torch.randn(3).to(dtype)).dtype == torch.float32


# --- the continuous Bernoulli ---

SIZES = (1e-6, 1e-4, 1e-3, 5e-3, 1e-2, 0.3, 0.5, 1.0, 15.0, 17.0, 50.0, 1e4)
LOGITS = [0.0, *SIZES, *(-size for size in SIZES)]


def exact(logit: float) -> tuple[float, float]:
    """log of the integral of e^(l x) over [0, 1], and the mean, by quadrature or as the limit of large l."""
    a = abs(logit)
    if a > 100:  # e^-a is 0 in float64's precision
        log_z, mean = a - math.log(a), 1 - 1 / a
    else:
        nodes, weight = np.polynomial.legendre.leggauss(120)
        x, weight = (nodes + 1) / 2, weight / 2
        mass = weight * np.exp(a * (x - 1))
        log_z, mean = a + math.log(mass.sum()), float((x * mass).sum() / mass.sum())
    return (log_z, mean) if logit >= 0 else (log_z + logit, 1 - mean)


def errors(kind: Any, logit: float) -> tuple[float, float, float]:
    """Largest error over x in {0, 1/2, 1} of log p relative to its size, of its gradient, and of the mean."""
    l32 = torch.tensor(logit, dtype=torch.float32, requires_grad=True)
    log_z, mean = exact(l32.item())
    value_error = gradient_error = 0.0
    for x in (0.0, 0.5, 1.0):
        value = kind(l32).log_prob(torch.tensor(x))
        (gradient,) = torch.autograd.grad(value, l32)
        wanted = l32.item() * x - log_z
        value_error = max(value_error, abs(value.item() - wanted) / max(1.0, abs(wanted)))
        gradient_error = max(gradient_error, abs(gradient.item() - (x - mean)))
    return value_error, gradient_error, abs(kind(l32).mean.item() - mean)


@pytest.mark.parametrize("logit", LOGITS)
def test_the_continuous_bernoulli_is_exact_in_float32(logit: float) -> None:
    """log p, its gradient ``x - mean`` and the mean agree with quadrature in float64, at every size of the logit."""
    value, gradient, mean = errors(ContinuousBernoulli, logit)
    assert value < 5e-7
    assert gradient < 2e-6
    assert mean < 2e-7


@pytest.mark.parametrize("logit", [-0.499, -0.3, 0.1, 0.499, 0.501])
def test_the_series_of_the_continuous_bernoulli_meet_its_closed_forms(logit: float) -> None:
    """In float64 the series err by less than 1e-10 up to where the closed forms take over."""
    log_z, mean = exact(logit)
    p = ContinuousBernoulli(torch.tensor(logit, dtype=torch.float64))
    assert p.log_prob(torch.tensor(0.0, dtype=torch.float64)).item() == pytest.approx(-log_z, abs=1e-10)
    assert p.mean.item() == pytest.approx(mean, abs=1e-10)


def test_torchs_continuous_bernoulli_is_not() -> None:
    """Why vaectl has its own: torch's is a nat per pixel off at a logit of 50, and its gradient vanishes there.

    Near 1/2 its value errs by little, but of the gradient at x = 1/2, ``1/2 - mean = -l / 12``, nothing is left.
    """

    def theirs(logits: Tensor) -> Distribution:
        return td.ContinuousBernoulli(logits=logits, validate_args=False)

    x = torch.tensor(1.0)
    large = torch.tensor(50.0, requires_grad=True)
    value = theirs(large).log_prob(x)
    assert value.item() - math.log(50) < -1
    (gradient,) = torch.autograd.grad(value, large)
    assert gradient.item() == 0  # the exact one is 1 / 50
    assert theirs(torch.tensor(1e4)).mean.item() < 0.94  # the exact one is 0.9999
    assert errors(theirs, 1e4)[0] > 5e-4
    assert errors(theirs, 5e-3)[1] > 0.9 * 5e-3 / 12
    assert errors(ContinuousBernoulli, 5e-3)[1] < 1e-3 * 5e-3 / 12


@pytest.mark.parametrize("logit", [*LOGITS, 3e38, -3e38])
def test_the_continuous_bernoulli_has_finite_values_and_gradients(logit: float) -> None:
    """Of log p, mean and draws, at any finite logit; draws are in [0, 1]."""
    logits = torch.full((1000,), logit, requires_grad=True)
    p = ContinuousBernoulli(logits)
    torch.manual_seed(0)
    drawn = p.rsample()
    assert ((drawn >= 0) & (drawn <= 1)).all()
    x = torch.linspace(0, 1, 1000)
    for value in (p.log_prob(x), p.mean, drawn):
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        assert value.isfinite().all()
        assert gradient.isfinite().all()
    assert p.mode[0].item() == (0.5 if logit == 0 else float(logit > 0))


@pytest.mark.parametrize("logit", [0.0, 1e-3, -0.04, 0.06, 3.0, -3.0, 30.0])
def test_continuous_bernoulli_draws_follow_the_density(logit: float) -> None:
    """The quantile function inverts the integral of the density, and is the way of every draw."""
    p = ContinuousBernoulli(torch.tensor(logit, dtype=torch.float64))
    u = torch.linspace(0.01, 0.99, 25, dtype=torch.float64)
    nodes, weight = (torch.from_numpy(value) for value in np.polynomial.legendre.leggauss(60))
    x = p.icdf(u)
    mass = (p.log_prob(x[:, None] * (nodes + 1) / 2).exp() * weight / 2).sum(1) * x
    assert torch.allclose(mass, u, atol=1e-7)
    step = 1e-4
    slope = (ContinuousBernoulli(p.logits + step).icdf(u) - ContinuousBernoulli(p.logits - step).icdf(u)) / (2 * step)
    logits = p.logits.expand(25).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(ContinuousBernoulli(logits).icdf(u).sum(), logits)
    assert torch.allclose(gradient, slope, atol=1e-6)


# --- location and scale ---


def test_the_gaussian_keeps_its_normaliser() -> None:
    """At its mean ``log p = -D (log sigma + 1/2 log 2 pi)``; an objective without it rewards any scale it likes."""
    for sigma in (0.1, 1.0, 3.0):
        p = head("gaussian", {"scale": "fixed", "sigma": sigma})(torch.randn(5))
        expected = -4 * (math.log(sigma) + 0.5 * math.log(2 * math.pi))
        assert p.log_prob(p.mean).item() == pytest.approx(expected, rel=1e-6)


def test_the_squared_error_is_the_unit_gaussian_without_its_constant() -> None:
    """Equal weights give the same images, and log-probabilities that differ by D / 2 log 2 pi, here and everywhere."""
    features, x = torch.randn(6, 5), torch.rand(6, *SHAPE)
    mse, gaussian = (head(name, options) for name, options in (("mse", {}), ("gaussian", {"scale": "fixed"})))
    difference = mse(features).log_prob(x) - gaussian(features).log_prob(x)
    assert torch.allclose(difference, torch.full((6,), 2 * math.log(2 * math.pi)), atol=1e-5)


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
def test_the_shared_scale_starts_at_a_half_and_stops_at_the_floor(name: str) -> None:
    made: Any = LIKELIHOODS[name]((5,), SHAPE, floor=0.02)
    scale = scale_of(made(torch.randn(5)))
    assert scale is not None
    assert torch.allclose(scale, torch.full(SHAPE, 0.52))
    with torch.no_grad():
        made.scale.s.fill_(-1e4)
    p = made(torch.randn(5))
    floored = scale_of(p)
    assert floored is not None
    assert torch.allclose(floored, torch.full(SHAPE, made.floor))
    assert p.log_prob(torch.rand(SHAPE)).isfinite()


@each_variant
def test_an_evaluator_can_read_scale_and_floor(name: str, options: dict[str, Any]) -> None:
    """Families with a scale show it, one for each pixel; ``floor`` is the least it can be, None where it is given."""
    made = head(name, options)
    for training in (True, False):
        scale = scale_of(made.train(training)(torch.randn(3, 7, 5)))
        if name in ("gaussian", "laplace", "discretized-logistic"):
            assert scale is not None
            assert scale.shape == (3, 7, *SHAPE)
            assert (scale >= (made.floor or 0)).all()
        else:
            assert scale is None
    learned = scale is not None and options.get("scale") != "fixed"
    assert made.floor == (FLOOR if learned else None)


OPTIMAL = [("gaussian", td.Normal, 2), ("laplace", td.Laplace, 1)]


@pytest.mark.parametrize(("name", "family", "power"), OPTIMAL)
def test_the_optimal_scale_of_training_is_the_batchs_own_error(name: str, family: Any, power: int) -> None:
    """RMS error (mean absolute error) over draws, batch and pixels, and no other scale makes the batch more likely."""
    made = head(name, {"scale": "optimal"})
    x = torch.rand(9, *SHAPE)
    p = made(torch.randn(4, 9, 5))
    error = (x - p.mean).abs().pow(power).mean().pow(1 / power).detach()
    log_p = p.log_prob(x)
    assert torch.allclose(log_p, family(p.mean, error).log_prob(x).sum((-1, -2, -3)), atol=1e-4)
    for factor in (0.97, 1.03):
        assert log_p.sum() > family(p.mean, error * factor).log_prob(x).sum()
    assert made.scale.moment == 1, "asking for a log-probability changes nothing"
    made.observe(p, Batch(x))
    scale = scale_of(made.eval()(torch.randn(5)))
    assert scale is not None
    assert torch.allclose(scale, error.expand(SHAPE))


@pytest.mark.parametrize(("name", "family", "power"), OPTIMAL)
def test_the_optimal_scale_has_the_gradient_of_differentiating_it(name: str, family: Any, power: int) -> None:
    """Envelope theorem: at the scale that is best, its own dependence on the weights adds nothing."""
    made = head(name, {"scale": "optimal"})
    features, x = torch.randn(4, 9, 5), torch.rand(9, *SHAPE)
    detached = torch.autograd.grad(made(features).log_prob(x).mean(), made.linear.weight)[0]
    loc = made(features).mean
    through = family(loc, (x - loc).abs().pow(power).mean().pow(1 / power)).log_prob(x).sum((-1, -2, -3)).mean()
    assert torch.allclose(detached, torch.autograd.grad(through, made.linear.weight)[0], rtol=1e-4, atol=1e-5)


def test_the_optimal_scale_follows_training_without_a_bias_to_its_start() -> None:
    """After t batches it is the exponentially weighted mean of their squared errors, with weights that sum to one."""
    made = head("gaussian", {"scale": "optimal"})
    before = scale_of(made.eval()(torch.randn(5)))
    assert before is not None
    assert (before == 1).all()
    moments = []
    for size in (0.3, 2.0, 0.1):
        made.train()
        p = made(torch.zeros(6, 5))
        x = p.mean.detach() + size * torch.randn(6, *SHAPE)
        made.observe(p, Batch(x))
        moments.append((x - p.mean).square().mean().item())
        assert not made.scale.moment.requires_grad, "the next step would go back through this one"
    decayed = [0.99**2, 0.99, 1.0]
    expected = sum(w * m for w, m in zip(decayed, moments, strict=True)) / sum(decayed)
    scale = scale_of(made.eval()(torch.randn(5)))
    assert scale is not None
    assert scale.square().mean().item() == pytest.approx(expected, rel=1e-5)


def test_evaluation_with_an_optimal_scale_never_looks_at_the_data(tmp_path: Path) -> None:
    """It is the same whole or in parts, moves nothing, survives a save, and other data do not change the scale."""
    spec = dataclasses.replace(RECIPES["vae"](), latent_dim=3, likelihood=Part("gaussian", {"scale": "optimal"}))
    data = toy_data()
    model, _ = build(spec, data.info)
    x = data.train.batch(slice(0, 64)).x
    model.observe(model.draw(x))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    result = evaluate(model, data.test, seed=1)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    model.eval()
    z = torch.randn(1, 64, 3)
    whole = model.decode(z).log_prob(x)
    parts = [model.decode(z[:, part]).log_prob(x[part]) for part in (slice(0, 5), slice(5, 64))]
    assert torch.allclose(whole, torch.cat(parts, dim=1), rtol=1e-5)
    assert scale_of(model.decode(z)) is not None
    weights.save(tmp_path / "model.safetensors", model.state_dict(), spec.to_json())
    again, _ = build(spec, data.info)
    again.load_state_dict(weights.read(tmp_path / "model.safetensors", spec.to_json(), again.state_dict()))
    for name, values in evaluate(again, data.test, seed=1).per_example.items():
        assert torch.equal(values, result.per_example[name])


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
@pytest.mark.parametrize("scale", SCALES)
def test_no_option_of_a_scale_is_ignored(name: str, scale: Any) -> None:
    """sigma is for a fixed scale, floor for the others: elsewhere they are errors under the setting's path."""
    option = {"floor": 0.5} if scale == "fixed" else {"sigma": 0.5}
    with pytest.raises(SettingError, match=f"'{scale}'") as caught:
        LIKELIHOODS[name]((5,), SHAPE, scale=scale, **option)
    assert caught.value.path == f"likelihood.{next(iter(option))}"
    spec = dataclasses.replace(RECIPES["vae"](), likelihood=Part(name, {"scale": "widest"}))
    with pytest.raises(SettingError, match=r"likelihood\.scale must be one of fixed, shared, per-pixel, optimal"):
        complete(spec)


@each_variant
def test_every_weight_of_every_variant_learns(name: str, options: dict[str, Any]) -> None:
    made = head(name, options)
    made(torch.randn(4, 9, 5)).log_prob(torch.randint(0, 256, (9, *SHAPE)) / 255).mean().backward()
    for path, parameter in made.named_parameters():
        assert parameter.grad.abs().sum() > 0, path


# --- levels ---


def test_the_discretized_logistic_is_the_difference_of_two_sigmoids() -> None:
    """The stable form equals the plain one where that is exact in float64."""
    loc, scale = torch.tensor([0.1, 0.5, 0.97]).double(), torch.tensor([0.05, 0.01, 0.3]).double()
    x = BYTES[:, None]
    above = torch.where(x == 1, 1.0, torch.sigmoid((x + 0.5 / 255 - loc) / scale))
    below = torch.where(x == 0, 0.0, torch.sigmoid((x - 0.5 / 255 - loc) / scale))
    assert torch.allclose(DiscretizedLogistic(loc, scale).log_prob(x).exp(), above - below, atol=1e-14, rtol=0)


@pytest.mark.parametrize("loc", [-50.0, 0.0, 0.4999, 1.0, 50.0])
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e6])
def test_the_discretized_logistic_is_finite_everywhere(loc: float, scale: float) -> None:
    """Where the plain difference is log 0 in float32 the stable form is finite, with its gradients, and sums to one."""
    mu, b = (torch.full((256,), value, requires_grad=True) for value in (loc, scale))
    p = DiscretizedLogistic(mu, b)
    log_p = p.log_prob(BYTES.float())
    assert log_p.isfinite().all()
    assert log_p.double().exp().sum().item() == pytest.approx(1, abs=1e-4)
    for value in (log_p, p.mean):
        for gradient in torch.autograd.grad(value.sum(), (mu, b)):
            assert gradient.isfinite().all()
    assert p.log_prob(p.mode)[0] >= log_p.max()
    assert p.mean[0].item() == pytest.approx((log_p.double().exp() * BYTES).sum().item(), abs=1e-4)


def test_an_open_end_may_be_the_mode_far_from_the_location() -> None:
    """A wide logistic at 0.4 has most of its mass below 0, so its mode is 0 and not 0.4."""
    p = DiscretizedLogistic(torch.tensor(0.4), torch.tensor(1.0))
    assert p.mode == 0
    assert DiscretizedLogistic(torch.tensor(0.4), torch.tensor(0.01)).mode == 102 / 255


@pytest.mark.parametrize("name", ["categorical", "discretized-logistic"])
def test_levels_are_found_again_after_float32(name: str) -> None:
    """Bytes over 255 as data sets give them, and 1e-6 beside, have the log-probability of their own byte."""
    p = base_of(head(name, {}).eval()(torch.randn(5)))
    x = torch.arange(256, dtype=torch.uint8).float().div(255).reshape(-1, 1, 1, 1)
    assert torch.equal(p.log_prob(x), p.log_prob(x + 1e-6))
    assert p.log_prob(x).unique(dim=0).shape[0] == 256


def test_a_categorical_is_the_same_in_any_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logits are made for some pixels at a time; how many changes no number."""
    torch.manual_seed(0)
    p = LowRankCategorical(torch.randn(3, 4, *SHAPE, 5), torch.randn(256, 5), torch.randn(256))
    x = torch.randint(0, 256, (4, *SHAPE)) / 255

    def everything() -> list[Tensor]:
        torch.manual_seed(1)
        return [p.log_prob(x), p.mean, p.mode, p.sample((2,))]

    whole = everything()
    monkeypatch.setattr(distributions, "PIXELS_AT_ONCE", 7)
    parts = everything()
    logits = p.factors @ p.weight.T + p.bias
    assert torch.allclose(whole[0], td.Categorical(logits=logits).log_prob((x * 255).round()), atol=1e-5)
    for one, other in zip(whole[:3], parts[:3], strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert whole[3].shape == parts[3].shape == (2, 3, 4, *SHAPE)


def test_a_categorical_of_mnist_has_a_bearable_number_of_weights() -> None:
    """6.4 million at rank 16, where a layer to every logit would have 103 million."""
    made = LIKELIHOODS["categorical"]((512,), (1, 28, 28))
    assert sum(parameter.numel() for parameter in made.parameters()) == 513 * 784 * 16 + 17 * 256


def test_the_mode_of_an_even_bernoulli_is_a_pixel() -> None:
    """torch answers nan for logits of 0; a picture needs a value, and weights that are nan must still show."""
    p = td.Independent(td.Bernoulli(logits=torch.tensor([0.0, 2.0, -2.0])), 1)
    assert mode_of(p).tolist() == [1, 1, 0]
    broken = td.Independent(td.Normal(torch.tensor([math.nan, 1.0]), 1.0, validate_args=False), 1, validate_args=False)
    assert mode_of(broken).isnan().tolist() == [True, False]


# --- the command line ---


def test_a_gaussian_is_trained_and_sampled_from_the_command_line(cli: Cli) -> None:
    """Draws of a Gaussian leave [0, 1]: arrays keep them, pictures clamp them; its mode is its mean."""
    common = ("--dataset", "digits", "--epochs", 1, "--hidden-dims", 16, "-q", "--likelihood", "gaussian")
    trained = cli("train", *common, "--set", "likelihood.scale=optimal")
    assert trained.exit_code == 0, trained.output
    made = {}
    for mode in ("mean", "mode", "draw"):
        for suffix in ("npy", "png"):
            result = cli("sample", "latest", "-n", 20, "--mode", mode, "-o", f"{mode}.{suffix}")
            assert result.exit_code == 0, result.output
        made[mode] = np.load(f"{mode}.npy")
    assert np.array_equal(made["mean"], made["mode"])
    assert made["draw"].min() < 0
    assert np.isfinite(made["draw"]).all()


def test_the_mode_of_a_bernoulli_is_binary(cli: Cli, runs: Path) -> None:
    result = cli("sample", "run1", "-n", 20, "--mode", "mode", "-o", "mode.npy")
    assert result.exit_code == 0, result.output
    assert set(np.unique(np.load("mode.npy"))) == {0.0, 1.0}


def test_an_option_that_a_scale_ignores_is_refused_on_the_command_line(cli: Cli) -> None:
    flags = ("--likelihood", "laplace", "--set", "likelihood.sigma=0.5")
    result = cli("train", "--dataset", "digits", "--epochs", 1, *flags)
    assert result.exit_code == 2
    assert "likelihood.sigma is for scale 'fixed'" in " ".join(result.output.split())
