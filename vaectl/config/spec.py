"""Spec: the frozen, JSON-able description from which a model and its training are rebuilt.

A spec is a latent size, training settings and seven parts. Its flat form names every value by a dotted path
(``objective.beta``), as config files, ``--set`` and ``compare`` do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from vaectl.config.table import BY_PATH, PARTS, expand, overlay
from vaectl.config.values import (
    Bounds,
    Count,
    Dims,
    Factor,
    LatentDim,
    LearningRate,
    NonNegative,
    OnNonfinite,
    Precision,
    Seed,
    Size,
    WeightDecay,
    coerce,
)
from vaectl.errors import SettingError, did_you_mean

__all__ = [
    "ALL", "PARTS", "RESUMABLE", "SPLITS", "Bounds", "Count", "Dims", "LatentDim", "NonNegative", "Part", "Seed",
    "Size", "Spec", "Training", "coerce", "flatten", "splits_of",
]  # fmt: skip

# settings that may change when a run is resumed
RESUMABLE = ("training.epochs", "training.prior_epochs", "training.patience")
SPLITS = ("train", "validation", "test")
# stands for all of them, one after the other
ALL = "all"


def splits_of(name: str) -> tuple[str, ...]:
    """The splits that a name stands for: itself, or all of them in order for ``all``."""
    return SPLITS if name == ALL else (name,)


@dataclass(frozen=True)
class Part:
    """A named member of a family (``mlp`` of the networks) and the options of its constructor."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Training:
    """How a model is trained.

    Attributes:
        epochs: Passes over the training split.
        prior_epochs: Passes of a second stage afterwards, which fits only the prior to the posteriors of the best
            weights; 0 for no second stage.
        batch_size: Examples per optimizer step.
        lr: Learning rate of Adam.
        weight_decay: Decoupled weight decay per step, times the learning rate (AdamW); 0 is plain Adam.
        grad_clip: Largest global L2 norm of the gradient; 0 does not clip.
        precision: Precision of the networks' products in training: ``fp32``, or ``bf16`` with fp32 weights,
            log-probabilities and evaluation.
        patience: Epochs without a better validation ELBO after which training stops; 0 never stops early.
        seed: Seed of weights, data order and posterior samples.
        on_nonfinite: Whether a non-finite loss or gradient stops training, or rolls it back to its last good state, the
            start of the epoch, with a lower learning rate.
        max_rollbacks: Largest number of rollbacks before training stops.
        rollback_factor: Factor for the learning rate at each rollback.
        log_every: Optimizer steps between two reports of their figures; 0 for one report per epoch. It does not affect
            what is trained.
    """

    epochs: Size = 30
    prior_epochs: Count = 0
    batch_size: Size = 128
    lr: LearningRate = 1e-3
    weight_decay: WeightDecay = 0.0
    grad_clip: NonNegative = 1.0
    precision: Precision = "fp32"
    patience: Count = 0
    seed: Seed = 0
    on_nonfinite: OnNonfinite = "stop"
    max_rollbacks: Size = 3
    rollback_factor: Factor = 0.5
    log_every: Count = 100


@dataclass(frozen=True)
class Spec:
    """Everything that defines a run, apart from the machine it runs on.

    Attributes:
        model: Name of the recipe that it is based on.
        latent_dim: Number of latent dimensions.
        data, encoder, decoder, posterior, prior, likelihood, objective: The seven parts.
        training: The training settings.
    """

    model: str
    latent_dim: LatentDim
    data: Part
    encoder: Part
    decoder: Part
    posterior: Part
    prior: Part
    likelihood: Part
    objective: Part
    training: Training = field(default_factory=Training)

    @property
    def size_flag(self) -> str:
        """The flag that sets the size of the networks; words where a network of one's own has another option for it."""
        flags = {"hidden_dims": "--hidden-dims", "width": "--width"}
        return next((flag for option, flag in flags.items() if option in self.encoder.options), "the networks' size")

    def to_json(self) -> dict[str, Any]:
        """The nested form in ``config.json``; a part is ``{"name": ..., option: value, ...}``."""
        document: dict[str, Any] = {"model": self.model, "latent_dim": self.latent_dim}
        for part in PARTS:
            value: Part = getattr(self, part)
            document[part] = {"name": value.name} | {k: _plain(v) for k, v in value.options.items()}
        document["training"] = dataclasses.asdict(self.training)
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Spec:
        """Read a spec that ``to_json`` wrote.

        Raises:
            SettingError: A key is missing or unknown, or a value has the wrong type or lies out of its bounds.
        """
        return cls.from_flat(flatten(document))

    def flat(self) -> dict[str, Any]:
        """Every value by its dotted path."""
        return flatten(self.to_json())

    def changed(self, **settings: Any) -> Spec:
        """Another spec, with these settings by the names of their flags: ``spec.changed(beta=2.0, epochs=3)``.

        A double underscore is a dot, so that ``objective__cycles=2`` reaches an option that has no flag. As on the
        command line, another network, prior, likelihood or objective comes without the options of the old one, another
        prior without a second stage unless ``prior_epochs`` is given, and layer sizes of the encoder are mirrored.

        Raises:
            SettingError: A name is unknown, or a value is of a wrong type or out of bounds. Names of parts and options
                without a flag are left to ``builder.complete``, which knows the parts that were registered.
            UsageError: Two names set one path.
        """
        flat = {path: tuple(value) if isinstance(value, list) else value for path, value in self.flat().items()}
        targets = expand({name.replace("__", "."): value for name, value in settings.items()}, str, flat)
        values = {path: value for path, (value, _) in targets.items()}
        if "model" in values:
            raise SettingError("model", "is chosen by its recipe, such as vaectl.beta_vae()")
        if values.get("prior.name", self.prior.name) != self.prior.name:
            flat["training.prior_epochs"] = 0
        try:
            for path in values:
                if path in BY_PATH and not path.endswith(".name"):
                    values[path] = BY_PATH[path].checked(path, values[path])
            overlay(flat, values)
            return Spec.from_flat(flat)
        except SettingError as error:
            raise (error.named(targets[error.path][1]) if error.path in targets else error) from None

    @classmethod
    def from_flat(cls, values: Mapping[str, Any]) -> Spec:
        """Build a spec from its flat form; ``builder.complete`` checks the options of parts.

        Raises:
            SettingError: A path is missing or unknown, or a value has the wrong type or lies out of its bounds.
        """
        paths = {"model", "latent_dim"} | {f"{part}.name" for part in PARTS}
        settings = get_type_hints(Training, include_extras=True)
        paths |= {f"training.{name}" for name in settings}
        for path in values:
            if path not in paths and (path.partition(".")[0] not in PARTS or path.count(".") != 1):
                raise SettingError(path, "is not a known setting", hint=did_you_mean(path, paths))
        for path in paths - values.keys():
            if not path.startswith("training."):
                raise SettingError(path, "is missing")
        parts = {}
        for part in PARTS:
            options = {path.partition(".")[2]: value for path, value in values.items() if path.startswith(f"{part}.")}
            parts[part] = Part(coerce(f"{part}.name", options.pop("name"), str), options)
        training = Training(
            **{
                name: coerce(f"training.{name}", values[f"training.{name}"], hint)
                for name, hint in settings.items()
                if f"training.{name}" in values
            }
        )
        return cls(
            model=coerce("model", values["model"], str),
            latent_dim=coerce("latent_dim", values["latent_dim"], LatentDim),
            training=training,
            **parts,
        )


def flatten(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested tables to dotted paths: ``{"a": {"b": 1}}`` becomes ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
