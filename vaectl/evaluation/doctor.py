"""The doctor: detects problems of a training by fixed thresholds, and suggests a flag to try.

It reads plain numbers, a spec and a history, and needs no torch. KL and ELBO are in nats per example.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vaectl.config.spec import Spec
from vaectl.errors import amount
from vaectl.stats import on_target
from vaectl.system.reading import has_numbers

# with a smaller KL a latent cannot even distinguish two equal halves of the data: I(x; z) <= KL
COLLAPSED_KL = math.log(2)
# a problem is reported during training once it has lasted for this many consecutive epochs
LASTING_EPOCHS = 3
# fewer optimizer steps are too few for any network: nothing is reported during training before, and the first remedy is
# to train for longer
SHORT_STEPS = 500
# fraction of the scales that may be at an end of their range
SATURATED_PART = 0.01
# how far the training ELBO may be above the validation ELBO, in standard deviations of the latter over examples
OVERFITTING_GAP = 0.25
# how far it must be above it in standard errors to be significant, and the smallest number of examples to estimate one
CLEAR_ERRORS, FEWEST_EXAMPLES = 2.5, 10
# options of objectives that weight the information in the latents -> name for the user; the first one present is used
INFORMATION_WEIGHTS = {"alpha": "objective.alpha", "beta": "--beta"}
# a posterior and a prior with a KL per dimension, which free bits need
FACTORISED = ("gaussian", "standard")
# fraction of a codebook that must be used
LEAST_CODES = 0.1
# fraction of beta that counts as reached
REACHED = 0.99


@dataclass(frozen=True)
class Finding:
    """A problem of a training.

    Attributes:
        name: Name of the finding.
        problem: The observation.
        remedy: Flags to try.
        harmless: Whether the problem can be ignored.
    """

    name: str
    problem: str
    remedy: str
    harmless: bool = False

    @property
    def sentence(self) -> str:
        """The finding in one sentence."""
        return f"{self.name}: {self.problem}; try {self.remedy}"

    def to_json(self) -> dict[str, str]:
        """``name``, ``problem`` and ``try``."""
        return {"name": self.name, "problem": self.problem, "try": self.remedy}


def forecast(spec: Spec) -> list[Finding]:
    """Findings before the first step: a warm-up that cannot finish."""
    warmup, epochs = _warmup(spec), spec.training.epochs
    if warmup <= epochs:
        return []
    problem = f"a warm-up of {amount(warmup, 'epoch')} cannot finish within {epochs}"
    return [Finding("unfinished warm-up", problem, _finishing(spec))]


def examine(
    spec: Spec,
    history: Sequence[Mapping[str, Any]],
    sizes: Mapping[str, int],
    metrics: Mapping[str, Any] | None = None,
    *,
    hard_scale: str = "",
) -> list[Finding]:
    """Examine the current state of a training.

    Args:
        spec: The run's spec.
        history: The epochs so far, as in ``metrics.jsonl``.
        sizes: Number of examples by split.
        metrics: An evaluation of the finished model; None during training, where only problems that have lasted for
            the last epochs' validations are found.
        hard_scale: Why the data are hard to learn on the scale that the model sees, or empty; it comes first, because
            it may be the cause of all others.
    """
    rows = [row for row in history if has_numbers(row, "epoch", "step", "elbo", "beta")]
    validated = [row for row in rows if has_numbers(row.get("validation"), "elbo", "kl")]
    scale = [Finding("unlike scale", f"{hard_scale}, and the model sees them so", "--normalize standard")]
    if metrics is None:
        recent = validated[-LASTING_EPOCHS:]
        if len(recent) < LASTING_EPOCHS or recent[0]["epoch"] < _warmup(spec) or recent[-1]["step"] < SHORT_STEPS:
            return []
        signs: list[Mapping[str, Any]] = [row["validation"] for row in recent]
        latent = list(_latent_findings(spec, signs, rows, sizes))
        findings = [*latent, *_saturated(spec, signs), *_overfitting(spec, recent, sizes)]
    else:
        latent = list(_latent_findings(spec, [metrics], rows, sizes))
        unfinished = list(_unfinished(spec, rows))
        findings = [*latent, *_saturated(spec, [metrics]), *unfinished, *_overfitting(spec, validated[-1:], sizes)]
        # a capacity that is still rising explains a missed target
        findings += [] if unfinished else _off_target(spec, metrics)
        if not latent:
            findings += _unused(spec, metrics)
    return [*(scale if hard_scale else []), *findings]


def _latent_findings(
    spec: Spec, signs: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], sizes: Mapping[str, int]
) -> Iterator[Finding]:
    if sizes["train"] <= math.exp(COLLAPSED_KL):
        return  # one or two images cannot need more information
    options, now = _weights(spec), signs[-1]
    # with such a low capacity or target an uninformative latent is intended
    target = min((options[name] for name in ("capacity", "target") if name in options), default=math.inf)
    emptiness = [_emptiness(sign) for sign in signs]
    collapsed = target > COLLAPSED_KL and all(emptiness)
    beta = options.get("beta", 1.0)
    if collapsed:
        problem = f"the latent holds almost no information about the example: {emptiness[-1]}"
        yield Finding("posterior collapse", problem, _against_collapse(spec, rows))
    if "codes_used" in now:
        yield from _codebook_findings(spec, signs, rows, sizes)
    elif beta > 1 and (collapsed or all(2 * s["active_units"] < spec.latent_dim for s in signs)):
        active = now["active_units"]
        of_all = f"{active} of {amount(spec.latent_dim, 'latent dimension')} {'is' if active == 1 else 'are'} active"
        problem = f"at beta = {beta:g} only {of_all}"
        yield Finding("over-strong beta", problem, f"--beta {max(1.0, beta / 4):g}")


def _codebook_findings(
    spec: Spec, signs: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], sizes: Mapping[str, int]
) -> Iterator[Finding]:
    used, codes = signs[-1]["codes_used"], signs[-1]["codes"]
    # with fewer positions than codes not all codes can be used
    positions = signs[-1]["uniform_bits"] / math.log2(codes)
    if positions * min(sizes["validation"] or sizes["test"], sizes["test"]) < codes:
        return
    if all(sign["codes_used"] < LEAST_CODES * codes for sign in signs):
        problem = f"only {used} of {codes} codes {'is' if used == 1 else 'are'} used"
        if spec.posterior.options.get("revive") == 0:
            yield Finding("codebook collapse", problem, "--set posterior.revive=0.03")
        elif rows and rows[-1]["step"] < SHORT_STEPS:
            yield Finding("codebook collapse", problem, _longer(rows))
        elif spec.posterior.options.get("codebook") == "loss":
            yield Finding("codebook collapse", problem, "--set posterior.codebook=ema or a lower --lr")
        else:
            yield Finding("codebook collapse", problem, "a lower --lr or fewer --codes")


def _emptiness(sign: Mapping[str, Any]) -> str:
    """Why a latent can hold almost no information about the example; empty if it may hold some."""
    kl = sign["kl"]
    if kl < COLLAPSED_KL:
        return f"the KL is {kl:.2g} nats, less than one bit"
    if sign.get("active_units") == 0:
        return f"no latent dimension is active (the KL of {kl:.2g} nats is the same for all images)"
    if has_numbers(sign, "mutual_information_upper", "mutual_information_upper_se"):
        most = sign["mutual_information_upper"] + 2 * sign["mutual_information_upper_se"]
        if most < COLLAPSED_KL:
            return (
                f"at most {most:.2g} nats; the KL of {kl:.2g} nats is mostly the distance of all latents from the prior"
            )
    return ""


def _against_collapse(spec: Spec, rows: Sequence[Mapping[str, Any]]) -> str:
    options = _weights(spec)
    if rows and rows[-1]["step"] < SHORT_STEPS:
        return _longer(rows)
    # at unit scale the likelihood of pixels in [0, 1] is so flat that information is hardly worth its KL
    if spec.likelihood.name == "mse":
        learned = "--likelihood gaussian, which learns its scale"
        return f"{learned}, or a --beta of 0.05" if "beta" in options else learned
    if spec.likelihood.options.get("scale") == "fixed":
        return "--set likelihood.scale=shared, which learns it, or a smaller likelihood.sigma"
    if options.get("beta", 1.0) > 1:
        return "a lower --beta"
    # if the KL is decomposed the warm-up applies to one part, and these are the others
    others = {name: options[name] for name in ("alpha", "gamma") if "alpha" in options and options.get(name, 0) > 0}
    if others:
        heaviest = max(others, key=lambda name: others[name])
        return f"--set objective.{heaviest}={others[heaviest] / 4:g}"
    if options.get("warmup_epochs") == 0:
        return f"--warmup-epochs {max(1, spec.training.epochs // 3)}"
    factorised = (spec.posterior.name, spec.prior.name) == FACTORISED
    return "--free-bits 0.5" if factorised and options.get("free_bits") == 0 else "a lower --lr"


def _longer(rows: Sequence[Mapping[str, Any]]) -> str:
    return f"more --epochs (training had only {amount(rows[-1]['step'], 'optimizer step')})"


def _saturated(spec: Spec, signs: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    posterior, likelihood = (
        min(s.get(f"{which}_saturation") or 0.0 for s in signs) for which in ("posterior", "likelihood")
    )
    if posterior > SATURATED_PART:
        problem = f"{posterior:.0%} of the posterior's standard deviations are below 0.001 or above 1000"
        # the weight of the information in the latents, if it can be set, limits the scales
        weight = next((flag for name, flag in INFORMATION_WEIGHTS.items() if name in _weights(spec)), None)
        remedy = f"a higher {weight} or a lower --lr" if weight else "a lower --lr"
        yield Finding("saturated posterior scale", problem, remedy)
    if likelihood > SATURATED_PART:
        problem = (
            f"{likelihood:.0%} of the likelihood's scales are at their floor, where the density of these pixels would "
            "grow without bound"
        )
        remedy = "--likelihood discretized-logistic"
        remedy += " or --set likelihood.scale=shared" if "scale" in spec.likelihood.options else ""
        yield Finding("saturated likelihood scale", problem, remedy)


def _unfinished(spec: Spec, rows: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    if not rows:
        return
    epoch, beta, target = rows[-1]["epoch"], rows[-1]["beta"], _weights(spec).get("beta")
    # a cyclical beta is low again at the start of a cycle, which is not an unfinished warm-up
    if target is not None and beta < REACHED * target and spec.objective.options.get("schedule") != "cyclical":
        problem = f"beta was {beta:.3g}, not {target:g}, when training ended after epoch {epoch}"
        yield Finding("unfinished warm-up", problem, _finishing(spec))
    elif epoch < _warmup(spec):
        problem = f"training ended after epoch {epoch} of a warm-up of {_warmup(spec)}"
        yield Finding("unfinished warm-up", problem, _finishing(spec))


def _off_target(spec: Spec, metrics: Mapping[str, Any]) -> Iterator[Finding]:
    options = _weights(spec)
    for name, gain in (("target", "k_i"), ("capacity", "gamma")):
        if name in options and not on_target(metrics["kl"], options[name]):
            problem = f"the KL is {metrics['kl']:.2f} nats, not {options[name]:g}"
            larger = f" or a larger objective.{gain}" if gain in options else ""
            yield Finding("KL off its target", problem, f"more --epochs{larger}")


def _finishing(spec: Spec) -> str:
    return f"--epochs {2 * max(1, _warmup(spec))} or --warmup-epochs {max(1, spec.training.epochs // 3)}"


def _overfitting(spec: Spec, rows: Sequence[Mapping[str, Any]], sizes: Mapping[str, int]) -> Iterator[Finding]:
    n = sizes["validation"]
    gaps = [
        (row["elbo"] - row["validation"]["elbo"], row["validation"]["elbo_se"])
        for row in rows
        if isinstance(row["validation"].get("elbo_se"), float)
    ]
    errors = max(OVERFITTING_GAP * math.sqrt(n), CLEAR_ERRORS)
    if gaps and n >= FEWEST_EXAMPLES and all(gap > errors * se for gap, se in gaps):
        problem = f"the training ELBO is {gaps[-1][0]:.2f} nats above the validation ELBO in the last epoch"
        remedy = f"lower {spec.size_flag} or a --weight-decay of 0.01"
        yield Finding("overfitting", problem, remedy if spec.training.patience else f"--patience 5, or {remedy}")


def _unused(spec: Spec, metrics: Mapping[str, Any]) -> Iterator[Finding]:
    active = metrics.get("active_units", 0)
    if 0 < active < spec.latent_dim:
        problem = f"{spec.latent_dim - active} of {spec.latent_dim} carry no information, which does no harm"
        remedy = f"--latent-dim {active} for an equally good, smaller latent"
        yield Finding("unused latent dimensions", problem, remedy, harmless=True)


def _warmup(spec: Spec) -> int:
    return int(_weights(spec).get("warmup_epochs", 0))


def _weights(spec: Spec) -> dict[str, float]:
    """The options of the objective that are numbers; one of a person's own may call something else by such a name."""
    options = spec.objective.options.items()
    return {name: value for name, value in options if isinstance(value, int | float) and not isinstance(value, bool)}
