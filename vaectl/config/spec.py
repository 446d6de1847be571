"""Spec: the frozen, JSON-able description from which a model and its training are rebuilt.

A spec is a latent size, training settings and seven parts. Its flat form names every value by a dotted path
(``objective.beta``), as config files, ``--set`` and ``compare`` do.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from vaectl.errors import SettingError, did_you_mean, shown

PARTS = ("data", "encoder", "decoder", "posterior", "prior", "likelihood", "objective")
# settings that may change when a run is resumed
RESUMABLE = ("training.epochs", "training.prior_epochs", "training.patience")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Bounds:
    """The numbers that a setting may take: ``low <= x <= high``, or ``low < x`` where ``above`` is set."""

    low: float
    high: float
    above: bool = False

    def __contains__(self, value: float) -> bool:
        return (
            math.isfinite(value) and value <= self.high and (value > self.low or (value == self.low and not self.above))
        )

    def __str__(self) -> str:
        low, high = (f"{end:g}" if abs(end) < 1e5 else f"{end:,.0f}" for end in (self.low, self.high))
        return f"above {low} and at most {high}" if self.above else f"from {low} to {high}"


Dims = Annotated[tuple[int, ...], Bounds(1, 16384)]
NonNegative = Annotated[float, Bounds(0, 1e6)]
Count = Annotated[int, Bounds(0, 1_000_000)]
Size = Annotated[int, Bounds(1, 1_000_000)]
LatentDim = Annotated[int, Bounds(1, 16384)]
Seed = Annotated[int, Bounds(0, 2**32 - 1)]


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
    """

    epochs: Size = 30
    prior_epochs: Count = 0
    batch_size: Size = 128
    lr: Annotated[float, Bounds(0, 100, above=True)] = 1e-3
    weight_decay: Annotated[float, Bounds(0, 100)] = 0.0
    grad_clip: NonNegative = 1.0
    precision: Literal["fp32", "bf16"] = "fp32"
    patience: Count = 0
    seed: Seed = 0
    on_nonfinite: Literal["stop", "rollback"] = "stop"
    max_rollbacks: Size = 3
    rollback_factor: Annotated[float, Bounds(0, 1, above=True)] = 0.5


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
        """The flag that sets the size of the networks."""
        return "--hidden-dims" if "hidden_dims" in self.encoder.options else "--width"

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
                raise SettingError(path, "is no setting", hint=did_you_mean(path, paths))
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


def coerce(path: str, value: Any, hint: Any) -> Any:
    """``value`` as the type that an annotation asks for, within its bounds.

    Takes what a flag or a file can hold: a whole float for an int, ``"512,256"`` or a list for a tuple, ``"true"`` for
    a bool.

    Args:
        path: The setting's name, for the error.
        value: What was given.
        hint: int, float, bool, str, ``tuple[int, ...]``, a Literal or a union with None, maybe Annotated with Bounds.

    Raises:
        SettingError: The value is of another type or lies out of the bounds.
    """
    bounds = None
    if get_origin(hint) is Annotated:
        hint, bounds = get_args(hint)[:2]
    if get_origin(hint) in (Union, types.UnionType):
        if value is None:
            return None
        (hint,) = [option for option in get_args(hint) if option is not type(None)]
        if get_origin(hint) is Annotated:
            hint, bounds = get_args(hint)[:2]
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            allowed = ", ".join(map(str, get_args(hint)))
            raise SettingError(path, f"must be one of {allowed}; got {shown(value)}")
        return value
    if get_origin(hint) is tuple:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            items = [items]
        if not 1 <= len(items) <= 64:
            raise SettingError(path, f"must be 1 to 64 whole numbers; got {shown(value)}")
        element = Annotated[get_args(hint)[0], bounds] if bounds else get_args(hint)[0]
        try:
            return tuple(coerce(path, item, element) for item in items)
        except SettingError:
            raise SettingError(
                path, f"must be whole numbers {bounds or ''} with commas between, such as 512,256; got {shown(value)}"
            ) from None
    return _scalar(path, value, hint, bounds)


def _scalar(path: str, value: Any, kind: type, bounds: Bounds | None) -> Any:
    noun = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[kind]
    wanted = f"must be {noun}" + (f" {bounds}" if bounds else "")
    error = SettingError(path, f"{wanted}; got {shown(value)}")
    if kind is bool and isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if kind in (bool, str):
        if not isinstance(value, kind):
            raise error
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise error
    try:
        number = kind(value)
        exact = float(number) == float(value)
    except (ValueError, OverflowError):
        raise error from None
    if not exact or (bounds is not None and number not in bounds):
        raise error
    return number
