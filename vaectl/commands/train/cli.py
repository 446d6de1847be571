"""``vaectl train``: flags -> spec -> data -> model -> events, shown and saved as they come."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vaectl.commands.shared.options import (
    MACHINE,
    Device,
    Json,
    ProgressMode,
    Quiet,
    Verbose,
    complete_run,
    number,
    setting,
    state,
)
from vaectl.commands.shared.render import Screen
from vaectl.commands.shared.session import data_directory
from vaectl.commands.train.new import train
from vaectl.commands.train.processes import follow, leading
from vaectl.commands.train.resume import refuse_others, resume
from vaectl.config.recipes import RECIPES
from vaectl.config.settings import Layer, parse_assignments, read_config, resolve
from vaectl.errors import UsageError
from vaectl.runs.catalog import check_name
from vaectl.runs.run import Run
from vaectl.system.launcher import here

DATA, MODEL, OBJECTIVE, OPTIMIZATION, RUN = "Data", "Model", "Objective", "Optimization", "Run"


def train_cli(
    context: typer.Context,
    dataset: Annotated[
        str | None,
        setting(
            "--dataset",
            "mnist, fashion-mnist, kmnist, digits, glyphs, cifar10, svhn; auto is MNIST, or glyphs where it is not "
            "to be had. Or your own: a folder of images, .npy, .npz, .safetensors, .csv or .parquet.",
            DATA,
            "NAME|PATH",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            readable=False,
            show_default="data",
            help="Folder of data sets, in torchvision's layout; also VAECTL_DATA_DIR.",
            rich_help_panel=DATA,
        ),
    ] = None,
    validation_fraction: Annotated[
        str | None, setting("--validation-fraction", "Part of the training set held out, 0 to 0.9.", DATA)
    ] = None,
    test_fraction: Annotated[
        str | None,
        setting("--test-fraction", "Part of your own data that tests, where they have no test set; up to 0.9.", DATA),
    ] = None,
    image_size: Annotated[
        str | None,
        setting("--image-size", "Resize images to a side, or to height and width, in pixels.", DATA, "N|H,W"),
    ] = None,
    grayscale: Annotated[bool | None, setting("--grayscale", "Turn colours into grey levels.", DATA)] = None,
    binarize: Annotated[
        str | None,
        setting(
            "--binarize",
            "Draw pixels 0 or 1 from their grey levels: once, or for training anew in every epoch.",
            DATA,
            "none|static|dynamic",
        ),
    ] = None,
    skip_bad: Annotated[
        bool | None, setting("--skip-bad", "Go on without what of your own data cannot be used.", DATA)
    ] = None,
    label_column: Annotated[
        str | None,
        setting(
            "--label-column", "Column of a table that holds the labels; else label, class, target or y.", DATA, "NAME"
        ),
    ] = None,
    model: Annotated[
        str | None, setting("--model", f"Recipe that the defaults come from: {', '.join(RECIPES)}.", MODEL, "NAME")
    ] = None,
    network: Annotated[
        str | None, setting("--network", "Kind of encoder and decoder network.", MODEL, "mlp|conv|resnet")
    ] = None,
    latent_dim: Annotated[str | None, setting("--latent-dim", "Number of latent dimensions.", MODEL)] = None,
    hidden_dims: Annotated[
        str | None,
        setting("--hidden-dims", "Units of the layers of an mlp encoder; the decoder mirrors them.", MODEL, "N,N,..."),
    ] = None,
    width: Annotated[
        str | None,
        setting(
            "--width",
            "Channels of the first layer of conv and resnet; they double, up to eight times.",
            MODEL,
            recipe="vq-vae",
        ),
    ] = None,
    depth: Annotated[
        str | None,
        setting(
            "--depth",
            "Layers of conv and resnet, each of which halves the image; 0 halves it to 8 pixels or less.",
            MODEL,
            recipe="vq-vae",
        ),
    ] = None,
    activation: Annotated[
        str | None,
        setting("--activation", "Activation after each layer.", MODEL, "silu|relu|gelu|tanh|softplus"),
    ] = None,
    prior: Annotated[
        str | None,
        setting(
            "--prior",
            "Prior p(z) of the codes; the last two of a VQ-VAE.",
            MODEL,
            "standard|mixture|vamp|uniform|transformer",
        ),
    ] = None,
    likelihood: Annotated[
        str | None,
        setting(
            "--likelihood",
            "Likelihood p(x|z) of the pixels: bernoulli, continuous-bernoulli, gaussian, laplace, mse, categorical, "
            "discretized-logistic.",
            MODEL,
            "NAME",
        ),
    ] = None,
    codes: Annotated[
        str | None, setting("--codes", "Codes in the codebook of a VQ-VAE.", MODEL, recipe="vq-vae")
    ] = None,
    posterior_scale: Annotated[
        str | None,
        setting("--posterior-scale", "How sigma of q(z|x) is made.", MODEL, "softplus|log-variance"),
    ] = None,
    objective: Annotated[
        str | None,
        setting("--objective", "What training minimises.", OBJECTIVE, "elbo|iwae|capacity|kl-target|tc|vq"),
    ] = None,
    beta: Annotated[
        str | None,
        setting("--beta", "Weight of the KL after warm-up, 1 for the ELBO; of tc's total correlation.", OBJECTIVE),
    ] = None,
    beta_schedule: Annotated[
        str | None,
        setting(
            "--beta-schedule",
            "How the KL's weight rises over the warm-up; cyclical repeats it.",
            OBJECTIVE,
            "constant|linear|cosine|sigmoid|cyclical",
        ),
    ] = None,
    warmup_epochs: Annotated[
        str | None, setting("--warmup-epochs", "Epochs over which the KL's weight rises from 0.", OBJECTIVE)
    ] = None,
    free_bits: Annotated[
        str | None, setting("--free-bits", "Nats for each latent dimension that cost nothing.", OBJECTIVE)
    ] = None,
    commitment: Annotated[
        str | None,
        setting(
            "--commitment", "Weight of the distance between encoder and codes of a VQ-VAE.", OBJECTIVE, recipe="vq-vae"
        ),
    ] = None,
    epochs: Annotated[str | None, setting("--epochs", "Passes over the training set.", OPTIMIZATION)] = None,
    prior_epochs: Annotated[
        str | None,
        setting(
            "--prior-epochs",
            "Passes of a second stage, which fits the prior alone; 0 has none.",
            OPTIMIZATION,
            recipe="vq-vae",
        ),
    ] = None,
    batch_size: Annotated[str | None, setting("--batch-size", "Examples in an optimizer step.", OPTIMIZATION)] = None,
    lr: Annotated[str | None, setting("--lr", "Learning rate of Adam.", OPTIMIZATION)] = None,
    weight_decay: Annotated[
        str | None, setting("--weight-decay", "Decoupled weight decay (AdamW).", OPTIMIZATION)
    ] = None,
    grad_clip: Annotated[
        str | None, setting("--grad-clip", "Largest global L2 norm of the gradient; 0 does not clip.", OPTIMIZATION)
    ] = None,
    precision: Annotated[
        str | None,
        setting(
            "--precision",
            "What training computes the networks' products in; weights, log-probabilities and evaluation stay fp32.",
            OPTIMIZATION,
            "fp32|bf16",
        ),
    ] = None,
    patience: Annotated[
        str | None,
        setting("--patience", "Epochs without a better validation ELBO before stopping; 0 never stops.", OPTIMIZATION),
    ] = None,
    on_nonfinite: Annotated[
        str | None,
        setting(
            "--on-nonfinite",
            "What a loss that is not finite does: stop, or go back to the epoch's beginning with a lower lr.",
            OPTIMIZATION,
            "stop|rollback",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="ID", show_default="run<N>", help="Id of the run.", rich_help_panel=RUN),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            readable=False,
            show_default=False,
            help="Settings from a .toml or .json file, such as a run's config.json.",
            rich_help_panel=RUN,
        ),
    ] = None,
    from_run: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN",
            show_default=False,
            autocompletion=complete_run,
            help="Settings of another run; its weights are not taken.",
            rich_help_panel=RUN,
        ),
    ] = None,
    resume_run: Annotated[
        str | None,
        typer.Option(
            "--resume",
            metavar="RUN",
            show_default=False,
            autocompletion=complete_run,
            help="Go on with a run where it stands; only epochs, prior epochs and patience may be other ones.",
            rich_help_panel=RUN,
        ),
    ] = None,
    checkpoint_minutes: Annotated[
        float,
        typer.Option(
            "--checkpoint-minutes",
            metavar="FLOAT",
            parser=number(float, 0, 100_000),
            help="Minutes between checkpoints within an epoch; the end of each epoch is one, too.",
            rich_help_panel=RUN,
        ),
    ] = 5.0,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PART.OPTION=VALUE",
            show_default=False,
            help="Set any option of any part; may be given again.",
            rich_help_panel=RUN,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Load the data, show settings and model, stop.", rich_help_panel=RUN),
    ] = False,
    device: Device = "auto",
    seed: Annotated[str | None, setting("--seed", "Seed of weights, data order and samples.", MACHINE)] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
    progress: ProgressMode = "auto",
) -> None:
    """Train a VAE and save it as a new run."""
    place = here()
    if place.rank:
        follow(place, data_dir)
        return
    with leading(place) as processes:
        screen = Screen(quiet, verbose, as_json, progress)
        runs_dir, argv = state(context).runs_dir, state(context).argv
        flags = {
            "dataset": dataset, "validation_fraction": validation_fraction, "test_fraction": test_fraction,
            "image_size": image_size, "grayscale": grayscale or None, "binarize": binarize,
            "skip_bad": skip_bad or None, "label_column": label_column, "model": model,
            "network": network, "latent_dim": latent_dim, "hidden_dims": hidden_dims, "activation": activation,
            "width": width, "depth": depth, "codes": codes, "prior": prior, "likelihood": likelihood,
            "posterior_scale": posterior_scale, "objective": objective, "beta": beta, "beta_schedule": beta_schedule,
            "warmup_epochs": warmup_epochs, "free_bits": free_bits, "commitment": commitment, "epochs": epochs,
            "prior_epochs": prior_epochs, "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay,
            "grad_clip": grad_clip, "precision": precision, "patience": patience, "on_nonfinite": on_nonfinite,
            "seed": seed,
        }  # fmt: skip
        given = {key: value for key, value in flags.items() if value is not None}
        if resume_run is not None:
            others = {"set": assignments, "name": name, "config": config, "from": from_run, "dry_run": dry_run or None}
            refuse_others(resume_run, given | {key: value for key, value in others.items() if value is not None})
            resume(resume_run, given, screen, runs_dir, data_dir, device, argv, checkpoint_minutes, processes)
            return
        assigned = parse_assignments(assignments or [])
        for key in assigned:
            if key.replace("-", "_") in given:
                raise UsageError(f"--{key.replace('_', '-')} and --set {key} set the same")

        def flag_of(key: str) -> str:
            return f"--{key.replace('_', '-')}" if key in given else f"--set {key}"

        layers = [Layer("flag", {**given, **assigned}, flag_of)]
        if config is not None:
            layers.append(read_config(config))
        if from_run is not None:
            parent = Run.open(from_run, runs_dir)
            layers.append(Layer("from", parent.spec.flat(), lambda key: f"{key} of {parent.id}"))
        resolved = resolve(layers)
        if name is not None:
            check_name(name, runs_dir)
        directory = _home(resolved.spec.data.name, data_dir)
        train(resolved, screen, runs_dir, name, directory, device, argv, checkpoint_minutes, processes, dry_run=dry_run)


def _home(dataset: str, data_dir: Path | None) -> Path:
    """The folder that a data set is in: the data directory, or that of a path."""
    from vaectl.data.paths import is_path, located

    if not is_path(dataset):
        return data_directory(data_dir)
    if data_dir is not None:
        raise UsageError("--data-dir is for built-in data sets; --dataset names a path of its own")
    return Path(located(dataset)).parent
