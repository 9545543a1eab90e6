"""A long NUTS run of Pyro on `to_pyro()`, whose predictions `tests/test_against_nuts.py` compares ours with.

    python tests/reference/make_pyro_nuts.py

writes `pyro_nuts.npz` beside this file: predictions of the network at the test inputs, [chains, draws, points] in float32.
"""

from pathlib import Path

import numpy as np
import torch
from pyro.infer import MCMC, NUTS

import bnnpriors as bp

NUM_WARMUP, NUM_SAMPLES, NUM_CHAINS, THIN = 500, 2000, 4, 4


def problem() -> tuple[bp.BayesianModule, bp.likelihoods.Gaussian, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A 1-6-1 tanh network with a Student-t and a hierarchical prior, learnt noise, and 40 noisy points of a sine."""
    generator = torch.Generator().manual_seed(0)
    x = torch.linspace(-2, 2, 40, dtype=torch.float64)[:, None]
    y = torch.sin(2 * x) + 0.2 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    net = torch.nn.Sequential(torch.nn.Linear(1, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1)).double()
    model = bp.attach(
        net,
        {
            "0.weight": bp.priors.StudentT(df=5.0, scale=1.5),
            "2.weight": bp.priors.Normal(0.0, bp.priors.HalfNormal(1.0), centred=False),
            "*.bias": bp.priors.Normal(0.0, 1.0),
        },
    )
    return (
        model,
        bp.likelihoods.Gaussian(bp.priors.HalfNormal(0.5)),
        x,
        y,
        torch.linspace(-2.5, 2.5, 21, dtype=torch.float64)[:, None],
    )


def main() -> None:
    """Run Pyro's NUTS, chain after chain."""
    torch.set_num_threads(1)
    model, likelihood, x, y, x_test = problem()
    pyro_model = model.to_pyro(likelihood)
    chains = []
    for chain in range(NUM_CHAINS):
        torch.manual_seed(chain)
        kernel = NUTS(pyro_model, max_tree_depth=6)
        mcmc = MCMC(kernel, num_samples=NUM_SAMPLES, warmup_steps=NUM_WARMUP, disable_progbar=True)
        mcmc.run(x, y)
        samples = mcmc.get_samples()
        draws = []
        for index in range(0, NUM_SAMPLES, THIN):
            hidden = torch.tanh(x_test @ samples["0.weight"][index].T + samples["0.bias"][index])
            weight = samples["2.weight.scale"][index] * samples["2.weight.standard"][index]
            draws.append((hidden @ weight.T + samples["2.bias"][index])[:, 0])
        chains.append(torch.stack(draws))
        print(f"chain {chain} done", flush=True)
    np.savez_compressed(
        Path(__file__).with_name("pyro_nuts.npz"), predictions=torch.stack(chains).float().numpy()
    )


if __name__ == "__main__":
    main()
