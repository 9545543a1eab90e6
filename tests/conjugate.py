"""A conjugate regression, whose posterior is known in closed form at every temperature."""

import torch

import bnnpriors as bp


def regression(dtype=torch.float64, **options):
    """y = Xw + ε, w ~ N(0, 1): the posterior at T is N(mean, T·A⁻¹), A = XᵀX/σ² + I."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(20, 2, generator=generator, dtype=dtype) @ torch.tensor(
        [[1.0, 0.6], [0.0, 0.7]], dtype=dtype
    )
    y = x @ torch.tensor([[1.0], [-0.5]], dtype=dtype) + 0.5 * torch.randn(
        20, 1, generator=generator, dtype=dtype
    )
    net = torch.nn.Linear(2, 1, bias=False, dtype=dtype)
    posterior = bp.Posterior(
        bp.attach(net, bp.priors.Normal(0.0, 1.0)), bp.likelihoods.Gaussian(0.5), x, y, **options
    )
    precision = x.T @ x / 0.25 + torch.eye(2, dtype=dtype)
    return posterior, torch.linalg.solve(precision, x.T @ y / 0.25)[:, 0], precision


def sample(posterior, sampler, **options):
    """`bp.sample` without a progress bar."""
    return bp.sample(posterior, sampler, progress=False, **options)
