"""`log_prob_of_log`: the density of log s, which sites take in place of the density of s and its Jacobian."""

import pytest
import torch

from bnnpriors import priors as P
from bnnpriors.priors.site import Site

FAMILIES = [
    P.HalfNormal(0.7),
    P.HalfCauchy(2.0),
    P.Gamma(0.4, 3.0),
    P.InverseGamma(3.0, 2.0),
    P.LogNormal(-1.0, 0.5),
    P.Gamma(torch.tensor([0.5, 4.0]), torch.tensor([[1.0], [3.0]])),
]


@pytest.mark.parametrize("prior", FAMILIES, ids=lambda prior: type(prior).__name__)
def test_it_is_the_density_and_the_jacobian(prior: P.Prior) -> None:
    u = torch.linspace(-6, 3, 40, dtype=torch.float64).reshape(10, 2, 2)
    expected = prior.log_prob(u.exp()) + u
    torch.testing.assert_close(prior.log_prob_of_log(u), expected, rtol=1e-11, atol=1e-11)


def test_a_subclass_with_another_density_is_heard() -> None:
    class Doubled(P.Gamma):
        def log_prob(self, w: torch.Tensor) -> torch.Tensor:
            return 2 * super().log_prob(w)

    u = torch.tensor([0.3, -1.0], dtype=torch.float64)
    expected = (2 * P.Gamma(2.0, 1.0).log_prob(u.exp()) + u).sum()
    assert Site("s", Doubled(2.0, 1.0), (2,)).evaluate({"s": u}, {}) == pytest.approx(float(expected))
    own = P.Gamma(2.0, 1.0).log_prob_of_log(u).sum()
    assert Site("s", P.Gamma(2.0, 1.0), (2,)).evaluate({"s": u}, {}) == pytest.approx(float(own))
