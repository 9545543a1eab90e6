"""Derivatives of a kernel against central differences."""

from __future__ import annotations

import torch
from torch import Tensor

from .covariances import KernelSubject

GRADIENT_TOLERANCE = 1e-5
MAX_ELEMENTS = 8
"""Of a hyperparameter, that are moved for central differences."""


def check_gradients(subject: KernelSubject) -> tuple[bool, str]:
    """∂K in every hyperparameter, of K(x, x), K(x1, x2) and the variances, and in the inputs, against central differences."""
    kernel, x = subject.kernel, subject.x[:3]
    parameters = {name: p for name, p in kernel.named_parameters() if p.requires_grad and p.numel()}
    mix = torch.randn(3, 3, generator=subject.generator(3), dtype=x.dtype)[: len(x), : len(x)]
    scale = float(subject.matrix(x).detach().diagonal().abs().sum()) or 1.0

    def value(point: Tensor) -> Tensor:
        cross = subject.matrix(point[:1], point[1:])
        total = (
            (mix * subject.matrix(point)).sum()
            + (mix[:1, 1:] * cross).sum()
            + 2 * subject.variance(point).sum()
        )
        return total / scale

    worst, where = 0.0, ""
    gradients = (
        torch.autograd.grad(value(x), list(parameters.values()), allow_unused=True) if parameters else ()
    )
    for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        flat = parameter.data.view(-1)
        for index in torch.linspace(0, flat.numel() - 1, min(flat.numel(), MAX_ELEMENTS)).long().tolist():
            before, step = float(flat[index]), 1e-4 * max(1.0, abs(float(flat[index])))
            ends = []
            for moved in (before + step, before - step):
                flat[index] = moved
                ends.append(float(value(x).detach()))
            flat[index] = before
            found = 0.0 if gradient is None else float(gradient.reshape(-1)[index])
            worst, where = _worse(worst, where, found, (ends[0] - ends[1]) / (2 * step), f"{name}[{index}]")
    direction = torch.randn(x.shape, generator=subject.generator(4), dtype=x.dtype)
    moving = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(_cross(subject, moving, mix) / scale, moving, allow_unused=True)
    with torch.no_grad():
        high, low = (_cross(subject, x + sign * 1e-5 * direction, mix) / scale for sign in (1, -1))
    found = 0.0 if slope is None else float((slope * direction).sum())
    worst, where = _worse(worst, where, found, float(high - low) / 2e-5, "the inputs")
    figure = f"{len(parameters)} hyperparameters and the inputs: largest error {worst:.1g}, allowed {GRADIENT_TOLERANCE:g}"
    holds = worst <= GRADIENT_TOLERANCE
    return holds, figure if holds else f"{figure} ({where})"


def _cross(subject: KernelSubject, x: Tensor, mix: Tensor) -> Tensor:
    """Between the inputs and others: K of an input with itself may have a kink where the two part."""
    return (mix * subject.matrix(x, 0.9 * subject.x[: len(x)].roll(1, 0))).sum()


def _worse(worst: float, where: str, found: float, expected: float, name: str) -> tuple[float, str]:
    error = abs(found - expected) / (abs(expected) + 1e-2)
    if error <= worst:
        return worst, where
    return error, f"{name}: {found:.6g}, central difference {expected:.6g}"
