"""Draws from a posterior: read from a store, by name, as predictions, or for ArviZ."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import vmap

from .joint import Joint
from .layout import Layout
from .priors.site import Site
from .store import Store, StoreError

if TYPE_CHECKING:
    from .evaluation.diagnostics import Diagnostics
    from .evaluation.sampled import SamplePredictive

Name = str


class Draws:
    """The draws of a run, or of some of its chains. Steps of a schedule that do not sample are left out: see `with_exploration`.

    Attributes:
        path: folder of the store, or None. layout: names and shapes of the flat latents.
        temperatures: T of each chain, [chains].
    """

    def __init__(
        self, store: Store, joint: Joint | None, chains: Tensor | None = None, *, explores: bool = False
    ) -> None:
        self._store, self._joint, self._explores = store, joint, explores
        self.path = store.path
        attrs = store.group.attrs
        self.layout = Layout(tuple((name, tuple(shape)) for name, shape in attrs["layout"]))  # type: ignore[arg-type,misc,union-attr]
        ladder = torch.tensor(attrs["temperatures"], dtype=torch.float64)
        every = ladder.repeat_interleave(int(attrs["num_chains"]))  # type: ignore[arg-type]
        self._chains = torch.arange(len(every)) if chains is None else chains
        self.temperatures: Float[Tensor, " chains"] = every[self._chains]
        self.stats: Mapping[Name, Tensor] = _Stats(self, "stats/")
        self.tensor_stats: Mapping[Name, Tensor] = _Stats(self, "tensor_stats/")

    @classmethod
    def open(cls, path: str | Path, *, posterior: Joint | None = None) -> Draws:
        """Open a store. The model in it is unpickled, so open only stores that you trust; `posterior`
        stands in for it where given.

        Raises:
            StoreError: no store at `path`, or a damaged one.
        """
        store = Store.open(Path(path))
        if posterior is None and (Path(path) / "model.pt").exists():
            device = None if torch.cuda.is_available() else "cpu"
            try:
                content = torch.load(Path(path) / "model.pt", weights_only=False, map_location=device)
            except Exception as error:
                raise StoreError(
                    f"{path}: the model in the store cannot be read ({error}); pass Draws.open(path, posterior=...)"
                ) from error
            posterior = Joint(content["model"], content["likelihood"])
        return cls(store, posterior)

    @property
    def num_chains(self) -> int:
        """Number of chains, all rungs together."""
        return len(self._chains)

    @property
    def num_draws(self) -> int:
        """Draws of each chain."""
        return self._store.num_draws if self._sampling is None else int(self._sampling.sum())

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """Names of the tensors in the order of `tensor_stats`."""
        return self.layout.names

    @property
    def theta(self) -> Float[Tensor, "chains draws dim"]:
        """The flat latents."""
        return self._read("theta")

    @property
    def sites(self) -> tuple[Site, ...]:
        """The model's random tensors with their priors; none where the store holds no model."""
        return () if self._joint is None else tuple(self._joint.model.sites)

    @property
    def names(self) -> tuple[str, ...]:
        """What `draws[name]` knows: weights, hyperparameters, and the likelihood's own as `likelihood.*`."""
        return self.layout.names

    def __getitem__(self, name: str) -> Float[Tensor, "chains draws *shape"]:
        """A weight or hyperparameter itself, not its latent."""
        return self.values([name])[name]

    def values(self, names: Collection[Name] | None = None) -> dict[Name, Tensor]:
        """Weights and hyperparameters themselves by name, each [chains, draws, *shape]: all, or `names` alone.

        One pass over the store gives them all, with one chunk of draws in memory beside the result.

        Raises:
            KeyError: an unknown name. StoreError: a store without a model, or without draws.
        """
        wanted = self.names if names is None else names
        if unknown := [name for name in wanted if name not in self.names]:
            raise KeyError(f"{unknown[0]!r}: no such parameter; the names are {', '.join(self.names)}")
        joint = self._need_joint()
        self._need_draws()
        found: dict[Name, Tensor] = {}
        done = 0
        for part in self._store.chunks("theta"):
            theta = self._read("theta", part).flatten(0, 1).to(joint.device)
            if len(theta) == 0:
                continue
            piece = vmap(lambda row: joint.values(row, wanted))(theta)
            for name, flat in piece.items():
                value = flat.detach().cpu().unflatten(0, (self.num_chains, -1))
                if name not in found:
                    found[name] = value.new_empty(self.num_chains, self.num_draws, *value.shape[2:])
                found[name][:, done : done + value.shape[1]] = value
            done += len(theta) // self.num_chains
        return found

    def at_temperature(self, temperature: float) -> Draws:
        """The chains of one rung."""
        hits = torch.isclose(
            self.temperatures, torch.tensor(float(temperature), dtype=torch.float64), rtol=1e-9, atol=0.0
        )
        if not hits.any():
            raise ValueError(
                f"no chain has temperature {temperature}; the ladder is {sorted(set(self.temperatures.tolist()))}"
            )
        return Draws(self._store, self._joint, self._chains[hits], explores=self._explores)

    def with_exploration(self) -> Draws:
        """All that was recorded: with the draws of a schedule's exploration and ramp, which are none of the posterior and whose
        figure `sampling` is False."""
        return Draws(self._store, self._joint, self._chains, explores=True)

    def predict(self, x: Any) -> SamplePredictive:
        """The posterior predictive at inputs x [batch, ...]; with an augmented likelihood averaged over its test transformations.

        Raises:
            ValueError: chains of several temperatures, which are several posteriors; choose one with `at_temperature`.
        """
        from .evaluation.sampled import SamplePredictive

        self._need_one_temperature("predict(x)")
        joint = self._need_joint()
        theta = self.theta.flatten(0, 1).to(joint.device)
        own = joint.likelihood_swaps(self.layout.unpack(theta))
        return SamplePredictive(
            joint.outputs(theta, x), joint.test_likelihood, own, num_chains=self.num_chains
        )

    def summary(self, x: Any = None) -> Diagnostics:
        """R̂, effective sample sizes, temperatures, funnels and warnings; in prediction space too where inputs are given."""
        from .evaluation.diagnostics import summary

        return summary(self, None if x is None else self.predict(x))

    def to_arviz(self, *, seed: int = 0, num_prior: int = 500) -> Any:
        """An ArviZ `DataTree` with groups posterior, sample_stats and prior, and, where the training data are at
        hand, posterior_predictive, log_likelihood and observed_data; see `evaluation.export`. Draws that were opened without
        `posterior=` have no training data: a UserWarning says that these groups are left out.

        Raises:
            ValueError: chains of several temperatures, as in `predict`.
        """
        from .evaluation.export import to_arviz

        self._need_one_temperature("to_arviz()")
        return to_arviz(self, self._need_joint(), seed=seed, num_prior=num_prior)

    def _read(self, name: str, draws: slice = slice(None)) -> Tensor:
        self._need_draws()
        values = torch.from_numpy(self._store.read(name, draws))[self._chains]
        return values if self._sampling is None else values[:, self._sampling[draws]]

    @cached_property
    def _sampling(self) -> Bool[Tensor, " draws"] | None:
        """Which of the recorded draws are of the posterior, in every chain; None for all."""
        if self._explores or "stats/sampling" not in self._store.group:
            return None
        sampling = torch.from_numpy(self._store.read("stats/sampling", slice(None))).all(0)
        return None if bool(sampling.all()) else sampling

    def _need_draws(self) -> None:
        if self.num_draws == 0:
            raise StoreError(
                f"{self.path or 'this run'} holds no draws yet: it stopped during warm-up, or before the first part of a cycle "
                "that samples; resume it"
            )

    def _need_one_temperature(self, call: str) -> None:
        if len(self.temperatures.unique()) > 1:
            ladder = sorted(set(self.temperatures.tolist()))
            raise ValueError(
                f"{call.split('(')[0]}: these draws mix temperatures {ladder}; use draws.at_temperature(T).{call}"
            )

    def _need_joint(self) -> Joint:
        if self._joint is None:
            raise StoreError(
                f"{self.path} holds no model: pass Draws.open(path, posterior=...) with the posterior it was drawn from"
            )
        return self._joint

    def __repr__(self) -> str:
        where = "in memory" if self.path is None else str(self.path)
        others = self._store.num_draws - self.num_draws
        explored = f"; {others} of exploration left out" if others else ""
        return f"Draws({self.num_chains} chains × {self.num_draws} draws × {self.layout.dim} latents, {where}{explored})"


class _Stats(Mapping[str, Tensor]):
    """Arrays of the store under a prefix, read when they are asked for."""

    def __init__(self, draws: Draws, prefix: str) -> None:
        self._draws, self._prefix = draws, prefix

    def __getitem__(self, name: str) -> Tensor:
        if name not in list(self):
            raise KeyError(f"{name!r} was not recorded; there are {', '.join(self)}")
        return self._draws._read(self._prefix + name)

    def __iter__(self) -> Iterator[str]:
        names = self._draws._store.names()
        return (name[len(self._prefix) :] for name in names if name.startswith(self._prefix))

    def __len__(self) -> int:
        return len(list(iter(self)))
