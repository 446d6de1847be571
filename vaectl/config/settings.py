"""Settings: flags, a config file and another run's config become one Spec.

A layer maps names to values. A name is a dotted path of the spec (``objective.beta``) or one of the short
names that flags and config files share (``beta``, ``hidden_dims``); dashes and underscores are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaectl.config.recipes import RECIPES
from vaectl.config.spec import Spec, flatten
from vaectl.config.table import BY_PATH, expand, overlay
from vaectl.errors import SettingError, UsageError, VaectlError, shown, which_part
from vaectl.system.reading import CONFIG_BYTES, LEVELS, check_depth, parse_json, read_text

MOST_DOTS = 100


@dataclass(frozen=True)
class Layer:
    """One source of settings.

    Attributes:
        source: ``flag``, ``config`` or ``from``: the source that ``run.json`` records for its values.
        values: Name or path -> value.
        label: Name -> its name in errors, such as ``--beta``.
    """

    source: str
    values: Mapping[str, Any]
    label: Callable[[str], str]


@dataclass(frozen=True)
class Resolved:
    """A spec, the source of each of its values by path, and each path's name for errors."""

    spec: Spec
    sources: Mapping[str, str]
    labels: Mapping[str, str]

    def named(self, error: SettingError) -> SettingError:
        """The same error under the name with which the user set the setting."""
        return error.named(self.labels[error.path]) if error.path in self.labels else error

    def check(self) -> None:
        """Check the values that the table knows, including names of parts, before torch is imported.

        ``builder.complete`` checks all of them.

        Raises:
            SettingError: A value has a wrong type, is out of bounds, or is not one of the choices.
        """
        for path, value in self.spec.flat().items():
            if path in BY_PATH:
                try:
                    BY_PATH[path].checked(path, value)
                except SettingError as error:
                    raise self.named(error) from None


def resolve(layers: Iterable[Layer]) -> Resolved:
    """Combine layers with the defaults of their recipe to a spec; an earlier layer wins.

    A layer that names another member of a family (``encoder.name``) drops the options that weaker layers set for the
    old one. An option that it sets only for the encoder also applies to a decoder of the same kind.

    Raises:
        SettingError: A training setting, the latent dimension or a part's name has a wrong type or is out of bounds.
        UsageError: An unknown name, or one setting given twice.
    """
    paths = RECIPES["vae"]().flat()
    expanded = [(layer.source, expand(layer.values, layer.label, paths)) for layer in layers]
    chosen = next((values["model"] for _, values in expanded if "model" in values), ("vae", "model"))
    model, label = chosen
    if not isinstance(model, str) or model not in RECIPES:
        raise UsageError(
            f"{label} must be one of {', '.join(RECIPES)}; got {shown(model)}", hint=which_part(str(model), RECIPES)
        )
    defaults: dict[str, Any] = RECIPES[model]().flat()
    flat = dict(defaults)
    expanded = [(source, _without_defaults_of_another(values, model)) for source, values in expanded]
    sources, labels = dict.fromkeys(flat, "default"), {path: path for path in flat}
    for source, values in reversed(expanded):
        try:
            origins = overlay(flat, {path: value for path, (value, _) in values.items()})
        except SettingError as error:
            raise error.named(values[error.path][1]) from None
        sources = {path: by for path, by in sources.items() if path in flat}
        for path, origin in origins.items():
            sources[path], labels[path] = source, values[origin][1]
    if flat["prior.name"] != defaults["prior.name"] and sources["training.prior_epochs"] == "default":
        flat["training.prior_epochs"] = 0  # the recipe's second stage is for its own prior
    try:
        return Resolved(Spec.from_flat(flat), sources, labels)
    except SettingError as error:
        raise error.named(labels.get(error.path, error.path)) from None


def _without_defaults_of_another(values: dict[str, tuple[Any, str]], model: str) -> dict[str, tuple[Any, str]]:
    """Drop from a layer of another recipe than ``model`` the values that are only that recipe's defaults.

    So ``--model beta-vae --from run1`` takes beta-VAE's beta, and not the one that a plain VAE has by default.
    """
    own = values.get("model", (model,))[0]
    if own == model or not isinstance(own, str) or own not in RECIPES:
        return values
    theirs, ours = RECIPES[own]().flat(), RECIPES[model]().flat()
    return {
        path: (value, label)
        for path, (value, label) in values.items()
        if theirs.get(path) == ours.get(path) or value != theirs.get(path)
    }


def read_config(file: Path) -> Layer:
    """Read a layer from a ``.toml`` or ``.json`` config file; tables name parts (``[objective]``).

    Raises:
        UsageError: The suffix is unknown, or the file does not parse or does not hold a table.
        VaectlError: The file cannot be read.
    """
    parse: dict[str, Callable[[str], Any]] = {".toml": _parse_toml, ".json": _parse_json}
    if file.suffix.lower() not in parse:
        raise UsageError(f"--config {file}: unknown format '{file.suffix}'", hint="allowed: .toml, .json")
    try:
        document = parse[file.suffix.lower()](read_text(file, CONFIG_BYTES))
    except OSError as error:
        raise VaectlError(f"--config {file}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"--config {file} is not valid {file.suffix[1:].upper()}: {error}") from None
    if not isinstance(document, dict):
        raise UsageError(f"--config {file} must hold a table of settings; got {type(document).__name__}")
    return Layer("config", flatten(document), lambda name: f"{name} in {file}")


def _parse_json(text: str) -> Any:
    return parse_json(text, any_number=True)


def _parse_toml(text: str) -> Any:
    import tomllib

    # the time for a key of n dotted parts grows as n^2, and a setting has two
    if any(line.count(".") > MOST_DOTS for line in text.splitlines() if not line.lstrip().startswith("#")):
        raise ValueError(f"a line has more than {MOST_DOTS} dots")
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"it has more than {LEVELS} levels") from None
    check_depth(document)
    return document


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Parse ``["objective.beta=4"]`` to ``{"objective.beta": 4}``; a value that is not JSON is a text.

    Raises:
        UsageError: An assignment has no ``=``, or a path is set twice.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        path, sign, text = assignment.partition("=")
        path = path.strip()
        if not sign or not path:
            raise UsageError(f"--set {assignment!r} is not an assignment", hint="write --set part.option=value")
        if path in values:
            raise UsageError(f"--set sets {path} twice")
        try:
            values[path] = _parse_json(text)
        except ValueError:
            values[path] = text
    return values
