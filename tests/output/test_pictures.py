"""Grids, walks through the latent space, and figures: that they show what they say."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, Normal
from torchvision.utils import make_grid

from tests.support.toys import toy_data
from vaectl.commands.plot_latent.cli import FORMATS
from vaectl.commands.shared.results import pair_columns
from vaectl.config.recipes import vae
from vaectl.data.batch import Batch
from vaectl.errors import OutputError
from vaectl.evaluation import latents
from vaectl.model.builder import build
from vaectl.model.vae import VAE
from vaectl.output import grids, plots


class Echo(nn.Module):
    """A decoder whose image is its code: pixel i is sigmoid(z_i)."""

    def forward(self, z: Tensor, given: None = None) -> Independent:  # type: ignore[type-arg]
        return Independent(Bernoulli(logits=z[..., None, None, :], validate_args=False), 3, validate_args=False)


class Prior(nn.Module):
    """N(mean, 2^2) in every dimension."""

    def __init__(self, mean: list[float]) -> None:
        super().__init__()
        self.mean = torch.tensor(mean)

    def forward(self, encoder: nn.Module, given: None = None) -> Independent:  # type: ignore[type-arg]
        return Independent(Normal(self.mean, torch.full_like(self.mean, 2.0)), 1)


def echo(mean: list[float]) -> VAE:
    return VAE(nn.Identity(), Prior(mean), Echo())  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [1, 2, 7, 9])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 20, 31)])
def test_a_grid_is_that_of_torchvision(n: int, shape: tuple[int, int, int]) -> None:
    """Tile for tile, of grey and of coloured images, in full rows and in one that is not full."""
    images = torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for columns in (1, 3, 20):
        expected = make_grid(images, nrow=columns, padding=2, pad_value=64).permute(1, 2, 0).numpy()
        assert np.array_equal(grids.grid(images / 255, columns, tile_pixels=1), expected)


def test_a_grid_shows_each_image_once_in_order() -> None:
    """Six constant images in rows of three, enlarged by a whole factor, with a line between them."""
    images = torch.arange(6).reshape(6, 1, 1, 1).expand(6, 1, 8, 8) / 5
    picture = grids.grid(images, 3)
    tile = 8 * (grids.TILE_PIXELS // 8)
    assert picture.shape == (2 * (tile + 2) + 2, 3 * (tile + 2) + 2, 3)
    seen = [
        picture[row * (tile + 2) + tile // 2, column * (tile + 2) + tile // 2, 0]
        for row in range(2)
        for column in range(3)
    ]
    assert seen == [0, 51, 102, 153, 204, 255]


def test_a_narrow_image_is_enlarged_by_its_longer_side() -> None:
    """A column of 30 pixels, enlarged until it is as wide as a tile should be, would be 1,700 pixels tall."""
    assert grids.grid(torch.zeros(1, 1, 30, 1), 1, tile_pixels=60).shape == (60, 2, 3)


@pytest.mark.parametrize("width", [2, 30, 500])
def test_a_row_of_a_table_is_high_enough_to_be_seen(width: int) -> None:
    """One pixel high, as it is stored, it could not be."""
    height, wide, _ = grids.grid(torch.zeros(1, 1, 1, width), 1, tile_pixels=60).shape
    assert 15 <= height <= wide


def test_any_number_of_channels_is_shown() -> None:
    """Transparency before mid grey; of two channels, or more than four, the mean."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(2, 4, 3, 3, generator=generator)
    alpha = colours[:, 3:]
    shown = colours[:, :3] * alpha + (1 - alpha) * 0.5
    assert np.array_equal(grids.grid(colours), grids.grid(shown))
    for channels in (2, 7):
        images = torch.rand(2, channels, 3, 3, generator=generator)
        assert np.array_equal(grids.grid(images), grids.grid(images.mean(1, keepdim=True)))


def test_real_numbers_are_shown_in_their_range() -> None:
    images = torch.linspace(-4, 6, 9).reshape(1, 1, 3, 3)
    picture = grids.grid(images, tile_pixels=3, span=(-4.0, 6.0))
    assert np.array_equal(picture, grids.grid((images + 4) / 10, tile_pixels=3))
    flat = grids.grid(torch.zeros(1, 1, 3, 3), span=(0.0, 0.0))
    assert flat.max() == 0


def test_pairs_stand_above_each_other_in_named_rows_with_a_gap() -> None:
    """Five pairs in rows of three: black above white, a white gap, names in the margin, nothing below the last."""
    above, below = torch.zeros(5, 1, 8, 8), torch.full((5, 1, 8, 8), 0.5)
    picture = grids.paired(above, below, 3, tile_pixels=24)
    tile, gap = 24 + grids.GAP, grids.GAP
    block = 2 * (tile + gap)
    left = picture.shape[1] - (3 * tile + gap)
    assert picture.shape[0] == 2 * block + grids.BETWEEN
    tiles = [
        [int(picture[top + row * (tile + gap) + tile // 2, left + column * tile + tile // 2, 0]) for column in range(3)]
        for top in (0, block + grids.BETWEEN)
        for row in range(2)
    ]
    assert tiles == [[0, 0, 0], [128, 128, 128], [0, 0, 255], [128, 128, 255]]
    assert (picture[block : block + grids.BETWEEN] == 255).all()
    for top in (0, block + grids.BETWEEN):
        for row in range(2):
            name = picture[top + row * block // 2 : top + (row + 1) * block // 2, :left]
            assert (name < 100).any(), "a row has no name"
    assert left > 80


@pytest.mark.parametrize("n", [4, 6, 8, 10, 12, 16, 32, 64, 100])
def test_pairs_are_shown_in_a_sensible_shape(n: int) -> None:
    """At most 2.3 times as wide as high and at most 1.5 times as high as wide, where 16 were eight times as wide."""
    images = torch.zeros(n, 1, 28, 28)
    columns = pair_columns(n)
    height, width, _ = grids.paired(images, images, columns, grids.LARGE_TILE_PIXELS).shape
    assert 1 / 1.5 <= width / height <= 2.6
    assert n % columns == 0
    assert pair_columns(1) == 1


def test_a_png_holds_the_picture(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    grids.save_png(picture, tmp_path / "a.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)
    with pytest.raises(OutputError):
        grids.save_png(picture, tmp_path / "missing" / "a.png")


def test_the_manifold_runs_along_the_prior_quantiles() -> None:
    """Columns rise with the first dimension, rows from the bottom with the second; others stay at the prior's mean."""
    model = echo([0.0, 1.0, 5.0])
    images, values = latents.manifold(model, (0, 1), side=5)
    code = torch.logit(images.double())[:, 0, 0, :].reshape(5, 5, 3)  # (row, column, D)
    assert torch.allclose(values[:, 0], Normal(0.0, 2.0).icdf(torch.linspace(0.02, 0.98, 5)))
    assert torch.allclose(values[:, 1], Normal(1.0, 2.0).icdf(torch.linspace(0.02, 0.98, 5)))
    assert torch.allclose(code[:, :, 0], values[:, 0].double().expand(5, 5), atol=1e-4)
    assert torch.allclose(code[:, :, 1], values[:, 1].flip(0).double()[:, None].expand(5, 5), atol=1e-4)
    assert torch.allclose(code[:, :, 2], torch.full((5, 5), 5.0, dtype=torch.float64), atol=1e-3)


def test_a_traversal_moves_one_dimension_at_a_time() -> None:
    model = echo([0.0, 0.0, 0.0])
    images, values = latents.traversal(model, torch.tensor([0.1, 0.2, 0.3]), (2, 0), steps=3)
    code = torch.logit(images)[:, 0, 0, :].reshape(2, 3, 3)
    assert torch.allclose(code[0, :, 2], values[:, 0], atol=1e-4)
    assert torch.allclose(code[0, :, :2], torch.tensor([0.1, 0.2]).expand(3, 2), atol=1e-5)
    assert torch.allclose(code[1, :, 0], values[:, 1], atol=1e-4)
    assert torch.allclose(code[1, :, 1:], torch.tensor([0.2, 0.3]).expand(3, 2), atol=1e-5)


def test_temperature_scales_the_distance_from_the_prior_mean() -> None:
    model = echo([3.0, -3.0])
    torch.manual_seed(0)
    cold = torch.logit(model.sample(2000, temperature=0.5).mean)[:, 0, 0]
    assert torch.allclose(cold.mean(0), torch.tensor([3.0, -3.0]), atol=0.1)
    assert torch.allclose(cold.std(0), torch.tensor([1.0, 1.0]), atol=0.05), "half of the prior's scale of 2"
    assert torch.equal(model.sample(3, temperature=0).mean[0], model.sample(3, temperature=0).mean[1])


def test_a_view_of_splits_projects_by_the_training_split_and_only_where_it_must() -> None:
    """Three dimensions are projected by the training examples' components; two need no training example at all."""
    data = toy_data()
    model, _ = build(dataclasses.replace(vae(), latent_dim=3), data.info)
    found = latents.view_of(model, data.test, data.train)
    by_hand = latents.view(latents.encode(model, data.test), latents.encode(model, data.train).mean)
    assert np.array_equal(found.points, by_hand.points)
    assert found.explained != latents.view_of(model, data.test, data.test).explained
    flat, _ = build(dataclasses.replace(vae(), latent_dim=2), data.info)
    assert latents.view_of(flat, data.test, data.train.first(0)).axes == ("z0", "z1")


def test_evaluation_that_fails_leaves_the_model_training() -> None:
    """An error within an evaluation does not leave the model in evaluation mode."""
    data = toy_data()
    model, _ = build(vae(), data.info)

    def fail(examples: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        latents.encode(model, data.test, progress=fail)
    assert model.training


def test_one_training_code_has_no_principal_components() -> None:
    codes = latents.Encodings(*(torch.randn(3, 4) for _ in range(3)))
    assert latents.view(codes, codes.mean[:1]).axes == ("z0", "z1")


def test_codes_that_are_all_the_same_have_no_principal_components() -> None:
    """Their parts of the variance would be 0 / 0."""
    codes = latents.Encodings(*(torch.randn(3, 4) for _ in range(3)))
    view = latents.view(codes, codes.mean[:1].expand(9, 4))
    assert view.axes == ("z0", "z1")
    assert view.explained == ()


def test_interpolation_begins_and_ends_at_the_codes() -> None:
    data = toy_data()
    model, _ = build(dataclasses.replace(vae(), latent_dim=3), data.info)
    x = data.test.batch(slice(0, 4)).x
    with torch.no_grad():
        walk = latents.interpolate(model, Batch(x[:2]), Batch(x[2:]), steps=5).mean.reshape(2, 5, *data.info.shape)
        ends = model.decode(model.encode(x).mean).mean
    assert torch.allclose(walk[:, 0], ends[:2], atol=1e-6)
    assert torch.allclose(walk[:, -1], ends[2:], atol=1e-6)


def test_embeddings_are_the_same_at_every_call() -> None:
    """The mean and scale depend on nothing; the draw on the seed alone."""
    data = toy_data()
    model, _ = build(vae(), data.info)
    first, second, third = (latents.encode(model, data.test, seed=seed) for seed in (0, 0, 1))
    q = model.encode(data.test.batch(slice(None)).x)
    assert torch.allclose(first.mean, q.mean, atol=1e-6)
    assert torch.allclose(first.scale, q.stddev, atol=1e-6)
    assert torch.equal(first.mean, third.mean)
    assert torch.equal(first.scale, third.scale)
    assert torch.equal(first.draw, second.draw)
    assert not torch.equal(first.draw, third.draw)


def test_principal_components_come_from_the_training_codes_alone() -> None:
    """Other test codes do not turn the axes."""
    generator = torch.Generator().manual_seed(0)
    train = torch.randn(500, 4, generator=generator) * torch.tensor([5.0, 3.0, 1.0, 0.1])
    codes = latents.Encodings(torch.randn(20, 4), torch.ones(20, 4), torch.zeros(20, 4))
    more = latents.Encodings(torch.cat((codes.mean, 100 * torch.randn(30, 4))), torch.ones(50, 4), torch.zeros(50, 4))
    view = latents.view(codes, train)
    assert np.allclose(view.points, latents.view(more, train).points[:20])
    assert view.explained == pytest.approx((25 / 35, 9 / 35), abs=0.05)
    assert all("%" in axis for axis in view.axes)


@pytest.mark.parametrize(("dims", "latent_dim", "axes"), [
    (None, 2, ("z0", "z1")),
    ([2, 0], 4, ("z2", "z0")),
    (None, 1, ("z0", "posterior scale of z0")),
    ([3], 4, ("z3", "posterior scale of z3")),
])  # fmt: skip
def test_a_view_without_projection(dims: list[int] | None, latent_dim: int, axes: tuple[str, str]) -> None:
    codes = latents.Encodings(*(torch.randn(7, latent_dim) for _ in range(3)))
    view = latents.view(codes, codes.mean, dims)
    assert view.axes == axes
    assert view.explained == ()
    assert np.allclose(view.points[:, 0], codes.mean[:, dims[0] if dims else 0].numpy())


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_figure_is_the_same_bytes_again(tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        points = np.random.default_rng(0).normal(size=(50, 2))
        figure = plots.scatter(points, np.arange(50) % 3, ("x", "y"), "title")
        plots.save(figure, tmp_path / f"{name}{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert (tmp_path / f"a{suffix}").stat().st_size > 5000


def test_every_label_is_in_the_legend_in_a_look_of_its_own() -> None:
    """Of few points; the legend's markers are no paler than the points."""
    figure = plots.scatter(np.random.default_rng(0).normal(size=(50, 2)), np.arange(50) % 10, ("x", "y"), "title")
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [str(label) for label in range(10)]
    handles: list[Any] = list(legend.legend_handles)
    assert len({tuple(handle.get_facecolor()[0][:3]) for handle in handles}) == 10
    assert {handle.get_alpha() for handle in handles} == {1}
    assert not figure.axes[0].texts


@pytest.mark.parametrize("kind", ["names", "none", "many"])
def test_classes_are_named_where_they_have_names(tmp_path: Path, kind: str) -> None:
    """Names from outside may begin like a hidden label, hold a formula, or letters that no font has."""
    points = np.random.default_rng(0).normal(size=(300, 2))
    labels = {"names": np.arange(300) % 4 - 1, "none": np.full(300, -1), "many": np.arange(300)}[kind]
    figure = plots.scatter(points, labels, ("x", "y"), "title", ("_a", "$b$", "犬"))
    plots.save(figure, tmp_path / "a.png")
    if kind == "names":
        [legend] = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == ["none", " _a", r"\$b\$", "?"]
    else:
        assert not figure.legends


@pytest.mark.parametrize("shape", [(500, 3), (40, 100), (3, 4), (60, 511), (60, 512), (3, 600)])
def test_principal_components_are_those_of_scikit_learn(shape: tuple[int, int]) -> None:
    """Directions with their signs, and parts of the variance, to 1e-10, by each of three ways; the mean is far off."""
    random = np.random.default_rng(0)
    points = random.normal(size=shape) @ random.normal(size=(shape[1], shape[1]))
    points += 10 * points.std() * random.normal(size=shape[1])
    components, explained = latents.principal_components(points)
    pca = PCA(n_components=2, svd_solver="full").fit(points)
    assert np.abs(components - pca.components_).max() < 1e-10
    assert explained == pytest.approx(tuple(pca.explained_variance_ratio_), abs=1e-10)
