"""`evaluate`: the figures by which predictive distributions are compared.

Log densities and entropies are in nats. Every figure is a plain float, ready for JSON.
"""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from .predictive import Predictive


@torch.no_grad()
def evaluate(
    pred: Predictive,
    y: Shaped[Tensor, "batch *out"],
    ood: Predictive | None = None,
    target_scale: float | Float[Tensor, " out"] = 1.0,
    num_bins: int = 15,
) -> dict[str, float]:
    """Judge predictions against the truth.

    Args:
        pred: the predictive distribution at the test inputs.
        y: the true targets, [batch, out] (or [batch] for one output), or class indices [batch].
        ood: predictions for out-of-distribution inputs, from the same model; adds `auroc_ood`.
        target_scale: what one unit of the (standardised) targets is worth in original units, in all or for
            each output; `nll` and `rmse` are then in original units. Regression only.
        num_bins: bins of confidence (classification) or levels of coverage (regression) in `ece`.

    Returns, with n test points and standard errors `*_se` over the test points:
        nll, nll_se: −(1/n) Σ log p(y), plus Σ_out log(target_scale).
        For classification —
        accuracy, accuracy_se: the share of points whose most probable class is the true one.
        ece: Σ_b (n_b/n)·|accuracy_b − confidence_b| over equal-width bins of the top probability (Guo et al.
            2017, equation 3).
        brier: (1/n) Σ_n Σ_c (p_c − 1[y = c])², from 0 to 2.
        entropy_total, entropy_aleatoric, entropy_epistemic: means over the points.
        For regression —
        rmse, rmse_se: √(mean over points and outputs of (target_scale·(y − E[y]))²).
        coverage_95: the share of targets inside the central 95 % interval.
        ece: the mean over levels ℓ = (k − ½)/num_bins of |share of targets inside the central ℓ interval − ℓ|
            (the calibration error of Kuleshov et al. 2018, with central intervals and absolute
            differences).
        With `ood` —
        auroc_ood: the probability that an out-of-distribution input looks less certain than a test input,
            ties counting half. Uncertainty is 1 − max_c p_c (Hendrycks & Gimpel 2017), or the predictive
            variance summed over outputs.

    Raises `ValueError` for targets of the wrong shape, NaN, labels out of range, no test points, predictions
    `ood` of another kind or a `target_scale` that does not fit; `TypeError` for labels that are not integers.
    """
    if pred.num_points == 0:
        raise ValueError("no test points: expected at least one")
    y = pred.targets(y)
    if num_bins < 1:
        raise ValueError(f"num_bins {num_bins}: expected at least 1")
    log_density = pred.log_prob(y).double()
    if pred.kind == "classification":
        if not isinstance(target_scale, float | int) or target_scale != 1.0:
            raise ValueError(f"target_scale {target_scale}: classes have no scale; leave it at 1")
        result = {"nll": -float(log_density.mean()), "nll_se": _standard_error(log_density)}
        result |= _classification(pred, y, num_bins)
    else:
        scale = _output_scale(target_scale, pred.mean)
        nll = -float(log_density.mean()) + float(scale.log().sum())
        result = {"nll": nll, "nll_se": _standard_error(log_density)} | _regression(pred, y, scale, num_bins)
    if ood is not None:
        result["auroc_ood"] = _auroc_ood(pred, ood)
    return result


def _classification(pred: Predictive, y: Tensor, num_bins: int) -> dict[str, float]:
    from torchmetrics.functional.classification import multiclass_calibration_error

    probs = pred.probs.double()
    correct = (probs.argmax(-1) == y).double()
    truth = torch.nn.functional.one_hot(y, probs.shape[-1])
    ece = multiclass_calibration_error(probs, y, num_classes=probs.shape[-1], n_bins=num_bins, norm="l1")
    return {
        "accuracy": float(correct.mean()),
        "accuracy_se": _standard_error(correct),
        "ece": float(ece),
        "brier": float((probs - truth).square().sum(-1).mean()),
        "entropy_total": float(pred.total_entropy.mean()),
        "entropy_aleatoric": float(pred.aleatoric_entropy.mean()),
        "entropy_epistemic": float(pred.epistemic_entropy.mean()),
    }


def _regression(pred: Predictive, y: Tensor, scale: Tensor, num_bins: int) -> dict[str, float]:
    squared = (scale * (y - pred.mean).double()).square().mean(-1)
    rmse = math.sqrt(float(squared.mean()))
    inside = (
        2 * pred.cdf(y).double() - 1
    ).abs()  # the level of the central interval on whose edge the target lies
    levels = (torch.arange(num_bins, dtype=torch.float64, device=inside.device) + 0.5) / num_bins
    coverage = (inside.flatten() <= levels[:, None]).double().mean(-1)
    return {
        "rmse": rmse,
        "rmse_se": _standard_error(squared) / (2 * rmse) if rmse > 0 else 0.0,
        "coverage_95": float((inside <= 0.95).double().mean()),
        "ece": float((coverage - levels).abs().mean()),
    }


def _auroc_ood(pred: Predictive, ood: Predictive) -> float:
    from torchmetrics.functional.classification import binary_auroc

    if ood.kind != pred.kind:
        raise ValueError(
            f"ood is a {ood.kind} prediction and pred is a {pred.kind} one: predict both with the same model"
        )
    if ood.num_points == 0:
        raise ValueError("ood holds no points: expected at least one")
    scores = torch.cat([_uncertainty(pred), _uncertainty(ood)])
    labels = torch.cat([torch.zeros(pred.num_points), torch.ones(ood.num_points)]).to(scores.device).long()
    # torchmetrics sends scores outside [0, 1] through a sigmoid, which makes ties: give it ranks instead.
    ranks = scores.unique(return_inverse=True)[1].double()
    return float(binary_auroc(ranks / max(1.0, float(ranks.max())), labels))


def _uncertainty(pred: Predictive) -> Tensor:
    """Grows with uncertainty. log(1 − max p) from the other classes, exact where max p rounds to 1."""
    if pred.kind == "regression":
        return pred.variance.double().sum(-1)
    log_probs = pred.log_probs.double()
    top = torch.nn.functional.one_hot(log_probs.argmax(-1), log_probs.shape[-1]).bool()
    return torch.logsumexp(log_probs.masked_fill(top, -torch.inf), -1)


def _output_scale(target_scale: float | Tensor, mean: Tensor) -> Tensor:
    scale = torch.as_tensor(target_scale, dtype=torch.float64, device=mean.device)
    outputs = mean.shape[-1]
    if scale.shape not in ((), (1,), (outputs,)):
        raise ValueError(
            f"target_scale {tuple(scale.shape)}: expected one number, or one for each of {outputs} outputs"
        )
    if not ((scale > 0) & torch.isfinite(scale)).all():
        raise ValueError(
            f"target_scale {scale.tolist()}: expected positive numbers: the targets' standard deviations"
        )
    return scale.expand(outputs)


def _standard_error(values: Tensor) -> float:
    """Standard error of the mean; NaN for a single value."""
    return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan
