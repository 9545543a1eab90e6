"""Flipout: the weights of each example, and gradients with the same mean and less noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import bnnpriors as bp
from bnnpriors import priors as P
from bnnpriors.variational import Flipout, FullRank, MeanField


def posterior(net: nn.Module, *shape: int, num: int = 5, priors=None) -> bp.Posterior:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(num, *shape, generator=generator, dtype=torch.float64)
    model = bp.attach(net.double(), priors or P.Normal(0.0, 1.0))
    return bp.Posterior(model, bp.likelihoods.Gaussian(1.0), x, torch.sin(x.flatten(1)[:, :1]))


NETWORKS = {
    "linear": (nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1, bias=False)), (3,)),
    "rows": (nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 1)), (4, 3)),
    "convolution": (nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, groups=2), nn.Flatten(), nn.Linear(36, 1)), (2, 3, 3)),
    "circular": (nn.Sequential(nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(15, 1)), (2, 5)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_each_example_has_the_weights_of_its_signs(name: str) -> None:
    """W_n = μ + (W − μ) ∘ r_n s_nᵀ written out, an example and a draw at a time."""
    net, shape = NETWORKS[name]
    post = posterior(net, *shape)
    flip, q = Flipout(post), MeanField(post, scale=0.5)
    loc, theta = q.loc.detach(), q.sample(2)
    signs = flip.signs(2, 5, torch.Generator().manual_seed(1))
    found = flip.outputs(theta, loc, post.data.x, signs)
    means = post.layout.unpack(loc)
    for draw in range(2):
        weights = post.layout.unpack(theta[draw])
        for n in range(5):
            own = {}
            for layer, (s, r) in signs.items():
                out, (weight, mean) = r[draw, n], (part[f"{layer}.weight"] for part in (weights, means))
                groups = getattr(net.get_submodule(layer), "groups", 1)
                rows = s[draw, n].view(groups, -1).repeat_interleave(len(out) // groups, 0)
                outer = (out[:, None] * rows).reshape(*rows.shape, *[1] * (weight.ndim - 2))
                own[f"{layer}.weight"] = mean + (weight - mean) * outer
                if f"{layer}.bias" in means:
                    bias = means[f"{layer}.bias"]
                    own[f"{layer}.bias"] = bias + out * (weights[f"{layer}.bias"] - bias)
            expected = functional_call(net, own, (post.data.x[n : n + 1],))
            torch.testing.assert_close(found[draw, n], expected[0])
    assert all("forward" not in vars(module) for module in net.modules())


def gradients(fit: MeanField, flipped: bool, count: int) -> Tensor:
    loss = (fit._flipped_loss if flipped else fit._shared_loss)(1, 3)
    found = []
    for _ in range(count):
        fit.zero_grad()
        loss().backward()
        found.append(torch.cat([fit.loc.grad, fit.raw_scale.grad]))
    return torch.stack(found)


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_gradients_have_the_same_mean_and_less_variance(kind: str) -> None:
    """200 each: 6 standard errors of at most 60 numbers, a false-alarm rate of 1e-7. Fifty examples: half the variance."""
    if kind == "linear":
        net, shape = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1)), (2,)
    else:
        net = nn.Sequential(nn.Conv1d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 1))
        shape = (1, 5)
    laplace = {"*.bias": P.Laplace(0.0, 1.0), "*": P.Normal(0.0, 1.0)}
    fit = MeanField(posterior(net, *shape, num=50, priors=laplace), scale=0.2)
    shared, flipped = gradients(fit, False, 200), gradients(fit, True, 200)
    error = ((shared.var(0) + flipped.var(0)) / 200).sqrt()
    assert float(((shared.mean(0) - flipped.mean(0)) / error).abs().max()) < 6
    assert float(flipped.var(0).sum()) < 0.5 * float(shared.var(0).sum())


def test_a_fit_with_it_comes_to_the_same_bound() -> None:
    net = nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1))
    post = posterior(net, 1, num=30)
    settings = {"num_steps": 150, "learning_rate": 0.1, "num_draws": 4, "progress": False}
    bounds = [MeanField(post).fit(**settings, flipout=flip).bound(num_draws=2000) for flip in (False, True)]
    assert abs(bounds[0].value - bounds[1].value) < 1.0


def test_what_it_cannot_do_is_refused() -> None:
    post = posterior(nn.Linear(2, 1), 2)
    with pytest.raises(ValueError, match="FullRank, whose latents are correlated"):
        FullRank(post).fit(flipout=True)
    hidden = posterior(nn.Linear(2, 1), 2, priors=P.Normal(0.0, P.HalfNormal(1.0), centred=False))
    with pytest.raises(ValueError, match="no Linear or Conv layer"):
        MeanField(hidden).fit(flipout=True)
    with pytest.raises(ValueError, match="without data"):
        Flipout(bp.Posterior(post.model))
