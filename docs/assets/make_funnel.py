"""Neal's funnel by HMC in its two forms, as `funnel.png`: nine weights N(0, s²) with log s ~ N(0, 1.5²), prior alone."""

import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import bnnpriors as bp
from bnnpriors.evaluation import convergence
from bnnpriors.evaluation.plots import COLOURS

SPREAD, SEED = 1.5, 0
FORMS = {"centred=True (the default)": True, "centred=False": False}


def main() -> None:
    """Draw both forms with one budget, and save them side by side."""
    warnings.simplefilter("ignore", bp.FunnelWarning)
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.3), sharex=True, sharey=True, layout="constrained")
    scale = np.linspace(-3 * SPREAD, 3 * SPREAD, 200)
    for axis, colour, (title, centred) in zip(axes, COLOURS, FORMS.items(), strict=False):
        net = nn.ParameterDict({"w": nn.Parameter(torch.zeros(9, dtype=torch.float64))})
        model = bp.attach(net, bp.priors.Normal(0.0, bp.priors.LogNormal(0.0, SPREAD), centred=centred))
        sampler = bp.samplers.HMC(step_size=0.1, num_steps=5, jitter=0.5, target_acceptance=0.9)
        draws = bp.sample(
            bp.Posterior(model), sampler, num_samples=400, num_warmup=200, num_chains=8, seed=SEED
        )
        log_scale, weight = draws["w.scale"].log(), draws["w"][..., 0]
        rhat = convergence(log_scale).rhat[0]
        for sign in (-1, 1):
            axis.plot(sign * 2 * np.exp(scale), scale, color="0.6", linewidth=1, zorder=0)
        axis.scatter(
            weight.flatten(), log_scale.flatten(), s=3, alpha=0.5, linewidths=0, color=colour, rasterized=True
        )
        axis.set(
            title=f"{title}: R̂ of log s = {rhat:.3f}", xlabel="a weight w", xlim=(-12, 12), ylim=(-5.5, 5.5)
        )
        axis.title.set_fontsize(10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("log s, the log of its scale")
    figure.savefig(Path(__file__).with_name("funnel.png"), dpi=130)


if __name__ == "__main__":
    main()
