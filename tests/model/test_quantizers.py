"""Quantised posteriors: the nearest code, the gradient that goes straight through, and codebooks that stay alive."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.marks import some
from tests.support.toys import toy_data
from vaectl.config.recipes import RECIPES
from vaectl.config.spec import Part, Spec
from vaectl.data.base import Loading
from vaectl.data.batch import Batch
from vaectl.data.loading import load
from vaectl.errors import SettingError
from vaectl.evaluation.metrics import evaluate
from vaectl.model.builder import build, complete
from vaectl.model.distributions.codes import CodeUsage, LatentSpace, Quantized
from vaectl.model.objectives import VQ, TrainingSet
from vaectl.model.posteriors import FiniteScalarQuantizer, VectorQuantizer, quantized
from vaectl.model.vae import Draw
from vaectl.training.state import TrainState
from vaectl.training.trainer import fit

SPACE = LatentSpace((2,))

MAP = (5, 3, 4)  # features: channels, height, width


def vector_quantizer(**options: Any) -> VectorQuantizer:
    torch.manual_seed(0)
    head = VectorQuantizer(MAP, 2, **{"codes": 7, **options})
    with torch.no_grad():
        head.codebook.copy_(torch.randn(7, 2))
    return head


def features(n: int = 6, seed: int = 1) -> Tensor:
    return torch.randn(n, *MAP, generator=torch.Generator().manual_seed(seed))


def rows_of(z: Tensor) -> Tensor:
    """Vectors (M, D) of a grid (N, D, h, w)."""
    return z.movedim(1, -1).reshape(-1, z.shape[1])


# --- vector quantisation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 20, 2**24])
def test_the_nearest_code_is_that_of_brute_force(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every position has the code of least Euclidean distance, however many distances are held at once."""
    monkeypatch.setattr(quantized, "DISTANCES_AT_ONCE", at_once)
    head = vector_quantizer()
    q = head(features())
    distances = torch.cdist(rows_of(q.encoded).double(), head.codebook.double())
    assert torch.equal(q.indices.flatten(), distances.argmin(1))
    assert torch.equal(rows_of(q.vectors), head.codebook[q.indices.flatten()])
    assert len(q.indices.unique()) > 2


def test_the_gradient_goes_straight_through() -> None:
    """What reaches the codes reaches the encoder's output unchanged, and no code; the draw is the code to the bit."""
    head = vector_quantizer(codebook="loss")
    q = head(features())
    weight = torch.randn_like(q.encoded)
    q.encoded.retain_grad()
    z = q.rsample((3,))
    assert torch.equal(z, q.vectors.detach().expand(3, -1, -1, -1, -1))
    (z * weight).sum().backward()
    assert q.encoded.grad is not None
    assert torch.allclose(q.encoded.grad, 3 * weight)
    assert head.codebook.grad is None


def test_the_posterior_is_certain() -> None:
    """log q is 0 of its own codes and minus infinity of any other; mean, mode and draws are the codes."""
    q = vector_quantizer()(features())
    z = q.rsample((2,))
    assert torch.equal(q.log_prob(z), torch.zeros(2, 6))
    z = z.detach().clone()
    z[1, 3, 0, 0, 0] += 1e-3
    assert q.log_prob(z)[1, 3] == -math.inf
    assert torch.equal(q.mean, q.sample())
    assert torch.equal(q.mode, q.mean)
    assert not q.stddev.any()


def test_the_loss_does_not_depend_on_the_batch_size() -> None:
    """The loss of a batch is the mean of the losses of its parts, whatever their number."""
    spec = complete(
        dataclasses.replace(RECIPES["vq-vae"](), encoder=Part("conv", {"width": 4}), decoder=Part("conv", {"width": 4}))
    )
    data = toy_data()
    model, objective = build(spec, data.info)
    x = data.train.batch(slice(0, 60)).x
    whole = objective(model.draw(x), 0.0)
    for parts in (2, 3, 60):
        losses = torch.stack([objective(model.draw(part), 0.0).total for part in x.chunk(parts)])
        assert losses.mean().item() == pytest.approx(whole.total.item(), rel=1e-5)
    assert whole.terms["recon"].shape == (60,)


@pytest.mark.parametrize("learns", ["ema", "loss"])
def test_the_terms_of_the_loss_are_those_of_the_paper(learns: str) -> None:
    """Commitment moves the encoder to its code, ``2 c (z_e - e)``, and the codebook term a code to what fell to it."""
    head = vector_quantizer(codebook=learns)
    q = head(features())
    q.encoded.retain_grad()
    x = torch.zeros(6, 1)
    still = Quantized(torch.zeros(6, 1), torch.zeros(6, 1), torch.zeros(6, 1), by_gradient=False)
    objective = VQ(TrainingSet(6, 6), SPACE, commitment=0.4)
    draw = Draw(Batch(x), q=q, z=still.encoded[None], p=still, px=torch.distributions.Normal(torch.zeros(1, 6), 1.0))
    object.__setattr__(draw, "recon", torch.zeros(6))
    loss = objective(draw, 0.0)
    squares = (q.encoded - q.vectors).detach().square().flatten(1).sum(1)
    assert torch.allclose(loss.terms["commitment"], squares)
    loss.total.backward()
    assert q.encoded.grad is not None
    assert torch.allclose(q.encoded.grad, 2 * 0.4 * (q.encoded - q.vectors).detach() / 6, atol=1e-6)
    if learns == "ema":
        assert "codebook" not in loss.terms
        return
    wanted = torch.zeros(7, 2)
    for row, index in zip(rows_of(q.encoded.detach()), q.indices.flatten().tolist(), strict=True):
        wanted[index] += 2 * (head.codebook.detach()[index] - row) / 6
    assert head.codebook.grad is not None
    assert torch.allclose(head.codebook.grad, wanted, atol=1e-5)


def test_moving_averages_are_those_of_the_paper() -> None:
    """``N <- g N + (1 - g) n``, ``m <- g m + (1 - g) s``, ``e = m / N``, from counts and sums that belong together."""
    head = vector_quantizer(revive=0.0, decay=0.9)
    head.usage.fill_(0.5)
    positions, codes = 6 * 12, 7
    counts = head.usage.double() * positions / codes
    sums = counts[:, None] * head.codebook.double()
    for step in range(20):
        q = head(features(seed=step))
        n = torch.bincount(q.indices.flatten(), minlength=codes).double()
        s = torch.zeros(codes, 2, dtype=torch.float64).index_add(0, q.indices.flatten(), rows_of(q.encoded).double())
        counts, sums = 0.9 * counts + 0.1 * n, 0.9 * sums + 0.1 * s
        head.observe(q)
        assert torch.allclose(head.codebook.double(), sums / counts[:, None], atol=1e-5)
        assert torch.allclose(head.usage.double() * positions / codes, counts, rtol=1e-5)


@pytest.mark.parametrize("usage", [0.0, 1e-30, 1.0])
def test_codes_without_vectors_stay_where_they_are(usage: float) -> None:
    """Unused for thousands of steps, and whatever its count, a code does not blow up, nor once it is used again."""
    head = vector_quantizer(revive=0.0)
    head.codebook[6] = torch.tensor([1e3, 1e3])
    head.usage.fill_(usage)
    before = head.codebook[6].clone()
    for step in range(2000):
        head.observe(head(features(seed=step % 5)))
    assert torch.equal(head.codebook[6], before)
    assert head.codebook.isfinite().all()
    far = Quantized(before.view(1, 2, 1, 1).clone(), before.view(1, 2, 1, 1), torch.tensor([[[6]]]), by_gradient=False)
    far.encoded.add_(1.0)
    head.observe(far)
    moved = head.codebook[6] - before
    assert ((moved >= 0) & (moved <= 1.001)).all(), "it moves towards its vector, and not past it"


def test_unused_codes_are_revived_at_vectors_of_the_batch() -> None:
    """The first batch gives all codes a place, and later a code that falls below its share another one."""
    head = vector_quantizer(revive=0.03)
    q = head(features())
    shares = torch.bincount(q.indices.flatten(), minlength=7) * 7 / 72
    head.observe(q)
    exactly = {"compute_mode": "donot_use_mm_for_euclid_dist"}
    near = torch.cdist(head.codebook, rows_of(q.encoded), **exactly).amin(1)
    assert torch.equal(near < 1e-6, 0.01 * shares < 0.03), "all but those with three times their share and more"
    head.codebook[2] = torch.tensor([1e3, -1e3])
    head.usage[2] = 1.0
    steps = 0
    while head.codebook[2, 0] == 1e3:
        head.observe(head(features(seed=steps)))
        steps += 1
        assert steps < 1000
    assert steps == math.ceil(math.log(0.03) / math.log(0.99)), "when its use has fallen to 3 % of an even share"
    assert head.codebook.abs().max() < 10
    assert head.usage[2] == pytest.approx(1.1 * 0.03)
    still = vector_quantizer(revive=0.0)
    still.codebook[2] = torch.tensor([1e3, -1e3])
    for seed in range(100):
        still.observe(still(features(seed=seed)))
    assert still.codebook[2].tolist() == [1e3, -1e3]


def test_a_batch_that_is_not_finite_is_not_learned_from() -> None:
    head = vector_quantizer()
    head.observe(head(features()))
    codebook, usage = head.codebook.clone(), head.usage.clone()
    broken = head(features())
    broken.encoded[0, 0, 0, 0] = math.nan
    head.observe(broken)
    assert torch.equal(head.codebook, codebook)
    assert torch.equal(head.usage, usage)


@pytest.mark.parametrize("name", ["quantized", "fsq"])
def test_codes_are_computed_in_fp32(name: str) -> None:
    """Under bfloat16 the codes are those of the encoder's output as it is, in fp32 arithmetic."""
    torch.manual_seed(0)
    head = VectorQuantizer(MAP, 2, codes=64) if name == "quantized" else FiniteScalarQuantizer(MAP, 2, levels=(31,))
    with torch.autocast("cpu", torch.bfloat16):
        q = head(features(64))
    assert q.encoded.dtype == q.vectors.dtype == torch.float32
    assert torch.equal(head.nearest(q.encoded), q.indices)
    if isinstance(head, VectorQuantizer):
        exact = torch.cdist(rows_of(q.encoded).double(), head.codebook.double())
        chosen = exact.gather(1, q.indices.flatten()[:, None])[:, 0]
        assert (chosen - exact.amin(1)).max() < 1e-6


@pytest.mark.parametrize("learns", some(["ema", "loss"], 2))
def test_most_codes_are_used_after_training(learns: str, tmp_path: Path) -> None:
    """Of 64 codes more than half are in use after 350 steps, with both ways to learn; without revival a few are."""
    data = load("digits", Loading(tmp_path))
    used = {}
    for revive in (0.03, 0.0):
        posterior = Part("quantized", {"codes": 64, "revive": revive, "codebook": learns})
        small = Part("conv", {"width": 16, "depth": 2})
        spec = dataclasses.replace(
            RECIPES["vq-vae"](), latent_dim=16, posterior=posterior, prior=Part("uniform"), encoder=small,
            decoder=small, training=dataclasses.replace(RECIPES["vae"]().training, epochs=15, batch_size=64),
        )  # fmt: skip
        model, objective = build(spec, data.info)
        list(fit(model, objective, data, spec.training))
        usage = evaluate(model, data.test).usage
        assert usage is not None
        used[revive] = usage.used
    assert used[0.03] > 32
    assert used[0.0] < 16


# --- use of codes -----------------------------------------------------------------------------------------------------


def test_use_and_perplexity_of_known_frequencies() -> None:
    """As many codes as are evenly used; one for a single code; e to the entropy in between."""
    assert CodeUsage(torch.full((8,), 5)).metrics() == {"codes_used": 8, "codes": 8, "perplexity": pytest.approx(8)}
    alone = torch.zeros(8, dtype=torch.int64)
    alone[3] = 11
    assert CodeUsage(alone).metrics() == {"codes_used": 1, "codes": 8, "perplexity": pytest.approx(1)}
    mixed = CodeUsage(torch.tensor([3, 1, 0]))
    assert mixed.perplexity == pytest.approx(math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))))


def test_use_is_over_the_split_and_not_over_its_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluated seven at a time, the use of codes is that of all examples at once."""
    data = toy_data()
    small = Part("conv", {"width": 4})
    model, _ = build(dataclasses.replace(RECIPES["vq-vae"](), encoder=small, decoder=small), data.info)
    head: Any = model.encoder.head
    head.observe(model.encode(data.train.batch(slice(0, 200)).x))
    monkeypatch.setattr("vaectl.evaluation.metrics.EVALUATION_BATCH", 7)
    usage = evaluate(model, data.test).usage
    assert usage is not None
    parts: list[Any] = [model.encode(x) for x in data.test.batches(7)]
    indices = torch.cat([q.indices.flatten() for q in parts])
    assert torch.equal(usage.counts, torch.bincount(indices, minlength=512))
    assert usage.used > 3


# --- finite scalars ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [(3,), (4, 4), (8, 5, 5, 5), (5, 6, 7)])
def test_every_code_has_its_index_and_is_reached(levels: tuple[int, ...]) -> None:
    """Indices and codes are one to one, codes lie evenly in [-1, 1] with 0 among them, and inputs reach the ends."""
    head = FiniteScalarQuantizer((4, 1, 1), len(levels), levels=levels)
    assert head.space == LatentSpace((len(levels), 1, 1), math.prod(levels))
    indices = torch.arange(math.prod(levels)).view(-1, 1, 1)
    codes = head.vectors(indices)
    assert torch.equal(head.nearest(codes), indices)
    assert len({tuple(code) for code in codes.flatten(1).tolist()}) == math.prod(levels)
    assert codes.min() == -1
    assert codes.max() <= 1
    assert (codes.flatten(1) == 0).all(1).any()
    with torch.no_grad():
        head.linear.weight.zero_()
        head.linear.weight.flatten(1)[:, 0] = 1.0
        head.linear.bias.zero_()
        inputs = torch.linspace(-20, 20, 4001).view(-1, 1, 1, 1).expand(-1, 4, 1, 1)
        reached = head(inputs).indices.unique()
        middle = head(torch.zeros(1, 4, 1, 1))
    steps = [len(set(head.vectors(reached.view(-1, 1, 1))[:, d].flatten().tolist())) for d in range(len(levels))]
    assert steps == list(levels)
    assert not middle.vectors.any()


@pytest.mark.parametrize(("levels", "offset"), [(3, 0.0), (4, 0.5), (5, 0.0), (8, 0.5)])
def test_finite_scalars_are_bounded_as_in_the_paper(levels: int, offset: float) -> None:
    """With h = 1.001 (L - 1) / 2: ``(h tanh(s + atanh(o / h)) - o) / (L // 2)``, which is 0 at 0 before it is rounded.

    References:
        Finite Scalar Quantization: VQ-VAE Made Simple (Mentzer et al., 2023), appendix A.1
    """
    head = FiniteScalarQuantizer((1, 1, 1), 1, levels=(levels,))
    inputs = [-9.0, -0.7, 0.0, 0.1, 1.3, 9.0]
    with torch.no_grad():
        head.linear.weight.fill_(1.0)
        head.linear.bias.zero_()
        q = head(torch.tensor(inputs).view(-1, 1, 1, 1))
    half = 1.001 * (levels - 1) / 2
    bounded = [half * math.tanh(s + math.atanh(offset / half)) - offset for s in inputs]
    assert (q.encoded.flatten() * (levels // 2)).tolist() == pytest.approx(bounded, abs=1e-5)
    assert (q.vectors.flatten() * (levels // 2)).tolist() == [round(number) for number in bounded]
    assert q.encoded.flatten()[2].item() == pytest.approx(0, abs=1e-6)


def test_finite_scalars_round_and_pass_the_gradient_on() -> None:
    """Each number goes to the nearest level; the gradient is that of the bounded number before it was rounded."""
    torch.manual_seed(0)
    head = FiniteScalarQuantizer(MAP, 3, levels=(7, 5, 4))
    with torch.no_grad():
        head.linear.weight.mul_(8)
    q = head(features())
    radius = (head.levels / 2).floor()
    assert ((q.encoded - q.vectors).abs() * radius <= 0.5 + 1e-6).all()
    assert (q.vectors * radius == (q.vectors * radius).round()).all()
    q.encoded.retain_grad()
    q.rsample().square().sum().backward()
    assert torch.allclose(q.encoded.grad, 2 * q.vectors)


# --- settings ---------------------------------------------------------------------------------------------------------


def build_with(name: str, network: str = "conv", latent_dim: int = 4, **options: Any) -> Any:
    spec: Spec = RECIPES["vq-vae" if name == "quantized" else "fsq-vae"]()
    part = Part(network, {"depth": 2} if network == "conv" else {})
    spec = dataclasses.replace(
        spec, latent_dim=latent_dim, encoder=part, decoder=part, posterior=Part(name, options), prior=Part("uniform"),
        training=dataclasses.replace(spec.training, prior_epochs=0),
    )  # fmt: skip
    return build(spec, toy_data().info)[0]


def test_flat_features_have_positions() -> None:
    """An MLP codes an image by a row of so many positions; a map has its own, and refuses others."""
    assert build_with("quantized", "mlp", positions=5).space == LatentSpace((4, 1, 5), 512)
    assert build_with("quantized").space == LatentSpace((4, 2, 2), 512)
    with pytest.raises(SettingError, match=r"posterior\.positions.*mlp.*2 x 2"):
        build_with("quantized", positions=5)


def test_levels_are_one_or_one_each() -> None:
    assert build_with("fsq", levels=[3]).space.codebook_size == 81
    assert build_with("fsq", levels=[3, 4, 5, 6]).space.codebook_size == 360
    with pytest.raises(SettingError, match=r"posterior\.levels.*4 numbers.*2"):
        build_with("fsq", levels=[3, 4])
    with pytest.raises(SettingError, match=r"posterior\.levels.*codes"):
        build_with("fsq", latent_dim=8, levels=[8])
    with pytest.raises(SettingError, match=r"posterior\.levels"):
        build_with("fsq", levels=[2])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *itertools.product(["codes"], [1, 0, 2**16 + 1, 2.5]),
        *itertools.product(["decay", "revive"], [-0.1, 1.1, "x"]),
        ("codebook", "adam"),
        ("positions", 0),
    ],
)
def test_options_out_of_bounds_are_named(option: str, value: object) -> None:
    with pytest.raises(SettingError, match=rf"posterior\.{option}"):
        build_with("quantized", **{option: value})


def test_a_training_state_keeps_the_codebook() -> None:
    """The codebook of moving averages and the use of codes are part of the weights that are saved."""
    model = build_with("quantized")
    assert {"encoder.head.codebook", "encoder.head.usage"} <= model.state_dict().keys()
    state = TrainState(model, VQ(TrainingSet(10, 5), SPACE), RECIPES["vae"]().training, 10)
    assert "encoder.head.codebook" not in state.optimizer.parameters
    learned = build_with("quantized", codebook="loss")
    state = TrainState(learned, VQ(TrainingSet(10, 5), SPACE), RECIPES["vae"]().training, 10)
    assert "encoder.head.codebook" in state.optimizer.parameters
