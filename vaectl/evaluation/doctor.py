"""The doctor: ailments of a training, each from a stated threshold, with a flag to try.

It reads plain numbers, a spec and a history, and needs no torch. KL and ELBO are in nats per example.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vaectl.config.spec import Spec
from vaectl.stats import on_target
from vaectl.system.reading import has_numbers

# a code of less than this KL cannot even tell two equal halves of the data apart: I(x; z) <= KL
COLLAPSED_KL = math.log(2)
# beyond it an ailment seen during training is no passing weakness: so many epochs on end
LASTING_EPOCHS = 3
# fewer optimizer steps than this are short for any net: until then nothing is said during training, and the first
# remedy after it is to train on
SHORT_STEPS = 500
# part of the scales that may stand at an end of their range
SATURATED_PART = 0.01
# how far the training ELBO may be above the validation ELBO, in standard deviations of the latter over examples
OVERFITTING_GAP = 0.25
# how far it must be above it in standard errors to be no accident, and the fewest examples that tell a standard error
CLEAR_ERRORS, FEWEST_EXAMPLES = 2.5, 10
# the weight of what a code says of its example: option of an objective -> how a person names it; the first there is
INFORMATION_WEIGHTS = {"alpha": "objective.alpha", "beta": "--beta"}
# the posterior and the prior whose KL is known by dimension, as free bits need it
FACTORISED = ("gaussian", "standard")
# part of a codebook that is used at least
LEAST_CODES = 0.1
# part of beta that counts as reached
REACHED = 0.99


@dataclass(frozen=True)
class Finding:
    """An ailment: its name, what is seen, what to try, and whether it can be left as it is."""

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
    """What can be said before the first step: a warm-up that cannot finish."""
    warmup, epochs = _warmup(spec), spec.training.epochs
    if warmup <= epochs:
        return []
    problem = f"a warm-up of {warmup} epochs cannot finish within {epochs}"
    return [Finding("unfinished warm-up", problem, _finishing(spec))]


def examine(
    spec: Spec, history: Sequence[Mapping[str, Any]], sizes: Mapping[str, int], metrics: Mapping[str, Any] | None = None
) -> list[Finding]:
    """The ailments of a training as it stands.

    Args:
        spec: The run's spec.
        history: The epochs so far, as in ``metrics.jsonl``.
        sizes: Examples by split.
        metrics: An evaluation of the finished model; None during training, where the last epochs' validation is
            judged, and only what has lasted.
    """
    rows = [row for row in history if has_numbers(row, "epoch", "step", "elbo", "beta")]
    validated = [row for row in rows if has_numbers(row.get("validation"), "elbo", "kl")]
    if metrics is None:
        recent = validated[-LASTING_EPOCHS:]
        if len(recent) < LASTING_EPOCHS or recent[0]["epoch"] < _warmup(spec) or recent[-1]["step"] < SHORT_STEPS:
            return []
        signs: list[Mapping[str, Any]] = [row["validation"] for row in recent]
        code = list(_of_the_code(spec, signs, rows, sizes))
        found = [*code, *_saturated(spec, signs), *_overfitting(spec, recent, sizes)]
    else:
        code = list(_of_the_code(spec, [metrics], rows, sizes))
        unfinished = list(_unfinished(spec, rows))
        found = [*code, *_saturated(spec, [metrics]), *unfinished, *_overfitting(spec, validated[-1:], sizes)]
        # while a capacity still rises that is what is to be said
        found += [] if unfinished else _off_target(spec, metrics)
        if not code:
            found += _unused(spec, metrics)
    return found


def _of_the_code(
    spec: Spec, signs: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], sizes: Mapping[str, int]
) -> Iterator[Finding]:
    if sizes["train"] <= math.exp(COLLAPSED_KL):
        return  # of one or two images there is next to nothing to say
    options, now = spec.objective.options, signs[-1]
    # a capacity or a target this low asks for a code that says nothing
    asked = min((options[name] for name in ("capacity", "target") if name in options), default=math.inf)
    emptiness = [_emptiness(sign) for sign in signs]
    collapsed = asked > COLLAPSED_KL and all(emptiness)
    beta = options.get("beta", 1.0)
    if collapsed:
        problem = f"the code says next to nothing of the image: {emptiness[-1]}"
        yield Finding("posterior collapse", problem, _against_collapse(spec, rows))
    if "codes_used" in now:
        yield from _of_the_codebook(spec, signs, sizes)
    elif beta > 1 and (collapsed or all(2 * s["active_units"] < spec.latent_dim for s in signs)):
        problem = f"at beta = {beta:g} only {now['active_units']} of {spec.latent_dim} latent dimensions are active"
        yield Finding("over-strong beta", problem, f"--beta {max(1.0, beta / 4):g}")


def _of_the_codebook(spec: Spec, signs: Sequence[Mapping[str, Any]], sizes: Mapping[str, int]) -> Iterator[Finding]:
    used, codes = signs[-1]["codes_used"], signs[-1]["codes"]
    # fewer positions than codes cannot use all of them
    positions = signs[-1]["uniform_bits"] / math.log2(codes)
    if positions * min(sizes["validation"] or sizes["test"], sizes["test"]) < codes:
        return
    if all(sign["codes_used"] < LEAST_CODES * codes for sign in signs):
        problem = f"only {used} of {codes} codes are used"
        if spec.posterior.options.get("revive") == 0:
            yield Finding("codebook collapse", problem, "--set posterior.revive=0.03")
        elif spec.posterior.options.get("codebook") == "loss":
            yield Finding("codebook collapse", problem, "--set posterior.codebook=ema or a lower --lr")
        else:
            yield Finding("codebook collapse", problem, "a lower --lr or fewer --codes")


def _emptiness(sign: Mapping[str, Any]) -> str:
    """Why a code can say next to nothing of the image; empty where it may say something."""
    kl = sign["kl"]
    if kl < COLLAPSED_KL:
        return f"the KL is {kl:.2g} nats, less than one bit"
    if sign.get("active_units") == 0:
        return f"no latent dimension is active (the KL of {kl:.2g} nats is that of all codes alike)"
    if has_numbers(sign, "mutual_information_upper", "mutual_information_upper_se"):
        most = sign["mutual_information_upper"] + 2 * sign["mutual_information_upper_se"]
        if most < COLLAPSED_KL:
            return (
                f"at most {most:.2g} nats; the KL of {kl:.2g} nats is mostly the distance of all codes from the prior"
            )
    return ""


def _against_collapse(spec: Spec, rows: Sequence[Mapping[str, Any]]) -> str:
    options = spec.objective.options
    if rows and rows[-1]["step"] < SHORT_STEPS:
        return f"more --epochs (these were only {rows[-1]['step']} optimizer steps)"
    # of unit scale the likelihood of pixels in [0, 1] is so flat that hardly a code is worth its KL
    if spec.likelihood.name == "mse":
        learned = "--likelihood gaussian, which learns its scale"
        return f"{learned}, or a --beta of 0.05" if "beta" in options else learned
    if spec.likelihood.options.get("scale") == "fixed":
        return "--set likelihood.scale=shared, which learns it, or a smaller likelihood.sigma"
    if options.get("beta", 1.0) > 1:
        return "a lower --beta"
    # where the KL is taken apart the warm-up is of one part, and these are the others
    others = {name: options[name] for name in ("alpha", "gamma") if "alpha" in options and options[name] > 0}
    if others:
        heaviest = max(others, key=lambda name: others[name])
        return f"--set objective.{heaviest}={others[heaviest] / 4:g}"
    if options.get("warmup_epochs") == 0:
        return f"--warmup-epochs {max(1, spec.training.epochs // 3)}"
    factorised = (spec.posterior.name, spec.prior.name) == FACTORISED
    return "--free-bits 0.5" if factorised and options.get("free_bits") == 0 else "a lower --lr"


def _saturated(spec: Spec, signs: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    posterior, likelihood = (
        min(s.get(f"{which}_saturation") or 0.0 for s in signs) for which in ("posterior", "likelihood")
    )
    if posterior > SATURATED_PART:
        problem = f"{posterior:.0%} of the posterior's standard deviations are below 0.001 or above 1000"
        # what holds a scale back is the weight of the information in the code, where there is one to set
        weight = next((said for name, said in INFORMATION_WEIGHTS.items() if name in spec.objective.options), None)
        remedy = f"a higher {weight} or a lower --lr" if weight else "a lower --lr"
        yield Finding("saturated posterior scale", problem, remedy)
    if likelihood > SATURATED_PART:
        problem = (
            f"{likelihood:.0%} of the likelihood's scales stand at their floor, where the density of such pixels grows "
            "without bound"
        )
        remedy = "--likelihood discretized-logistic or --set likelihood.scale=shared"
        yield Finding("saturated likelihood scale", problem, remedy)


def _unfinished(spec: Spec, rows: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    if not rows:
        return
    epoch, beta, target = rows[-1]["epoch"], rows[-1]["beta"], spec.objective.options.get("beta")
    # a cyclical beta is low again where a cycle begins, and that is no warm-up cut short
    if target is not None and beta < REACHED * target and spec.objective.options.get("schedule") != "cyclical":
        problem = f"beta stood at {beta:.3g} and not at {target:g} when training ended, after epoch {epoch}"
        yield Finding("unfinished warm-up", problem, _finishing(spec))
    elif epoch < _warmup(spec):
        problem = f"training ended after epoch {epoch} of a warm-up of {_warmup(spec)}"
        yield Finding("unfinished warm-up", problem, _finishing(spec))


def _off_target(spec: Spec, metrics: Mapping[str, Any]) -> Iterator[Finding]:
    options = spec.objective.options
    for name, gain in (("target", "k_i"), ("capacity", "gamma")):
        if name in options and not on_target(metrics["kl"], options[name]):
            problem = f"the KL is {metrics['kl']:.2f} nats and not {options[name]:g}"
            yield Finding("KL off its target", problem, f"more --epochs or a larger objective.{gain}")


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
        remedy = f"smaller {spec.size_flag} or a --weight-decay of 0.01"
        yield Finding("overfitting", problem, remedy if spec.training.patience else f"--patience 5, or {remedy}")


def _unused(spec: Spec, metrics: Mapping[str, Any]) -> Iterator[Finding]:
    active = metrics.get("active_units", 0)
    if 0 < active < spec.latent_dim:
        problem = f"{spec.latent_dim - active} of {spec.latent_dim} carry nothing, which does no harm"
        remedy = f"--latent-dim {active} for a smaller code as good"
        yield Finding("unused latent dimensions", problem, remedy, harmless=True)


def _warmup(spec: Spec) -> int:
    epochs: int = spec.objective.options.get("warmup_epochs", 0)
    return epochs
