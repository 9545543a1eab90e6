"""`bnnpriors check`: is a prior, a sampler or a kernel right?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jsonargparse import ArgumentParser, Namespace

from ..checks import check_kernel, check_prior, check_sampler


def check(parser: ArgumentParser, config: Namespace, arguments: Sequence[str]) -> int:
    """Test a prior, a sampler or a kernel and print the report. Returns the exit code: 1 if a check fails."""
    settings = parser.instantiate(config).check
    if sum(each is not None for each in (settings.prior, settings.sampler, settings.kernel)) != 1:
        raise ValueError(
            "give --prior, --sampler or --kernel, one of them: the class path of what is to be tested"
        )
    shape = None if settings.shape is None else tuple(settings.shape)
    if settings.sampler is not None:
        if shape is not None:
            raise ValueError("--shape is that of a parameter or an input: it goes with --prior or --kernel")
        found = check_sampler(settings.sampler, seed=settings.seed)
    elif settings.kernel is not None:
        found = check_kernel(settings.kernel, _random_inputs(shape, settings.seed), seed=settings.seed)
    else:
        found = check_prior(settings.prior, shape, settings.seed)
    print(found)
    return 0 if found.passed else 1


def _random_inputs(shape: tuple[int, ...] | None, seed: int) -> torch.Tensor | None:
    """Six inputs of one shape."""
    if shape is None:
        return None
    if not shape or min(shape) < 1:
        raise ValueError(f"--shape {list(shape)} given, expected positive lengths, those of one input")
    return torch.randn(6, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
