"""The same density as a Pyro model, so that Pyro's inference (NUTS, SVI) runs on it and can be compared with ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from pyro.infer import NUTS
from torch import Tensor
from torch.distributions import constraints

from .batched import call_with_weights
from .joint import LIKELIHOOD
from .likelihoods import Augmented, Likelihood
from .module import BayesianModule
from .posterior import Target
from .priors import Prior
from .priors.base import draw
from .priors.site import Site


class PriorDistribution(TorchDistribution):
    """A `Prior` over a whole tensor as a Pyro distribution with that tensor as its event."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, prior: Prior, shape: tuple[int, ...], like: Tensor) -> None:
        self.prior, self.like = prior, like
        super().__init__(torch.Size(), torch.Size(shape), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """The prior's support, all dimensions reinterpreted as one event."""
        missing = len(self.event_shape) - self.prior.support.event_dim
        return constraints.independent(self.prior.support, missing) if missing else self.prior.support

    def log_prob(self, value: Tensor) -> Tensor:
        """Summed log density."""
        return self.prior.log_prob(value).sum()

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """A draw; Pyro's own global generator seeds it."""
        if sample_shape:
            raise ValueError(
                f"sample_shape {tuple(sample_shape)} given, expected (): draw in a loop or under pyro.plate"
            )
        generator = torch.Generator(self.like.device).manual_seed(int(torch.randint(2**62, ())))
        return draw(self.prior, tuple(self.event_shape), self.like, generator)


def _sample_site(site: Site, like: Tensor, values: dict[str, Tensor], prefix: str = "") -> None:
    for child in site.children.values():
        if child.name not in values:
            _sample_site(child, like, values, prefix)
    prior, name = site.condition(values), prefix + site.name
    if prior.centred:
        value = pyro.sample(name, PriorDistribution(prior, site.shape, like))
    else:
        z = pyro.sample(f"{name}.standard", PriorDistribution(prior.standard(), site.shape, like))
        value = prior.from_standard(z)
        if not site.is_joint:
            pyro.deterministic(name, value)
    for member, part in site.split(value).items():
        values[member] = pyro.deterministic(prefix + member, part) if site.is_joint else part


def pyro_model(model: BayesianModule, likelihood: Any = None) -> Callable[..., Any]:
    """`f(x=None, y=None)`: samples every weight and hyperparameter, returns the outputs at x, and conditions on y.

    Args:
        model: the attached module.
        likelihood: as for `bp.Posterior`; needed where y is given. Its own latents become Pyro sites named `likelihood.*`.
    """
    net = model.net
    sites = [(site, net.get_parameter(next(iter(site.members))).detach()) for site in model.sites]
    names = [name for site in model.sites for name in site.members]

    def run(x: Any = None, y: Tensor | None = None) -> Any:
        values: dict[str, Tensor] = {}
        for site, like in sites:
            _sample_site(site, like, values)
        if x is None:
            return values
        outputs = call_with_weights(net, {name: values[name] for name in names}, (x,))
        if y is not None:
            if likelihood is None:
                raise ValueError("to_pyro: y given without a likelihood; use model.to_pyro(likelihood)")
            if isinstance(likelihood, Likelihood):
                y = likelihood.prepare(y, outputs.dtype)
                likelihood.check(tuple(outputs.shape), y)
            own: dict[str, Tensor] = {}
            for site in getattr(likelihood, "sites", ()):
                _sample_site(site, outputs.detach().new_empty(()), own, LIKELIHOOD)
            conditioned = likelihood.at(own) if own else likelihood
            if isinstance(conditioned, Augmented):
                weights = {name: values[name] for name in names}
                judged = conditioned.outputs(lambda inputs: call_with_weights(net, weights, (inputs,)), x)
            else:
                judged = outputs
            pyro.factor("likelihood", conditioned.log_prob(judged, y).sum())
        return outputs

    return run


class Trajectories(NUTS):
    """Pyro's NUTS on a potential that is given as a value and a gradient, with the step size and metric of the caller.

    Args:
        target: of one chain. max_tree_depth: doublings at most.
    """

    def __init__(self, target: Target, max_tree_depth: int) -> None:
        super().__init__(
            potential_fn=self._potential,
            adapt_step_size=False,
            adapt_mass_matrix=False,
            max_tree_depth=max_tree_depth,
        )
        self._target, self._temperature = target, target.temperature.double()
        self._steps, self._energy = 0, torch.zeros(())

    def trajectory(
        self,
        theta: Float[Tensor, " dim"],
        potential: Tensor,
        gradient: Float[Tensor, " dim"],
        step_size: Tensor,
        inverse_mass: Float[Tensor, " dim"],
    ) -> dict[str, Tensor]:
        """The end of one trajectory (`theta`, `potential`, `gradient`), and its figures, in float64; torch's global generator
        is used.

        p ~ N(0, M/T) and U/T are unit temperature to Pyro, whose metric is then T M⁻¹; h means what it means at T = 1.
        """
        temperature = self._temperature[0]
        start = {"theta": theta.double()}
        self.initial_params, self._warmup_steps = start, 0
        self._cache(start, potential.double() / temperature, {"theta": gradient.double() / temperature})
        self._initialize_adapter()
        self._adapter.step_size = float(step_size)
        self.mass_matrix_adapter.inverse_mass_matrix = {("theta",): temperature * inverse_mass.double()}
        end = self.sample(start)["theta"]
        assert self._potential_energy_last is not None
        assert self._z_grads_last is not None
        steps = torch.tensor(self._steps, device=theta.device)
        return {
            "theta": end,
            "potential": self._potential_energy_last * temperature,
            "gradient": self._z_grads_last["theta"] * temperature,
            "acceptance": torch.tensor(self._mean_accept_prob, dtype=torch.float64, device=theta.device),
            "divergent": torch.tensor(bool(self._divergences), device=theta.device),
            "energy": self._energy * temperature,
            "tree_depth": torch.tensor(self._steps.bit_length(), device=theta.device),
            "num_steps": steps,
        }

    def _potential(self, values: dict[str, Tensor]) -> Tensor:
        self._steps += 1
        return _Evaluated.apply(values["theta"], self._target, self._temperature)

    def _sample_r(self, name: str) -> Any:
        scaled, unscaled = super()._sample_r(name)
        self._energy = self._potential_energy_last + self._kinetic_energy(unscaled)
        return scaled, unscaled


class _Evaluated(torch.autograd.Function):
    """U(θ)/T with the gradient that came with it."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, target: Target, temperature: Tensor) -> Tensor:
        here = theta.detach()[None].to(target.temperature.dtype)
        value, gradient = target.value_and_gradient(here)
        ctx.save_for_backward(gradient[0].double() / temperature)
        return value[0].double() / temperature[0]

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return outer[0] * gradient, None, None
