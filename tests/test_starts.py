"""Starts of a run: a maximum of the posterior, the draws of another run, and what is refused."""

import pytest
import torch

import bnnpriors as bp
from bnnpriors.samplers import HMC, MAP, SGLD

from .conjugate import regression, sample

STILL = {"num_samples": 1, "num_warmup": 0}
NEAR = 0.3
"""Two and a half standard deviations of the posterior; over ten seeds Adam ends within 0.14."""


def test_a_start_at_the_maximum():
    """With steps too small to leave it, every chain is at the posterior's mean, at each temperature of a ladder."""
    posterior, mean, _ = regression(temperature=[0.01, 1.0])
    draws = sample(posterior, SGLD(step_size=1e-9), num_chains=2, init="map", **STILL)
    torch.testing.assert_close(draws.theta[:, 0], mean.expand(4, 2), atol=NEAR, rtol=0)


def test_a_start_at_the_draws_of_another_run():
    """Each chain begins at its own last draw: those of an ensemble of trained networks."""
    data = bp.datasets.diabetes(seed=0)
    model = bp.attach(bp.models.mlp(10, 1, hidden=(5,), activation="tanh"), bp.priors.Normal(0.0, 0.5))
    posterior = bp.Posterior(model, bp.likelihoods.Gaussian(scale=0.7), data.x_train, data.y_train)
    ensemble = sample(posterior, MAP(), num_samples=2, num_warmup=100, num_chains=3)
    draws = sample(posterior, SGLD(step_size=1e-9), num_chains=3, init=ensemble, **STILL)
    torch.testing.assert_close(draws.theta[:, 0], ensemble.theta[:, -1], atol=1e-5, rtol=0)
    assert float(ensemble.theta[:, -1].std(0).mean()) > 0.01


@pytest.mark.parametrize("kind", ["map", "draws"])
def test_such_a_run_resumes_and_remembers_its_start(tmp_path, kind):
    posterior, _, _ = regression()
    first = sample(posterior, MAP(), num_samples=1, num_warmup=20, num_chains=2)
    init = "map" if kind == "map" else first
    options = {"num_warmup": 3, "num_chains": 2, "init": init}
    sample(posterior, HMC(num_steps=2), num_samples=2, store=tmp_path / "a", **options)
    extended = sample(
        posterior, HMC(num_steps=2), num_samples=5, store=tmp_path / "a", resume=True, **options
    )
    whole = sample(posterior, HMC(num_steps=2), num_samples=5, **options)
    assert torch.equal(extended.theta, whole.theta)
    with pytest.raises(bp.StoreError, match="init"):
        sample(
            posterior, HMC(num_steps=2), num_samples=6, store=tmp_path / "a", resume=True, num_warmup=3, num_chains=2
        )  # fmt: skip


def test_a_store_without_a_checkpoint_starts_where_it_was_told(tmp_path, monkeypatch):
    """A run killed before its first checkpoint is begun anew, from its maximum and not from the prior."""
    posterior, mean, _ = regression()
    options = {"num_chains": 2, "init": "map", "store": tmp_path / "a", **STILL}
    with monkeypatch.context() as patch:
        patch.setattr("bnnpriors.sampling.Run.go", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError, match="killed"):
            sample(posterior, SGLD(step_size=1e-9), **options)
    draws = sample(posterior, SGLD(step_size=1e-9), resume=True, **options)
    torch.testing.assert_close(draws.theta[:, 0], mean.expand(2, 2), atol=NEAR, rtol=0)


@pytest.mark.usefixtures("as_a_user_meets_it")
def test_what_is_refused():
    posterior, _, _ = regression()
    draws = sample(posterior, MAP(), num_samples=1, num_warmup=1, num_chains=2)
    with pytest.raises(
        ValueError, match="init 'sgd' given, expected 'prior', 'model', 'map' or the draws of another"
    ):
        sample(posterior, HMC(), num_samples=1, init="sgd")
    with pytest.raises(ValueError, match=r"init of 2 chains over 2 latents given.*and of 3 chains"):
        sample(posterior, HMC(), num_samples=1, num_chains=3, init=draws)
