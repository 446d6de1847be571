"""``vaectl plot-latent``: plot latents, the decoded manifold, or walks along single dimensions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaectl.commands.shared.options import (
    Checkpoint,
    DataDir,
    Device,
    Force,
    Json,
    ProgressMode,
    Quiet,
    RunArgument,
    Verbose,
    choice,
    number,
    output_option,
    seed_option,
    state,
)
from vaectl.commands.shared.plugins import Plugins, load
from vaectl.commands.shared.render import Screen
from vaectl.commands.shared.session import Session, check_destination, deliver
from vaectl.errors import UsageError, amount, check_choice
from vaectl.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vaectl.model.vae import VAE

FORMATS = (".png", ".svg", ".pdf")
KINDS = ("scatter", "manifold", "traversal", "codes")
DEFAULT_POINTS = 5000
MOST_TRAVERSALS = 10
# images that are shown beside the map of their codes
PICTURED = 8


def plot_latent_cli(
    context: typer.Context,
    run: RunArgument,
    kind: Annotated[
        str,
        choice("--kind", KINDS, "What to plot; codes is for VQ-VAEs."),
    ] = "scatter",
    dims: Annotated[
        str | None,
        typer.Option(
            "--dims",
            metavar="N,N",
            show_default="scatter: both, or principal components; else those of highest KL",
            help="Latent dimensions, counted from 0.",
        ),
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--points",
            metavar="N",
            parser=number(int, 2, 1_000_000),
            show_default=f"{DEFAULT_POINTS}",
            help="Number of test examples to plot, or whose codes to count.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        output_option("Where to write: .png, .svg or .pdf.", "RUN/plots/0001.png"),
    ] = None,
    force: Force = False,
    checkpoint: Checkpoint = "best",
    data_dir: DataDir = None,
    plugin: Plugins = None,
    device: Device = "auto",
    seed: Annotated[int | None, seed_option("Seed that picks a traversal's test image.", "a typical one")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
    progress: ProgressMode = "auto",
) -> None:
    """Plot the latent space: scatter, manifold grid or traversal."""
    screen = Screen(quiet, verbose, as_json, progress)
    check_choice("--kind", kind, KINDS)
    if points is not None and kind not in ("scatter", "codes"):
        raise UsageError(f"-n is for --kind scatter and codes; --kind {kind} has no points")
    if dims is not None and kind == "codes":
        raise UsageError("--dims is not for --kind codes, which shows whole codes")
    if seed is not None and kind != "traversal":
        raise UsageError(f"--seed is for --kind traversal; --kind {kind} has nothing random")
    load(plugin, screen)
    opened = Run.open(run, state(context).runs_dir)
    chosen = parse_dims(dims, opened.spec.latent_dim, 64 if kind == "traversal" else 2)
    suffix = check_destination(output, FORMATS, force=force, run=opened, folder="plots")
    session = Session(opened, screen, device, data_dir)
    if kind == "scatter":
        figure, facts = _scatter(session, checkpoint, chosen, points or DEFAULT_POINTS)
    elif kind == "codes":
        figure, facts = _codes(session, checkpoint, points)
    elif kind == "manifold":
        figure, facts = _manifold(session, checkpoint, chosen)
    else:
        figure, facts = _traversal(session, checkpoint, chosen, seed)
    from vaectl.output import plots

    path = deliver(output, opened, "plots", suffix, lambda path: plots.save(figure, path), force=force)
    document = {"run": opened.id, "path": str(path), "kind": kind, **facts}
    text = f"{kind} of {opened.id}: {path}"
    if facts.get("explained_variance"):
        first, second = facts["explained_variance"]
        text += f"  (two principal components explain {first + second:.1%} of the training latents' variance)"
    screen.result(document, short=str(path), text=text)


def parse_dims(text: str | None, latent_dim: int, most: int) -> list[int] | None:
    """The dimensions of ``--dims``.

    Raises:
        UsageError: It is not a list of one to ``most`` different dimensions of the run.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    dims = [int(part) for part in parts if part.isdecimal() and len(part) < 7]
    if len(dims) != len(parts) or len(set(dims)) != len(dims) or len(dims) > most or max(dims) >= latent_dim:
        if latent_dim == 1:
            raise UsageError(f"--dims must be 0, the only latent dimension; got '{text}'")
        raise UsageError(
            f"--dims must be one to {most} different dimensions from 0 to {latent_dim - 1}, such as 0,1; got '{text}'"
        )
    return dims


def _scatter(session: Session, checkpoint: str, dims: list[int] | None, points: int) -> tuple[Figure, dict[str, Any]]:
    from vaectl.evaluation import latents
    from vaectl.output import plots

    model, data = session.model(checkpoint), session.data()
    examples = data.test.first(points)
    if len(examples) < points and points != DEFAULT_POINTS:
        session.screen.warn(f"-n {points}: the test split has {amount(len(examples), 'example')}; all are shown")
    view = latents.view_of(model, examples, data.train, dims)
    content = "posterior means" if view.origin else f"posterior mean and scale of {view.axes[0]}"
    title = f"{session.run.id}: {content} of {amount(len(examples), data.info.name + ' test example')}"
    prior = view.origin if session.run.spec.prior.name == "standard" else None
    figure = plots.scatter(
        view.points, examples.labels.numpy(), view.axes, title, data.info.classes,
        equal=view.origin is not None, prior=prior,
    )  # fmt: skip
    return figure, {"n": len(examples), "axes": list(view.axes), "explained_variance": list(view.explained)}


def _codes(session: Session, checkpoint: str, points: int | None) -> tuple[Figure, dict[str, Any]]:
    """Plot how often each code is used, and where codes are in a few images."""
    import torch

    from vaectl.evaluation import latents
    from vaectl.model.distributions.codes import CodeUsage
    from vaectl.output import grids, plots

    model, data = session.model(checkpoint), session.data()
    space = model.space
    if not space.codebook_size:
        raise UsageError(f"{session.run.id} has no codes: its latents are vectors", hint="use --kind scatter")
    examples = data.test if points is None else data.test.first(points)
    indices = torch.cat([part.indices for part in latents.encodings(model, examples.to(session.device))])
    usage = CodeUsage(torch.bincount(indices.flatten(), minlength=space.codebook_size))
    # picked at random, because data may be sorted by class
    few = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0))[:PICTURED]
    # the colour of a code is its rank by use, so that frequent codes get different colours
    rank = usage.counts.argsort(descending=True).argsort()
    height, width = space.grid
    title = (
        f"{session.run.id}: {usage.used} of {space.codebook_size} codes used, perplexity {usage.perplexity:.1f} "
        f"({amount(len(examples), data.info.name + ' test example')}, {height} x {width} codes each)"
    )
    pictures = [
        (grids.grid(examples.batch(few[i : i + 1]).x, span=session.run.data_info.range), rank[indices[few[i]]].numpy())
        for i in range(len(few))
    ]
    figure = plots.code_usage(usage.counts.numpy(), usage.perplexity, pictures, title)
    return figure, {"n": len(examples), "grid": [height, width], **usage.metrics()}


def _manifold(session: Session, checkpoint: str, dims: list[int] | None) -> tuple[Figure, dict[str, Any]]:
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


def _traversal(
    session: Session, checkpoint: str, dims: list[int] | None, seed: int | None
) -> tuple[Figure, dict[str, Any]]:
    from vaectl.evaluation import latents
    from vaectl.output import grids, plots

    model, test, info = session.model(checkpoint), session.data().test, session.data().info
    order, kl = _by_kl(session, checkpoint)
    latent_dim = session.run.spec.latent_dim
    dims = sorted(order[:MOST_TRAVERSALS] if dims is None else dims, key=order.index)
    row = _telling(session, model) if seed is None else _drawn(len(test), seed)
    example = test.batch(slice(row, row + 1)).to(session.device)
    latent = latents.encode(model, test.first(row + 1).to(session.device)).mean[row].to(session.device)
    images, values = latents.traversal(model, latent, dims, given=example.given)
    nearest = [(values[:, k] - latent[dim]).abs().argmin().item() for k, dim in enumerate(dims)]
    label = int(test.labels[row])
    name = info.classes[label] if 0 <= label < len(info.classes) else str(label)
    some = f"{len(dims)} of {latent_dim} dimensions, by KL" if len(dims) < latent_dim else "dimensions by KL"
    title = f"{session.run.id}: traversals from test example {row}" + (f" (class {name})" if label >= 0 else "")
    span = session.run.data_info.range
    figure = plots.sheet(
        grids.grid(images, len(values), span=span),
        f"{title}; {some}; framed: the step nearest to its own value",
        x=("value of the dimension", [f"{value:.1f}" for value in values[:, 0].tolist()]),
        y=("", [f"z{dim}: KL {kl[dim]:.2f} nats" for dim in dims]),
        beside=[("original", grids.grid(example.x, span=span))],
        framed=[(line, int(step)) for line, step in enumerate(nearest)],
    )
    return figure, {"dims": dims, "kl": [kl[dim] for dim in dims], "test_image": row}


def _drawn(count: int, seed: int) -> int:
    import torch

    return int(torch.randint(count, (1,), generator=torch.Generator().manual_seed(seed)))


def _telling(session: Session, model: VAE) -> int:
    """The test example nearest to the mean latent of its class, in the class whose latents vary most.

    It is typical of a class that has much to vary; of the first examples, as many as a scatter shows.
    """
    import numpy as np

    from vaectl.evaluation import latents

    examples = session.data().test.first(DEFAULT_POINTS)
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
