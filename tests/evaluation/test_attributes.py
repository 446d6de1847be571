"""Attribute vectors: differences of mean latents, and which examples have an attribute."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.toys import toy_data
from vaectl.config.recipes import vae
from vaectl.data.base import Split
from vaectl.data.info import DataInfo
from vaectl.errors import DataError, UsageError
from vaectl.evaluation.attributes import Attribute, attribute, combined, directions, edits
from vaectl.model.builder import build
from vaectl.model.parts import Network, Sizes
from vaectl.model.vae import VAE

DATA = toy_data()


class Flat(Network):
    """Pixels as features, so that the posterior's mean is linear in them."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.features = (int(np.prod(sizes.inputs)),)

    def forward(self, x: Tensor, given: Tensor | None = None, observed: Tensor | None = None) -> Tensor:
        return x.flatten(-3)

    def describe(self) -> str:
        return "pixels"


def linear() -> VAE:
    """A model whose encoder is linear, with random weights."""
    torch.manual_seed(0)
    model, _ = build(vae(latent_dim=3, hidden_dims=(36,)), DATA.info)
    model.encoder.network = Flat(Sizes(DATA.info.shape))
    return model.eval()


def with_factors(**factors: np.ndarray) -> Split:
    assert isinstance(DATA.train, Split)
    return dataclasses.replace(DATA.train, factors=factors)


def marked(seed: int, rate: float = 0.3) -> np.ndarray:
    return (np.random.RandomState(seed).rand(len(DATA.train)) < rate).astype(np.int8)


def test_the_vector_of_a_linear_encoder_is_the_difference_of_means() -> None:
    """W (mean x with - mean x without), by numpy; rows where it is not known are left out."""
    model, values = linear(), marked(0)
    values[::7] = -1
    x = DATA.train.batch(slice(None)).x.flatten(1).double().numpy()
    weights = model.encoder.head.linear.weight[:3].detach().double().numpy()  # type: ignore[union-attr]
    expected = weights @ (x[values == 1].mean(0) - x[values == 0].mean(0))
    [direction] = directions(model, DATA.train, [Attribute("a", values)])
    assert np.allclose(direction.vector, expected, atol=1e-5)
    assert (direction.having, direction.lacking) == ((values == 1).sum(), (values == 0).sum())


def test_parts_do_not_change_a_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    from vaectl.evaluation import latents

    model, attributes, seen = linear(), [Attribute("a", marked(0)), Attribute("b", marked(1))], list[int]()
    whole = directions(model, DATA.train, attributes)
    monkeypatch.setattr(latents, "EVALUATION_BATCH", 7)
    parts = directions(model, DATA.train, attributes, progress=seen.append)
    assert seen[-1] == len(DATA.train)
    for one, other in zip(whole, parts, strict=True):
        assert np.allclose(one.vector, other.vector, atol=1e-6)


def test_an_attribute_does_not_carry_another_along() -> None:
    """Of two that occur together, each vector is what it adds where the other is the same."""
    model, first = linear(), marked(0, 0.5)
    second = np.where(np.random.RandomState(2).rand(len(first)) < 0.9, first, 1 - first).astype(np.int8)
    z = model.encode(DATA.train.batch(slice(None))).mean.detach().double().numpy()
    pair = directions(model, DATA.train, [Attribute("a", first), Attribute("b", second)])

    def mean(a: int, b: int) -> np.ndarray:
        rows: np.ndarray = z[(first == a) & (second == b)].mean(0)
        return rows

    assert np.allclose(pair[0].vector, (mean(1, 0) - mean(0, 0) + mean(1, 1) - mean(0, 1)) / 2, atol=1e-6)
    assert np.allclose(pair[1].vector, (mean(0, 1) - mean(0, 0) + mean(1, 1) - mean(1, 0)) / 2, atol=1e-6)
    total = combined(pair, {"a": 2.0, "b": -1.0})
    assert np.allclose(total, 2 * pair[0].vector - pair[1].vector)


def test_an_attribute_of_all_or_of_none_has_no_vector() -> None:
    ones = np.ones(len(DATA.train), np.int8)
    for values, text in ((ones, "0 rows without it"), (0 * ones, "0 rows with it")):
        with pytest.raises(DataError, match=f"no vector of a: there are .*{text}"):
            directions(linear(), DATA.train, [Attribute("a", values)])
    both = marked(0)
    with pytest.raises(DataError, match="with the other attributes alike"):
        directions(linear(), DATA.train, [Attribute("a", both), Attribute("b", both)])


def test_examples_are_moved_along_the_vector() -> None:
    """By whole weights from the posterior mean, whose image is the reconstruction."""
    model, vector = linear(), np.array([1.0, -2.0, 0.5])
    [batch] = edits(model, DATA.test.first(5), vector, [0.0, 0.5, 1.0])
    x = DATA.test.batch(slice(0, 5))
    with torch.no_grad():
        z = model.encode(x).mean
        assert torch.equal(batch.images[:, 0], model.reconstruct(x).mean)
        assert torch.allclose(batch.z, z + torch.tensor([1.0, -2.0, 0.5]))
        assert torch.allclose(batch.images[:, 1], model.decode(z + torch.tensor([0.5, -1.0, 0.25])).mean)
    assert torch.equal(batch.originals, x.x)


def info(*classes: str) -> DataInfo:
    return dataclasses.replace(DATA.info, classes=classes)


def test_classes_are_attributes_by_name_and_number() -> None:
    labels = DATA.train.labels.numpy()
    for text, known, label in (("1", info(), 1), ("dog", info("cat", "dog"), 1), ("0", info("1", "0"), 1)):
        assert np.array_equal(attribute(text, known, DATA.train).values, labels == label)
    some = dataclasses.replace(with_factors(), labels=torch.where(DATA.train.labels == 0, -1, DATA.train.labels))
    assert set(attribute("1", info(), some).values.tolist()) == {1, -1}


def test_factors_are_attributes() -> None:
    """Of two values the larger counts, of more those above the median, and missing ones for neither."""
    count = len(DATA.train)
    real = np.arange(count, dtype=np.float64)
    real[5] = np.nan
    split = with_factors(smiling=np.where(np.arange(count) % 3, -1, 1), age=real, shape=np.arange(count) % 3)
    known = info("cat", "dog")
    assert np.array_equal(attribute("smiling", known, split).values, np.arange(count) % 3 == 0)
    age = attribute("age", known, split).values
    assert age[5] == -1
    assert np.array_equal(age[6:], real[6:] > np.nanmedian(real))
    assert np.array_equal(attribute("shape", known, split).values, np.arange(count) % 3 > 1)
    assert np.array_equal(attribute("shape=1", known, split).values, np.arange(count) % 3 == 1)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("beard", ["no attribute 'beard'", "smiling, cat, dog"]),
        ("smiling=7", ["'smiling=7' is no value of smiling", "its values: 0, 1"]),
        ("smiling=x", ["'smiling=x' is no value of smiling"]),
        ("7", ["no attribute '7'"]),
    ],
)
def test_attributes_that_are_not_there(text: str, names: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        attribute(text, info("cat", "dog"), with_factors(smiling=marked(0)))
    assert all(name in caught.value.message for name in names)


def test_data_without_labels_have_no_attribute() -> None:
    bare = dataclasses.replace(with_factors(), labels=torch.full((len(DATA.train),), -1))
    with pytest.raises(UsageError, match="has neither classes nor factors"):
        attribute("a", info(), bare)
