"""Real data on a scale of their own: densities in the data's units, by the change of variables."""

import math

import pytest
import torch
from torch.distributions import Laplace, Normal

from vaectl.config.recipes import RECIPES
from vaectl.data.batch import Batch
from vaectl.data.info import DataInfo
from vaectl.data.units import Column, Units
from vaectl.model.builder import build, measure
from vaectl.model.distributions.pixels import log_prob_of_observed, mode_of, scale_of
from vaectl.model.distributions.scaled import Scaled

LOC, SCALE = (3.0, -2e4, 0.05, 1e12), (1.0, 5e3, 1e-4, 1e11)
UNITS = Units("standard", LOC, SCALE)
SIZES = {"train": 100, "validation": 10, "test": 10}


def info(units: Units | None = UNITS, *, missing: bool = False) -> DataInfo:
    return DataInfo("t", (1, 1, 4), "real", "", SIZES, "numbers as they are", units=units, missing=missing)


def spec(likelihood: str = "gaussian", **options: object):
    settings = {f"likelihood__{name}": value for name, value in options.items()}
    return RECIPES["vae"]().changed(latent_dim=2, hidden_dims=(8,), likelihood=likelihood, **settings)


def rows(n: int = 5) -> torch.Tensor:
    torch.manual_seed(1)
    return (torch.tensor(LOC) + torch.tensor(SCALE) * torch.randn(n, 4)).view(n, 1, 1, 4)


@pytest.mark.parametrize("scale", ["shared", "per-pixel", "fixed", "optimal"])
@pytest.mark.parametrize(("name", "family"), [("gaussian", Normal), ("laplace", Laplace)])
def test_a_scaled_likelihood_is_the_family_with_its_location_and_scale_in_the_datas_units(name, family, scale):
    model, _ = build(spec(name, scale=scale), info())
    model.eval()
    x = rows()
    with torch.no_grad():
        px = model.draw(x).px
        base = px.base.base_dist
        loc, unit = torch.tensor(LOC).double(), torch.tensor(SCALE).double()
        exact = family(loc + unit * base.loc.double(), unit * base.scale.expand(base.loc.shape).double())
        assert torch.allclose(
            px.log_prob(x).double(), exact.log_prob(x.double()).sum((-1, -2, -3)), rtol=1e-5, atol=1e-3
        )
        assert torch.allclose(px.mean.double(), exact.mean, rtol=1e-5)
        assert torch.allclose(mode_of(px).double(), exact.mean, rtol=1e-5)
        assert torch.allclose(px.variance.double(), exact.variance, rtol=1e-5)
        assert torch.equal(scale_of(px), base.scale)  # what floors are compared with


def test_draws_are_in_the_datas_units():
    model, _ = build(spec(scale="fixed", sigma=1.0), info())
    with torch.no_grad():
        draws = model.decode(torch.zeros(1, 2)).sample((20_000,)).view(-1, 4).double()
        mean = model.decode(torch.zeros(1, 2)).mean.view(4).double()
    unit = torch.tensor(SCALE).double()
    assert torch.allclose((draws.mean(0) - mean) / unit, torch.zeros(4).double(), atol=0.03)
    assert torch.allclose(draws.std(0) / unit, torch.ones(4).double(), atol=0.03)


def test_the_scale_changes_the_bound_by_a_constant_and_the_gradient_not_at_all():
    """On data that were scaled by hand the same weights have the same gradient, and the bound less the log scales."""
    x, (plain, _), (scaled, _) = rows(), build(spec(), info(None)), build(spec(), info())
    loc, unit = torch.tensor(LOC), torch.tensor(SCALE)
    bounds = []
    for model, batch in ((plain, (x - loc) / unit), (scaled, x)):
        torch.manual_seed(0)
        draw = model.draw(batch)
        draw.elbo.mean().backward()
        bounds.append(draw.elbo)
    constant = sum(math.log(s) for s in SCALE)
    assert torch.allclose(bounds[0] - bounds[1], torch.tensor(constant).float(), rtol=1e-5)
    for one, other in zip(plain.parameters(), scaled.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-3, atol=1e-5)


def test_observed_values_alone_are_counted_on_their_scale():
    model, _ = build(spec(), info(missing=True))
    observed = torch.tensor([[True, False, True, False]]).view(1, 1, 1, 4)
    x = torch.where(observed, rows(1), 0.0)
    with torch.no_grad():
        px = model.decode(torch.zeros(1, 2))
        assert isinstance(px, Scaled)
        each = px.base.base_dist.log_prob((x - torch.tensor(LOC)) / torch.tensor(SCALE)) - torch.tensor(SCALE).log()
        expected = each.view(4)[[0, 2]].sum()
        assert float(log_prob_of_observed(px, x, observed)) == pytest.approx(float(expected), rel=1e-5)
        # the encoder sees 0 for a missing value, not 0 on the data's scale
        seen = model.scale.seen(Batch(x, observed=observed)).x.view(4)
    assert seen[1] == seen[3] == 0


def test_a_squared_error_is_counted_on_the_models_scale_and_says_so():
    model, _ = build(spec("mse"), info())
    x = rows()
    with torch.no_grad():
        px = model.decode(torch.zeros(5, 2))
        seen = (x - torch.tensor(LOC)) / torch.tensor(SCALE)
        assert torch.allclose(px.log_prob(x), -0.5 * (seen - px.base.base_dist.loc).square().sum((-1, -2, -3)))
    assert measure(spec("mse"), info()) == "squared error on the scale of the model (standard)"
    assert measure(spec("mse"), info(None)) == "squared error"
    assert measure(spec(), info()) == measure(spec(), info(None)) == "density"


def test_an_optimal_scale_learns_from_residuals_on_the_models_scale():
    model, _ = build(spec(scale="optimal"), info())
    model.train()
    x = rows(64)
    draw = model.draw(x)
    model.observe(draw)
    residuals = (x - torch.tensor(LOC)) / torch.tensor(SCALE) - draw.px.base.base_dist.loc
    assert float(model.decoder.head.scale.moment) == pytest.approx(float(residuals.detach().square().mean()), rel=1e-4)


def test_weights_hold_no_scale_which_the_record_has():
    plain, scaled = (build(spec(), info(units))[0] for units in (None, UNITS))
    assert plain.state_dict().keys() == scaled.state_dict().keys()
    document = info().to_json()
    assert DataInfo.from_json(document) == info()
    named = DataInfo.from_json(document | {"columns": [["a", "real"], ["b", "whole"], ["c", "bool"], ["d", "real"]]})
    assert named.columns[1] == Column("b", "whole")
