"""The table of settings: name, place in the spec, type and help of each, here and nowhere else.

Flags of ``vaectl train``, keys of config files, keyword arguments of recipes, ``docs/cli.md`` and shell completion
come from it. The registries of parts import torch, so their names come from ``families``, which
``just docs`` writes; parts that are registered later, such as a plug-in's, are known to the registries alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from vaectl.config import families
from vaectl.config.datasets import SOURCES, SUFFIXES, DatasetName, is_given, is_path
from vaectl.config.values import (
    Activation,
    BetaSchedule,
    Binarize,
    Channels,
    CodebookSize,
    Count,
    Depth,
    Dims,
    ImageSize,
    LatentDim,
    LearningRate,
    Names,
    NonNegative,
    Normalize,
    OnNonfinite,
    PosteriorScale,
    Precision,
    Seed,
    Shape,
    Size,
    TestFraction,
    ValidationFraction,
    WeightDecay,
    Width,
    canonical,
    coerce,
)
from vaectl.errors import SettingError, UsageError, nearest, shown, which_part
from vaectl.synonyms import FLAGS

PARTS = ("data", "encoder", "decoder", "posterior", "prior", "likelihood", "objective")

# panels of the help
DATA, MODEL, OBJECTIVE, OPTIMIZATION, MACHINE = "Data", "Model", "Objective", "Optimization", "Machine"


@dataclass(frozen=True)
class Setting:
    """One setting that has a name of its own.

    Attributes:
        name: The name; the flag has dashes for its underscores.
        paths: The paths in the spec that it sets.
        kind: Its type, possibly with bounds: an annotation that ``values.coerce`` takes.
        panel: The panel of the help that its flag is in.
        help: Its help text.
        metavar: The placeholder for a value in the help, if the type does not give one.
        recipe: The recipe whose default the help shows.
        mirrored: Whether the second path takes the values in reverse.
        takes_paths: Whether a path may be given instead of a name.
        names: Names of recipes or parts that are allowed; others may have been registered since.
        rare: Whether it is seldom needed, so that the help only names it.
    """

    name: str
    paths: tuple[str, ...]
    kind: Any
    panel: str
    help: str
    metavar: str | None = None
    recipe: str = "vae"
    mirrored: bool = False
    takes_paths: bool = False
    names: tuple[str, ...] = ()
    rare: bool = False

    @property
    def flag(self) -> str:
        """The flag: ``--latent-dim``."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed names; empty for a setting that is not a name."""
        return self.names or (get_args(self.kind) if get_origin(self.kind) is Literal else ())

    @property
    def is_switch(self) -> bool:
        """Whether its flag takes no value."""
        return self.kind is bool

    @property
    def placeholder(self) -> str:
        """The placeholder for a value in the help."""
        kind = get_args(self.kind)[0] if get_origin(self.kind) is Annotated else self.kind
        return self.metavar or "|".join(self.choices) or {int: "N", float: "X"}[kind]

    def spelled(self, value: Any) -> Any:
        """A name as the table spells it, whatever its case; any other value unchanged."""
        if self.takes_paths and isinstance(value, str) and is_path(value):
            return value
        return canonical(value, self.choices)

    def checked(self, path: str, value: Any) -> Any:
        """Convert a value for one of the paths to the setting's type.

        Raises:
            SettingError: It has another type, is out of bounds, or is not one of the choices.
        """
        value = self.spelled(value)
        if not self.takes_paths:
            return coerce(path, value, self.kind)
        choices = dict.fromkeys((*self.choices, *SOURCES))
        if not (isinstance(value, str) and (value in choices or is_path(value) or is_given(value))):
            raise SettingError(
                path,
                f"must be one of {', '.join(choices)}, or a path; got {shown(value)}",
                hint=which_part(str(value), choices),
            )
        return value

    def at(self, path: str, value: Any) -> Any:
        """The value at a path, for a value of the setting or of its first path.

        Raises:
            SettingError: It has to be mirrored, and is not a list of numbers.
        """
        if self.mirrored and path != self.paths[0]:
            return tuple(reversed(coerce(self.paths[0], value, self.kind)))
        return self.spelled(value)


def _both(option: str) -> tuple[str, str]:
    """The paths of an option that encoder and decoder have."""
    return f"encoder.{option}", f"decoder.{option}"


_NAMES = ", ".join(get_args(DatasetName))

SETTINGS = (
    Setting(
        "dataset", ("data.name",), DatasetName, DATA,
        f"{_NAMES}; or the path of a folder of images or a file: {', '.join(SUFFIXES)}. auto is MNIST if it is there "
        "or can be downloaded, else glyphs.",
        metavar="NAME|PATH", takes_paths=True,
    ),
    Setting(
        "validation_fraction", ("data.validation_fraction",), ValidationFraction, DATA,
        "Part of the training set to hold out for validation, 0 to 0.9.", rare=True,
    ),
    Setting(
        "test_fraction", ("data.test_fraction",), TestFraction, DATA,
        "Part of your own data to hold out for testing if there is no test set; at most 0.9.", rare=True,
    ),
    Setting(
        "image_size", ("data.image_size",), ImageSize, DATA,
        "Resize images: one side, or height and width, in pixels.", metavar="N|H,W",
    ),
    Setting("grayscale", ("data.grayscale",), bool, DATA, "Turn colours into grey levels."),
    Setting(
        "binarize", ("data.binarize",), Binarize, DATA,
        "Draw pixels 0 or 1 from their grey levels: once (static), or anew in every training epoch (dynamic).",
    ),
    Setting(
        "normalize", ("data.normalize",), Normalize, DATA,
        "Scale real numbers for the model, each column of a table or images as a whole; all results stay in "
        "the data's units.",
    ),
    Setting(
        "crop", ("data.crop",), str | None, DATA,
        "Part of each image to keep before it is resized, in pixels.", metavar="center:N|center:H,W|X,Y,W,H", rare=True,
    ),
    Setting(
        "channels", ("data.channels",), Channels, DATA, "Make images grey (1) or colour (3), without transparency.",
        metavar="1|3", rare=True,
    ),
    Setting("invert", ("data.invert",), bool, DATA, "Exchange light and dark.", rare=True),
    Setting(
        "shape", ("data.shape",), Shape, DATA, "Shape of the image that each row of a table holds.",
        metavar="H,W[,C]", rare=True,
    ),
    Setting("classes", ("data.classes",), Names, DATA, "Keep these classes only.", metavar="NAME,..."),
    Setting(
        "skip_bad", ("data.skip_bad",), bool, DATA, "Skip examples of your own data that cannot be used.", rare=True,
    ),
    Setting(
        "label_column", ("data.label_column",), str | None, DATA,
        "Column of a table that holds the labels; by default label, class, target or y.", metavar="NAME", rare=True,
    ),
    Setting(
        "drop_column", ("data.drop_column",), Names, DATA, "Columns of a table to leave out.", metavar="NAME,...",
        rare=True,
    ),
    Setting(
        "group_column", ("data.group_column",), str | None, DATA,
        "Column of a table whose equal values stay in one split, such as a patient.", metavar="NAME", rare=True,
    ),
    Setting(
        "images_key", ("data.images_key",), str | None, DATA, "Name of the array or column that holds the images.",
        metavar="NAME", rare=True,
    ),
    Setting(
        "labels_key", ("data.labels_key",), str | None, DATA, "Name of the array or column that holds the labels.",
        metavar="NAME", rare=True,
    ),
    Setting(
        "test", ("data.test",), str | None, DATA, "Test examples in a file or folder of their own.", metavar="PATH",
        rare=True,
    ),
    Setting(
        "model", ("model",), str, MODEL,
        f"Recipe that the defaults come from: {', '.join(families.RECIPES)}.", metavar="NAME",
        names=families.RECIPES,
    ),
    Setting("network", _both("name"), str, MODEL, "Encoder and decoder network.", names=families.NETWORKS),
    Setting("latent_dim", ("latent_dim",), LatentDim, MODEL, "Number of latent dimensions."),
    Setting(
        "hidden_dims", _both("hidden_dims"), Dims, MODEL,
        "Units of each layer of an mlp encoder; the decoder mirrors them.", metavar="N,N,...", mirrored=True,
    ),
    Setting(
        "width", _both("width"), Width, MODEL,
        "Channels of the first layer of conv and resnet; each layer doubles them, up to eight times as many.",
        recipe="vq-vae", rare=True,
    ),
    Setting(
        "depth", _both("depth"), Depth, MODEL,
        "Layers of conv and resnet, each of which halves the image; 0 for as many as bring it to 8 pixels or less.",
        recipe="vq-vae", rare=True,
    ),
    Setting("activation", _both("activation"), Activation, MODEL, "Activation after each layer.", rare=True),
    Setting(
        "prior", ("prior.name",), str, MODEL, "Prior p(z); uniform and transformer are for VQ-VAEs.",
        names=families.PRIORS,
    ),
    Setting(
        "likelihood", ("likelihood.name",), str, MODEL,
        f"Likelihood p(x|z) of the pixels: {', '.join(families.LIKELIHOODS)}.", metavar="NAME",
        names=families.LIKELIHOODS,
    ),
    Setting(
        "codes", ("posterior.codes",), CodebookSize, MODEL, "Number of codes in the codebook of a VQ-VAE.",
        recipe="vq-vae", rare=True,
    ),
    Setting(
        "posterior_scale", ("posterior.scale",), PosteriorScale, MODEL,
        "How sigma of q(z|x) is made from the network's output.", rare=True,
    ),
    Setting(
        "objective", ("objective.name",), str, OBJECTIVE, "What training minimises; a model has its own.",
        names=families.OBJECTIVES, rare=True,
    ),
    Setting(
        "beta", ("objective.beta",), NonNegative, OBJECTIVE,
        "Weight of the KL after warm-up, 1 for the ELBO; for tc the weight of the total correlation.",
    ),
    Setting(
        "beta_schedule", ("objective.schedule",), BetaSchedule, OBJECTIVE,
        "How the KL's weight rises over the warm-up; cyclical repeats it.", rare=True,
    ),
    Setting(
        "warmup_epochs", ("objective.warmup_epochs",), Count, OBJECTIVE,
        "Epochs over which the KL's weight rises from 0.",
    ),
    Setting(
        "free_bits", ("objective.free_bits",), NonNegative, OBJECTIVE,
        "Nats of KL in each latent dimension that are not penalised.",
    ),
    Setting(
        "commitment", ("objective.commitment",), NonNegative, OBJECTIVE,
        "Weight of the distance between a VQ-VAE's encoder output and its codes.", recipe="vq-vae", rare=True,
    ),
    Setting("epochs", ("training.epochs",), Size, OPTIMIZATION, "Passes over the training set."),
    Setting(
        "prior_epochs", ("training.prior_epochs",), Count, OPTIMIZATION,
        "Passes of a second stage that fits the prior alone; 0 for no second stage.", recipe="vq-vae", rare=True,
    ),
    Setting("batch_size", ("training.batch_size",), Size, OPTIMIZATION, "Examples per optimizer step."),
    Setting("lr", ("training.lr",), LearningRate, OPTIMIZATION, "Learning rate of Adam."),
    Setting(
        "weight_decay", ("training.weight_decay",), WeightDecay, OPTIMIZATION, "Decoupled weight decay (AdamW).",
        rare=True,
    ),
    Setting(
        "grad_clip", ("training.grad_clip",), NonNegative, OPTIMIZATION,
        "Largest L2 norm of the whole gradient; 0 does not clip.",
    ),
    Setting(
        "precision", ("training.precision",), Precision, OPTIMIZATION,
        "Precision of the networks' products in training; weights, log-probabilities and evaluation stay fp32.",
        rare=True,
    ),
    Setting(
        "patience", ("training.patience",), Count, OPTIMIZATION,
        "Stop after so many epochs without a better validation ELBO; 0 never does.",
    ),
    Setting(
        "on_nonfinite", ("training.on_nonfinite",), OnNonfinite, OPTIMIZATION,
        "What to do if a loss is not finite: stop, or go back to the start of the epoch with a lower lr.", rare=True,
    ),
    Setting(
        "log_every", ("training.log_every",), Count, OPTIMIZATION,
        "Steps between two points in TensorBoard and steps.jsonl; 0 for one per epoch.",
    ),
    Setting("seed", ("training.seed",), Seed, MACHINE, "Seed of weights, data order and samples."),
)  # fmt: skip

BY_NAME: Mapping[str, Setting] = {setting.name: setting for setting in SETTINGS}
BY_PATH: Mapping[str, Setting] = {path: setting for setting in SETTINGS for path in setting.paths}
# flags that the help of a training only names, beside those of rare settings
RARE = (*(setting.flag for setting in SETTINGS if setting.rare), "--checkpoint-minutes")
# words of other programs for settings, by name
_WORDS = {word: tuple(flag[2:].replace("-", "_") for flag in flags) for word, flags in FLAGS.items()}
# options of the encoder that hold for a decoder of the same kind unless it has its own
PAIRED = tuple(s for s in SETTINGS if s.paths[0].startswith("encoder.") and s.name != "network")


def expand(
    values: Mapping[str, Any], label: Callable[[str], str], paths: Collection[str]
) -> dict[str, tuple[Any, str]]:
    """Translate settings to paths: path -> (value, its name in errors).

    Args:
        values: Values by name (``beta``) or path (``objective.beta``), with dashes or underscores.
        label: Name or path -> its name in errors, such as ``--beta``.
        paths: Paths of a spec; its parts may have further options.

    Raises:
        SettingError: A name is unknown, or a value that has to be mirrored is not a list of numbers.
        UsageError: Two names set one path.
    """
    out: dict[str, tuple[Any, str]] = {}
    for key, value in values.items():
        name, title = key.replace("-", "_"), label(key)
        if name in BY_NAME:
            try:
                targets = {path: BY_NAME[name].at(path, value) for path in BY_NAME[name].paths}
            except SettingError as error:
                raise error.named(title) from None
        elif name in paths or (name.count(".") == 1 and name.partition(".")[0] in PARTS):
            targets = {name: BY_PATH[name].spelled(value) if name in BY_PATH else value}
        else:
            hint = nearest(name, {*BY_NAME, *paths}, _WORDS) or "vaectl train --dry-run lists the settings"
            raise SettingError(title, "is not a known setting", hint=hint)
        for path, target in targets.items():
            if path in out:
                raise UsageError(f"{title} and {out[path][1]} both set {path}")
            out[path] = (target, title)
    return out


def overlay(flat: dict[str, Any], values: Mapping[str, Any]) -> dict[str, str]:
    """Set values in the flat form of a spec, in place.

    Another member of a family (``encoder.name``) drops the options of the old one. A ``PAIRED`` option that is set only
    for the encoder also applies to a decoder of the same kind.

    Returns:
        Path that was set -> path in ``values`` that its value comes from.

    Raises:
        SettingError: Layer sizes that have to be mirrored are not a list of numbers.
    """
    for part in PARTS:
        name = f"{part}.name"
        if part != "data" and name in values and values[name] != flat[name]:
            for path in [path for path in flat if path.startswith(f"{part}.") and path != name]:
                del flat[path]
    flat.update(values)
    origins = {path: path for path in values}
    for setting in PAIRED if flat["encoder.name"] == flat["decoder.name"] else ():
        own, other = setting.paths
        if own in values and other not in values:
            flat[other], origins[other] = setting.at(other, values[own]), own
    return origins
