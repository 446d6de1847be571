"""Priors over grids of codes: uniform to the bit before they are fitted, and a proper distribution afterwards."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.toys import toy_data
from vaectl.config.recipes import RECIPES
from vaectl.config.spec import Part
from vaectl.data.base import Data
from vaectl.errors import SettingError
from vaectl.evaluation.importance import importance_bound
from vaectl.evaluation.metrics import evaluate
from vaectl.model.builder import build
from vaectl.model.distributions.codes import Codebook, LatentSpace, Quantized, draw_at
from vaectl.model.priors import TransformerPrior, UniformCodes, transformer
from vaectl.model.priors.transformer import Transformer
from vaectl.model.vae import VAE, kl
from vaectl.runs import weights

CODES, POSITIONS = 3, 4


def fitted(codes: int = CODES, positions: int = POSITIONS, width: int = 12, depth: int = 2) -> Transformer:
    """A transformer with random weights, none of them 0."""
    torch.manual_seed(0)
    model = Transformer(codes, positions, width, depth, heads=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


def every_sequence() -> Tensor:
    return torch.tensor(list(itertools.product(range(CODES), repeat=POSITIONS)))  # (81, 4)


def vq_model(prior: str, data: Data, **options: Any) -> VAE:
    small = Part("conv", {"width": 4, "depth": 2})
    spec = dataclasses.replace(
        RECIPES["vq-vae"](), encoder=small, decoder=small, prior=Part(prior, options), latent_dim=3,
        posterior=Part("quantized", {"codes": 8}),
        training=dataclasses.replace(RECIPES["vae"]().training, prior_epochs=0),
    )  # fmt: skip
    model, _ = build(spec, data.info)
    head: Any = model.encoder.head
    head.observe(model.encode(data.train.batch(slice(None)).x))
    return model


def test_the_probabilities_of_all_sequences_sum_to_one() -> None:
    log_p = fitted().log_prob(every_sequence())
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert log_p.std() > 0.5, "and they differ"


def test_before_it_is_fitted_all_sequences_are_alike() -> None:
    torch.manual_seed(0)
    log_p = Transformer(CODES, POSITIONS, 12, 2, 3).log_prob(every_sequence())
    assert torch.allclose(log_p, torch.tensor(-POSITIONS * math.log(CODES)))


def test_no_position_looks_at_one_after_it() -> None:
    """The probability of the first i codes does not change with those after them."""
    model = fitted()
    log_p = model.log_prob(every_sequence()).exp().double().view([CODES] * POSITIONS)
    for i in range(1, POSITIONS):
        beginnings = log_p.sum(tuple(range(i, POSITIONS)))  # marginal of the first i
        assert beginnings.sum().item() == pytest.approx(1, abs=1e-5)
    # the gradient of the i-th conditional reaches only embeddings of codes before it
    sequence = torch.tensor([[0, 1, 2, 1]])
    changed = torch.tensor([[0, 1, 2, 2]])
    difference = (model.log_prob(sequence) - model.log_prob(changed)).item()
    conditional = (log_p[0, 1, 2] / log_p[0, 1, 2].sum()).log()
    assert difference == pytest.approx((conditional[1] - conditional[2]).item(), abs=1e-4)


def test_samples_come_with_their_probabilities() -> None:
    """Drawn position by position from caches, sequences are as frequent as their probability says."""
    model = fitted()
    torch.manual_seed(1)
    n = 40_000
    drawn = model.sample(n)
    index = (drawn * CODES ** torch.arange(POSITIONS - 1, -1, -1)).sum(1)
    frequency = torch.bincount(index, minlength=CODES**POSITIONS).double() / n
    p = model.log_prob(every_sequence()).exp().double().detach()
    # counts of few are not normally distributed, so the rare sequences are counted together
    rare = n * p < 20
    frequency, p = (torch.cat((each[~rare], each[rare].sum()[None])) for each in (frequency, p))
    assert len(p) > 20
    errors = (frequency - p) / (p * (1 - p) / n).sqrt()
    assert errors.abs().max() < 5
    # a mean of as many squares has this standard deviation
    assert errors.square().mean() < 1 + 5 * math.sqrt(2 / len(p))


def test_at_temperature_0_every_code_is_the_likeliest() -> None:
    model = fitted()
    p = model.log_prob(every_sequence()).exp().double().view([CODES] * POSITIONS)
    greedy: list[int] = []
    for _ in range(POSITIONS):
        rest = p[tuple(greedy)]
        greedy.append(int(rest.reshape(CODES, -1).sum(1).argmax()))
    assert model.sample(5, temperature=0).tolist() == [greedy] * 5


def test_a_lower_temperature_draws_likelier_sequences() -> None:
    model = fitted()
    torch.manual_seed(0)
    means = [model.log_prob(model.sample(500, temperature)).mean().item() for temperature in (0.5, 1.0, 2.0)]
    assert means[0] > means[1] > means[2]
    logits = torch.tensor([[0.0, 1.0]]).expand(20_000, -1)
    share = draw_at(logits, 0.5).double().mean().item()
    assert share == pytest.approx(1 / (1 + math.exp(-2)), abs=4 * math.sqrt(0.12 * 0.88 / 20_000))


@pytest.mark.parametrize("at_once", [1, 50, 2**24])
def test_probabilities_do_not_depend_on_how_many_are_computed_at_once(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformer, "LOGITS_AT_ONCE", at_once)
    model, sequences = fitted(), every_sequence()
    whole = model.log_prob(sequences)
    with torch.no_grad():
        assert torch.allclose(model.log_prob(sequences), whole, atol=1e-5)


@pytest.mark.parametrize("at_once", [1, 9000, 2**26])
def test_the_gradient_does_not_depend_on_how_much_of_it_is_kept(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long sequences are computed again for their gradient, in parts, with the same result."""
    model, sequences = fitted(), every_sequence()
    (-model._log_prob(sequences).mean()).backward()
    whole = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    monkeypatch.setattr(transformer, "NUMBERS_AT_ONCE", at_once)
    (-model.log_prob(sequences).mean()).backward()
    for parameter, expected in zip(model.parameters(), whole, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, expected, atol=1e-6)


def test_samples_are_drawn_a_bounded_number_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformer, "CACHED_AT_ONCE", 2 * POSITIONS * 12 * 2 * 3)
    model = fitted()
    seen: list[int] = []
    model.norm.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    assert model.sample(8).shape == (8, POSITIONS)
    assert seen == [3] * POSITIONS + [3] * POSITIONS + [2] * POSITIONS


def test_no_temperature_is_too_low() -> None:
    logits = torch.tensor([[3.0, 5.0, -2.0]]).expand(100, -1)
    for temperature in (1e-40, 1e-8, 0.0):
        assert (draw_at(logits, temperature) == 1).all()


def test_the_bound_under_the_uniform_prior_is_reconstruction_and_the_names_of_the_codes() -> None:
    """``-(recon + h w log K)``, for the prior that is uniform and for the one that is not fitted yet."""
    data = toy_data()
    for name in ("uniform", "transformer"):
        model = vq_model(name, data)
        draw = model.draw(data.test.batch(slice(0, 9)).x, k=2)
        nats = 2 * 2 * math.log(8)
        assert torch.allclose(draw.kl, torch.tensor(nats))
        assert torch.allclose(draw.log_p, torch.tensor(-nats))
        assert torch.allclose(draw.elbo, -(draw.recon + nats))
        assert model.space.uniform_nats == pytest.approx(nats)
        metrics = evaluate(model, data.test).metrics()
        assert metrics["rate_bits"] == pytest.approx(4 * 3), "three bits a code"


def test_every_importance_weighted_bound_is_the_elbo() -> None:
    """The posterior is certain, so that K draws are one draw."""
    data = toy_data()
    model = vq_model("transformer", data, width=8, depth=1, heads=2)
    prior: Any = model.prior
    prior.begin_fit()
    torch.nn.init.normal_(prior.transformer.logits.weight)
    elbo = evaluate(model, data.test).per_example["elbo"]
    for samples in (1, 7):
        found = importance_bound(model, data.test, samples)
        assert torch.allclose(found.bound, elbo, atol=1e-4)
        assert torch.allclose(found.ess, torch.tensor(float(samples), dtype=torch.float64))


def test_once_fitted_the_kl_is_what_the_transformer_says() -> None:
    """KL = -log p of the codes, the same by way of their vectors, and the samples are its sequences."""
    data = toy_data()
    model = vq_model("transformer", data, width=8, depth=1, heads=2)
    prior: Any = model.prior
    prior.begin_fit()
    torch.nn.init.normal_(prior.transformer.logits.weight)
    draw = model.draw(data.test.batch(slice(0, 9)).x)
    assert isinstance(draw.q, Quantized)
    expected = -prior.transformer.log_prob(draw.q.indices.flatten(1))
    assert torch.allclose(draw.kl, expected)
    assert torch.allclose(draw.kl, kl(draw.q, draw.p, draw.z))
    assert torch.allclose(-draw.log_p[0], expected)
    torch.manual_seed(0)
    z = draw.p.sample((6,))
    torch.manual_seed(0)
    assert torch.equal(draw.p.codebook.nearest(z).flatten(1), prior.transformer.sample(6))  # type: ignore[attr-defined]


def test_saved_and_loaded_it_is_still_fitted(tmp_path: Path) -> None:
    """That the prior is no longer uniform is part of the weights; before the fit it is part of them that it is."""
    data = toy_data()
    for begun in (False, True):
        model = vq_model("transformer", data, width=8, depth=1, heads=2)
        prior: Any = model.prior
        if begun:
            prior.begin_fit()
            torch.nn.init.normal_(prior.transformer.logits.weight)
        weights.save(tmp_path / "w.safetensors", model.state_dict(), RECIPES["vae"]().to_json())
        again = vq_model("transformer", data, width=8, depth=1, heads=2)
        again.load_state_dict(weights.read(tmp_path / "w.safetensors", RECIPES["vae"]().to_json(), again.state_dict()))
        x = data.test.batch(slice(0, 5)).x
        assert torch.equal(again.draw(x).kl, model.draw(x).kl)
        assert (model.draw(x).kl.std() > 0) == begun


def test_a_uniform_draw_uses_every_code() -> None:
    space = LatentSpace((2, 3, 3), 5)

    class Indices(Codebook, nn.Module):
        """A codebook whose codes are their indices."""

        def vectors(self, indices: torch.Tensor) -> torch.Tensor:
            return indices.unsqueeze(-3).expand(*indices.shape[:-2], 2, 3, 3).float()

        def nearest(self, z: torch.Tensor) -> torch.Tensor:
            return z[..., 0, :, :].long()

    encoder: Any = nn.Module()
    encoder.head = Indices()
    p = UniformCodes(space, (1, 8, 8), "bytes")(encoder)
    torch.manual_seed(0)
    z = p.sample((4000,))
    counts = torch.bincount(z[:, 0].flatten().long(), minlength=5).double()
    assert z.shape == (4000, 2, 3, 3)
    assert ((counts - 7200).abs() < 4.5 * math.sqrt(36_000 * 0.2 * 0.8)).all()


def test_heads_divide_the_width() -> None:
    with pytest.raises(SettingError, match=r"prior\.heads.*128.*3"):
        TransformerPrior(LatentSpace((2, 3, 3), 5), (1, 8, 8), "bytes", heads=3)
