"""The figures of ``vaectl plot-latent``, and what its result says of each."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from vaectl.commands.shared.chosen import Choice, Chosen
from vaectl.commands.shared.session import Session
from vaectl.config.spec import ALL
from vaectl.errors import UsageError, amount

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vaectl.data.examples import Examples
    from vaectl.model.vae import VAE

DEFAULT_POINTS = 5000
MOST_TRAVERSALS = 10
# images that are shown beside the map of their codes
PICTURED = 8


def scatter(
    session: Session, checkpoint: str, chosen: Chosen, dims: list[int] | None, points: int
) -> tuple[Figure, dict[str, Any]]:
    """Plot the latents of examples on a plane of the run's training examples."""
    from vaectl.evaluation import latents
    from vaectl.output import plots

    model, examples, info = session.model(checkpoint), chosen.examples.first(points), chosen.data.info
    if len(examples) < points and points != DEFAULT_POINTS:
        session.screen.warn(f"-n {points}: {chosen.text} has {amount(len(examples), 'example')}; all are shown")
    view = latents.view_of(model, examples, session.data().train, dims)
    content = "posterior means" if view.origin else f"posterior mean and scale of {view.axes[0]}"
    title = f"{session.run.id}: {content} of {amount(len(examples), _noun(chosen))}"
    prior = view.origin if session.run.spec.prior.name == "standard" else None
    figure = plots.scatter(
        view.points, examples.labels.numpy(), view.axes, title, info.classes,
        equal=view.origin is not None, prior=prior,
    )  # fmt: skip
    return figure, _named(chosen) | {
        "n": len(examples),
        "axes": list(view.axes),
        "explained_variance": list(view.explained),
    }


def codes(session: Session, checkpoint: str, chosen: Chosen, points: int | None) -> tuple[Figure, dict[str, Any]]:
    """Plot how often each code is used, and where codes are in a few images."""
    import torch

    from vaectl.evaluation import latents
    from vaectl.model.distributions.codes import CodeUsage
    from vaectl.output import grids, plots

    model = session.model(checkpoint)
    space = model.space
    if not space.codebook_size:
        raise UsageError(f"{session.run.id} has no codes: its latents are vectors", hint="use --kind scatter")
    examples = chosen.examples if points is None else chosen.examples.first(points)
    indices = torch.cat([part.indices for part in latents.encodings(model, examples.to(session.device))])
    usage = CodeUsage(torch.bincount(indices.flatten(), minlength=space.codebook_size))
    # picked at random, because data may be sorted by class
    few = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0))[:PICTURED]
    # the colour of a code is its rank by use, so that frequent codes get different colours
    rank = usage.counts.argsort(descending=True).argsort()
    height, width = space.grid
    title = (
        f"{session.run.id}: {usage.used} of {space.codebook_size} codes used, perplexity {usage.perplexity:.1f} "
        f"({amount(len(examples), _noun(chosen))}, {height} x {width} codes each)"
    )
    pictures = [
        (grids.grid(examples.batch(few[i : i + 1]).x, span=session.run.data_info.range), rank[indices[few[i]]].numpy())
        for i in range(len(few))
    ]
    figure = plots.code_usage(usage.counts.numpy(), usage.perplexity, pictures, title)
    return figure, _named(chosen) | {"n": len(examples), "grid": [height, width], **usage.metrics()}


def manifold(session: Session, checkpoint: str, dims: list[int] | None) -> tuple[Figure, dict[str, Any]]:
    """Plot what the decoder makes of the prior's quantiles."""
    from vaectl.data.examples import given_for
    from vaectl.evaluation import latents
    from vaectl.output import grids, plots

    model = session.model(checkpoint)
    latent_dim = session.run.spec.latent_dim
    if dims is None:
        dims = list(range(latent_dim)) if latent_dim <= 2 else sorted(_by_kl(session, checkpoint)[0][:2])
    conditional = session.run.data_info.given > 0
    given = given_for(session.data().test, 1, session.device) if conditional else None
    images, values = latents.manifold(model, dims, given=given)
    labels = [[f"{value:.1f}" for value in column] for column in values.T.tolist()]
    title = f"{session.run.id}: the decoder over the prior's quantiles"
    if latent_dim > len(dims):
        title += f", {amount(latent_dim - len(dims), 'other dimension')} at its mean"
    figure = plots.sheet(
        grids.grid(images, len(values), span=session.run.data_info.range),
        title,
        x=(f"z{dims[0]}", labels[0]),
        y=(f"z{dims[1]}", labels[1][::-1]) if len(dims) == 2 else None,
    )
    return figure, {"dims": dims}


def traversal(
    session: Session, checkpoint: str, chosen: Chosen, dims: list[int] | None, seed: int | None
) -> tuple[Figure, dict[str, Any]]:
    """Plot walks along single dimensions from one of the examples: the chosen one, one at random, or a typical one."""
    from vaectl.evaluation import latents
    from vaectl.output import grids, plots

    model, examples = session.model(checkpoint), chosen.taken()
    order, kl = _by_kl(session, checkpoint)
    latent_dim = session.run.spec.latent_dim
    dims = sorted(order[:MOST_TRAVERSALS] if dims is None else dims, key=order.index)
    place = 0 if chosen.in_order else _telling(session, model, examples) if seed is None else _drawn(len(chosen), seed)
    example = examples.batch(slice(place, place + 1)).to(session.device)
    latent = latents.encode(model, examples.first(place + 1).to(session.device)).mean[place].to(session.device)
    images, values = latents.traversal(model, latent, dims, given=example.given)
    nearest = [(values[:, k] - latent[dim]).abs().argmin().item() for k, dim in enumerate(dims)]
    some = f"{len(dims)} of {latent_dim} dimensions, by KL" if len(dims) < latent_dim else "dimensions by KL"
    which, facts = _start(chosen, examples, place)
    span = session.run.data_info.range
    figure = plots.sheet(
        grids.grid(images, len(values), span=span),
        f"{session.run.id}: traversals from {which}; {some}; framed: the step nearest to its own value",
        x=("value of the dimension", [f"{value:.1f}" for value in values[:, 0].tolist()]),
        y=("", [f"z{dim}: KL {kl[dim]:.2f} nats" for dim in dims]),
        beside=[("original", grids.grid(example.x, span=span))],
        framed=[(line, int(step)) for line, step in enumerate(nearest)],
    )
    return figure, _named(chosen) | {"dims": dims, "kl": [kl[dim] for dim in dims], **facts}


def _start(chosen: Chosen, examples: Examples, place: int) -> tuple[str, dict[str, Any]]:
    """The example at a place where walks begin, in words, and as facts of the result."""
    label, classes, row = int(examples.labels[place]), chosen.data.info.classes, int(examples.rows[place])
    name = classes[label] if 0 <= label < len(classes) else str(label)
    of_class = f" (class {name})" if label >= 0 else ""
    if chosen.is_default:
        return f"test example {place}{of_class}", {"test_image": place}
    whole = dataclasses.replace(chosen, choice=Choice()).text
    files = chosen.marks(chosen.data.info.classes).get("file")
    file = "" if files is None or files[place] == whole else f", {files[place]}"
    return f"row {row} of {whole}{file}{of_class}", {"row": row}


def _noun(chosen: Chosen) -> str:
    """The noun for one of the examples."""
    split = "" if chosen.split == ALL else f"{chosen.split} "
    return f"{chosen.data.info.name} {split}example"


def _named(chosen: Chosen) -> dict[str, str]:
    """The data as a fact of the result; nothing for the run's own test split."""
    return {} if chosen.is_default else {"dataset": chosen.data.info.name, "split": chosen.split}


def _drawn(count: int, seed: int) -> int:
    import torch

    return int(torch.randint(count, (1,), generator=torch.Generator().manual_seed(seed)))


def _telling(session: Session, model: VAE, whole: Examples) -> int:
    """The example nearest to the mean latent of its class, in the class whose latents vary most.

    It is typical of a class that has much to vary; of the first examples, as many as a scatter shows.
    """
    import numpy as np

    from vaectl.evaluation import latents

    examples = whole.first(DEFAULT_POINTS)
    means, labels = latents.encode(model, examples.to(session.device)).mean.numpy(), examples.labels.numpy()
    kinds = np.unique(labels)
    widest = kinds[np.argmax([means[labels == kind].var(0).sum() for kind in kinds])]
    rows = np.flatnonzero(labels == widest)
    return int(rows[np.square(means[rows] - means[rows].mean(0)).sum(1).argmin()])


def _by_kl(session: Session, checkpoint: str) -> tuple[list[int], list[float]]:
    """The latent dimensions from the highest mean KL on the test split, and the KL of each."""
    kl: list[float] = session.evaluation("test", checkpoint)["kl_per_dim"]
    if not kl:
        raise UsageError(
            "this model's KL does not factorise over dimensions", hint="use --kind scatter, or codes of a VQ-VAE"
        )
    return sorted(range(len(kl)), key=lambda dim: -kl[dim]), kl
