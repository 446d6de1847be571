"""Builds the model and the objective of a spec; the one file that knows every family."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

import torch

from vaectl.config.datasets import DataOptions, is_given, is_path, located
from vaectl.config.spec import PARTS, Part, Spec, Training, coerce
from vaectl.config.values import canonical
from vaectl.data.batch import Batch
from vaectl.data.info import DataInfo
from vaectl.data.loading import SOURCES
from vaectl.data.report import fitting
from vaectl.errors import SettingError, UsageError, VaectlError, did_you_mean, which_part
from vaectl.model.distributions.codes import CODES, VECTORS
from vaectl.model.distributions.scaled import Scale
from vaectl.model.likelihoods import LIKELIHOODS, SQUARED_ERROR
from vaectl.model.networks import DECODERS, ENCODERS
from vaectl.model.objectives import OBJECTIVES, Objective, TrainingSet
from vaectl.model.parts import Decoder, Encoder, Prior, Sizes
from vaectl.model.posteriors import POSTERIORS
from vaectl.model.priors import PRIORS
from vaectl.model.vae import VAE
from vaectl.system.reading import size_text
from vaectl.system.runtime import memory, seed_streams, seeded

# family -> the dict that its members are registered in
FAMILIES: Mapping[str, dict[str, Any]] = {
    "data": SOURCES,
    "encoder": ENCODERS,
    "decoder": DECODERS,
    "posterior": POSTERIORS,
    "prior": PRIORS,
    "likelihood": LIKELIHOODS,
    "objective": OBJECTIVES,
}


def complete(spec: Spec) -> Spec:
    """The spec with every part's options checked against its constructor, and its defaults filled in.

    Raises:
        SettingError: A name or an option is unknown, a value has the wrong type or lies out of its bounds, or a
            training setting would be ignored.
    """
    parts: dict[str, Any] = {part: complete_part(part, getattr(spec, part)) for part in PARTS}
    completed = dataclasses.replace(spec, **parts)
    training, usual = spec.training, Training()
    if training.patience and not completed.data.options["validation_fraction"]:
        raise SettingError("training.patience", "needs a validation split; --validation-fraction is 0")
    for name in ("max_rollbacks", "rollback_factor"):
        if training.on_nonfinite == "stop" and getattr(training, name) != getattr(usual, name):
            raise SettingError(f"training.{name}", "is for --on-nonfinite rollback")
    return completed


def members_of(family: str) -> Mapping[str, Callable[..., Any]]:
    """The constructors of a family by name, also of members that were registered since; of data sets their options."""
    return dict.fromkeys(("auto", *SOURCES), DataOptions) if family == "data" else FAMILIES[family]


def complete_part(family: str, part: Part) -> Part:
    """A part with its options checked against its constructor, and its defaults filled in; errors as ``complete``."""
    members = members_of(family)
    if family == "data" and (is_path(part.name) or is_given(part.name)):
        test = part.options.get("test")
        options = {**part.options, **({"test": located(test)} if isinstance(test, str) else {})}
        part = Part(part.name if is_given(part.name) else located(part.name), options)
        members = {part.name: DataOptions}
    part = Part(canonical(part.name, members), part.options)
    if part.name not in members:
        raise SettingError(
            f"{family}.name",
            f"must be one of {', '.join(members)}{', or a path' if family == 'data' else ''}; got '{part.name}'",
            hint=which_part(part.name, members),
        )
    constructor = members[part.name]
    signature = inspect.signature(constructor)
    hints = get_type_hints(constructor.__init__ if inspect.isclass(constructor) else constructor, include_extras=True)
    allowed = {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for name in part.options:
        if name not in allowed:
            hint = did_you_mean(name, allowed) if allowed else f"{part.name} takes no options"
            raise SettingError(f"{family}.{name}", f"is not an option of {family} '{part.name}'", hint=hint)
    options = {
        name: coerce(f"{family}.{name}", part.options.get(name, default), hints[name])
        for name, default in allowed.items()
    }
    return Part(part.name, options)


def measure(spec: Spec, info: DataInfo) -> str:
    """The measure of the log-probabilities of a spec's likelihood on this data; different measures are not compared.

    Raises:
        UsageError: The likelihood does not take the data's support; the hint names the flag to change.
    """
    measures = LIKELIHOODS[spec.likelihood.name].measures
    if info.support in measures:
        kind = measures[info.support]
        # a density is converted to the data's units; a squared error cannot be
        scaled = kind == SQUARED_ERROR and info.units is not None and info.units.are_applied
        return f"{kind} on the scale of the model ({info.units.method})" if scaled and info.units else kind
    suited = [name for name, likelihood in LIKELIHOODS.items() if info.support in likelihood.measures]
    taken = " or ".join(sorted(measures))
    fits, why = fitting(info.support, info.shape)
    raise UsageError(
        f"likelihood '{spec.likelihood.name}' takes {taken} data; {info.name} is {info.support}",
        hint=f"use --likelihood {fits[0]} ({why}); likelihoods of {info.support} data: {', '.join(suited)}",
    )


def build(spec: Spec, info: DataInfo, copies: int = 1) -> tuple[VAE, Objective]:
    """The model and the objective of a spec, sized for the data, with the initial weights of the spec's seed.

    Args:
        spec: The spec.
        info: The description of its data.
        copies: How many times the weights will be in memory.

    Raises:
        SettingError: As ``complete``.
        UsageError: The likelihood does not take the data's support, the prior or the objective does not take the
            posterior's latents, or the objective needs the KL by latent dimension and q or p does not factorise.
        VaectlError: The model does not fit into memory.
    """
    spec = complete(spec)
    measure(spec, info)
    _check_latents(spec)
    _check_weight(spec)
    blueprint(spec, info, copies)
    try:
        model, objective = _assemble(spec, info)
    except (MemoryError, RuntimeError) as error:
        raise _too_large(spec, str(error).splitlines()[0]) from None
    if spec.training.prior_epochs and not any(True for _ in model.prior.parameters()):
        raise SettingError(
            "training.prior_epochs",
            f"fits the prior, and prior '{spec.prior.name}' has nothing to fit; got {spec.training.prior_epochs}",
            hint="leave out --prior-epochs, or choose a --prior that learns",
        )
    _check_levels(spec, model, objective)
    if objective.needs_factors and not _kl_factorises(model, info):
        raise UsageError(
            f"objective '{spec.objective.name}' as it is set needs the KL by latent dimension, which posterior "
            f"'{spec.posterior.name}' and prior '{spec.prior.name}' do not give",
            hint="use --objective elbo with --free-bits 0",
        )
    return model, objective


def _gives(spec: Spec) -> str:
    """The kind of latents that a spec's posterior gives."""
    return POSTERIORS[spec.posterior.name].gives


def _check_latents(spec: Spec) -> None:
    """Raise a UsageError unless the prior and the objective take the latents that the posterior gives."""
    gives = _gives(spec)
    families: dict[str, Mapping[str, type[Prior] | type[Objective]]] = {"prior": PRIORS, "objective": OBJECTIVES}
    for family, takers in families.items():
        name = getattr(spec, family).name
        if gives not in takers[name].takes:
            suited = [other for other, member in takers.items() if gives in member.takes]
            raise UsageError(
                f"{family} '{name}' does not take the {gives} of posterior '{spec.posterior.name}'",
                hint=f"for it use --{family} {' or '.join(suited)}",
            )


def _check_weight(spec: Spec) -> None:
    """Raise a SettingError if a weight on the KL would have no effect: the KL of a fixed codebook is a constant."""
    if _gives(spec) != CODES:
        return
    for name, usual in (("beta", 1.0), ("warmup_epochs", 0)):
        if spec.objective.options.get(name, usual) != usual:
            raise SettingError(
                f"objective.{name}",
                f"weights the KL, which is a constant for the codes of posterior '{spec.posterior.name}'",
                hint="leave it out",
            )


def blueprint(spec: Spec, info: DataInfo, copies: int = 1) -> VAE:
    """The model without memory: its tensors have names, types and shapes, and lie on torch's "meta" device.

    Args:
        spec: A complete spec.
        info: The description of its data.
        copies: How many times the weights will be in memory.

    Raises:
        VaectlError: The weights do not fit into this machine's memory.
    """
    try:
        with torch.device("meta"):
            model, objective = _assemble(spec, info)
    except RuntimeError as error:
        raise _too_large(spec, str(error).splitlines()[0]) from None
    weights = [*model.parameters(), *objective.parameters()]
    parameters = sum(parameter.numel() for parameter in weights)
    size, available = copies * sum(p.numel() * p.element_size() for p in weights), memory()
    if size > available:
        times = f", {copies} times over," if copies > 1 else ""
        raise _too_large(
            spec, f"{parameters:,} parameters{times} need {size_text(size)}, and there are {size_text(available)}"
        )
    return model


def _too_large(spec: Spec, problem: str) -> VaectlError:
    return VaectlError(f"the model cannot be made: {problem}", hint=f"lower {spec.size_flag} or --latent-dim")


def _check_levels(spec: Spec, model: VAE, objective: Objective) -> None:
    """Raise a UsageError if the objective cannot train a model of several levels."""
    if objective.needs_one_level and model.space.levels > 1:
        raise UsageError(
            f"objective '{spec.objective.name}' as it is set takes one level of latents; posterior "
            f"'{spec.posterior.name}' has {model.space.levels}",
            hint="use --objective elbo",
        )


@torch.no_grad()
def _kl_factorises(model: VAE, info: DataInfo) -> bool:
    given = torch.zeros(1, info.given) if info.given else None
    batch = Batch(torch.zeros(1, *info.shape), given)
    with seeded(0):
        return model.draw(batch).kl_per_dim.shape[1] > 0


def _assemble(spec: Spec, info: DataInfo) -> tuple[VAE, Objective]:
    """Make the model and then its objective, both with initial weights from the spec's seed."""
    weights_seed, _, _ = seed_streams(spec.training.seed)
    with seeded(weights_seed):
        sizes = Sizes(info.shape, vector=_gives(spec) == VECTORS, given=info.given, missing=info.missing)
        network = ENCODERS[spec.encoder.name](sizes, **spec.encoder.options)
        posterior = POSTERIORS[spec.posterior.name](network.features, spec.latent_dim, **spec.posterior.options)
        encoder, space = Encoder(network, posterior), posterior.space
        prior = PRIORS[spec.prior.name](space, info.shape, info.support, info.given, **spec.prior.options)
        network = DECODERS[spec.decoder.name](Sizes(space.shape, info.shape, given=info.given), **spec.decoder.options)
        likelihood = LIKELIHOODS[spec.likelihood.name](network.features, info.shape, **spec.likelihood.options)
        model = VAE(encoder, prior, Decoder(network, likelihood), _scale(spec, info))
        training_set = TrainingSet(info.sizes["train"], spec.training.batch_size)
        return model, OBJECTIVES[spec.objective.name](training_set, space, **spec.objective.options)


def _scale(spec: Spec, info: DataInfo) -> Scale | None:
    """The scale on which the model sees real data; None if it sees the data's own numbers."""
    if info.units is None or not info.units.are_applied:
        return None
    return Scale(info.units, density=LIKELIHOODS[spec.likelihood.name].measures[info.support] != SQUARED_ERROR)
