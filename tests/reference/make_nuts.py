"""Long runs of `bp.samplers.NUTS` on two small problems, whose predictions `tests/test_against_nuts.py` compares other
samplers with.

    python tests/reference/make_nuts.py [name ...]

writes `nuts_<name>.npz` beside this file: `outputs` of the network at the test inputs, [chains, draws, points, out] in float16
about the mean of all, with that mean; the likelihood's own latents, [chains, draws, ...]; and the worst R̂ and ESS of the
predictions of the whole run.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from arviz_stats.base import array_stats

import bnnpriors as bp

NUM_CHAINS = 4
LENGTHS = {"classes": (150, 500, 1), "sparse": (300, 1200, 3)}
"""Warm-up, draws of each chain, and which of them are stored."""


def classes() -> tuple[bp.Posterior, torch.Tensor]:
    """Three classes on the plane: a 2-4-3 tanh network with Laplace weights, 30 points about three centres."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(30) % 3
    centres = torch.tensor([[1.0, 0.0], [-0.6, 0.9], [-0.6, -0.9]], dtype=torch.float64)
    x = centres[y] + 0.7 * torch.randn(30, 2, generator=generator, dtype=torch.float64)
    net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)).double()
    model = bp.attach(
        net,
        {"*.weight": bp.priors.Laplace(0.0, 0.8, normal_latent=True), "*.bias": bp.priors.Normal(0.0, 1.0)},
    )
    grid = torch.tensor([-1.5, 0.0, 1.5], dtype=torch.float64)
    return bp.Posterior(model, bp.likelihoods.Categorical(), x, y), torch.cartesian_prod(grid, grid)


def sparse() -> tuple[bp.Posterior, torch.Tensor]:
    """Linear regression on 8 inputs, 2 of which matter, at T = ½: Student-t weights and learnt noise."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(40, 8, generator=generator, dtype=torch.float64)
    y = x[:, :1] - 0.7 * x[:, 1:2] + 0.6 * torch.randn(40, 1, generator=generator, dtype=torch.float64)
    model = bp.attach(
        torch.nn.Linear(8, 1).double(),
        {"weight": bp.priors.StudentT(df=3.0, scale=0.3), "bias": bp.priors.Normal(0.0, 1.0)},
    )
    posterior = bp.Posterior(model, bp.likelihoods.Gaussian(bp.priors.HalfNormal(1.0)), x, y, temperature=0.5)
    return posterior, torch.cat([torch.eye(8, dtype=torch.float64), torch.zeros(1, 8, dtype=torch.float64)])


PROBLEMS = {"classes": classes, "sparse": sparse}


def predictions(outputs: np.ndarray) -> np.ndarray:
    """Numbers that outputs [chains, draws, points, out] mean: themselves, or the log odds of each class against the last."""
    return (outputs[..., :-1] - outputs[..., -1:] if outputs.shape[-1] > 1 else outputs).reshape(
        *outputs.shape[:2], -1
    )


def main() -> None:
    """Run NUTS on the problems named, or on all of them."""
    torch.set_num_threads(1)
    for name in sys.argv[1:] or PROBLEMS:
        posterior, x = PROBLEMS[name]()
        num_warmup, num_samples, thin = LENGTHS[name]
        draws = bp.sample(
            posterior,
            bp.samplers.NUTS(step_size=0.1, max_tree_depth=7),
            num_samples=num_samples,
            num_warmup=num_warmup,
            num_chains=NUM_CHAINS,
            seed=2021,
            progress=False,
        )
        predictive = draws.predict(x)
        outputs = predictive.outputs_by_chain().numpy()
        values = predictions(outputs)
        axes = {"chain_axis": 0, "draw_axis": 1}
        rhat = float(array_stats.rhat(values, method="rank", **axes).max())
        ess = float(array_stats.ess(values, method="bulk", **axes).min())
        mean = outputs.mean((0, 1))
        latents = {
            name: value.unflatten(0, (NUM_CHAINS, -1))[:, ::thin].numpy().astype(np.float32)
            for name, value in predictive.latents.items()
        }
        divergent = float(draws.stats["divergent"].double().mean())
        print(f"{name}: R̂ {rhat:.4f}, ESS {ess:.0f}, divergent {divergent:.4f}", flush=True)
        np.savez_compressed(
            Path(__file__).with_name(f"nuts_{name}.npz"),
            outputs=(outputs - mean)[:, ::thin].astype(np.float16),
            mean=mean, rhat=rhat, ess=ess, **latents,
        )  # fmt: skip


if __name__ == "__main__":
    main()
