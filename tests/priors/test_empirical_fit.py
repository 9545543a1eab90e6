"""`bp.priors.fit` from end to end: what it takes, what it recommends, and what it refuses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bnnpriors as bp
from bnnpriors.priors.empirical.spatial import correlation_matrix


def student_network(seed: int, dtype: torch.dtype = torch.float64) -> nn.Module:
    generator = np.random.default_rng(seed)
    net = nn.Sequential(nn.Linear(60, 50), nn.ReLU(), nn.Linear(50, 40))
    with torch.no_grad():
        net[0].weight.copy_(torch.from_numpy(0.05 * generator.standard_t(3, size=(50, 60))))
        net[2].weight.copy_(torch.from_numpy(generator.normal(0, 0.2, size=(40, 50))))
    return net.to(dtype)


def test_the_priors_attach_and_carry_what_was_fitted() -> None:
    nets = [student_network(seed) for seed in range(3)]
    fitted = bp.priors.fit(nets)
    assert list(fitted.priors) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    heavy, light = fitted.priors["0.weight"], fitted.priors["2.weight"]
    assert isinstance(heavy, bp.priors.StudentT)
    assert isinstance(light, bp.priors.Normal)
    assert heavy.df == pytest.approx(3.0, rel=0.2)
    assert heavy.scale == pytest.approx(0.05, rel=0.1)
    assert light.scale == pytest.approx(0.2, rel=0.05)
    model = bp.attach(nets[0], fitted.priors)
    assert math.isfinite(float(model.log_prior().detach()))


def test_moments_and_gain_are_those_of_the_pooled_weights() -> None:
    nets = [student_network(seed) for seed in range(2)]
    layer = bp.priors.fit(nets).layers["2.weight"]
    pooled = torch.cat([net[2].weight.detach().flatten() for net in nets]).numpy()
    assert layer.standard_deviation == pytest.approx(pooled.std())
    assert layer.gain == pytest.approx(pooled.std() * math.sqrt(50))
    assert layer.excess_kurtosis == pytest.approx(
        ((pooled - pooled.mean()) ** 4).mean() / pooled.std() ** 4 - 3
    )
    assert layer.networks == 2


def test_fan_in_scales_say_the_same() -> None:
    net = student_network(0)
    numbers = bp.priors.fit(net).priors
    rules = bp.priors.fit(net, scale="fan_in").priors
    for name in ("0.weight", "2.weight"):
        shape = tuple(net.get_parameter(name).shape)
        assert isinstance(rules[name].scale, bp.priors.ScaleRule)
        assert rules[name].scale(shape) == pytest.approx(numbers[name].scale, rel=1e-5)
    assert rules["0.bias"].scale == numbers["0.bias"].scale


def test_location_moves_the_prior() -> None:
    w = np.random.default_rng(0).normal(3.0, 1.0, size=(40, 50))
    assert bp.priors.fit({"w": w}, location=True).priors["w"].loc == pytest.approx(3.0, abs=0.12)
    centred = bp.priors.fit({"w": w})
    assert centred.priors["w"].loc == 0
    assert "location=True" in str(centred)


def test_the_same_seed_gives_the_same_figures_and_another_differs() -> None:
    net = student_network(0)
    first, again, other = (bp.priors.fit(net, seed=seed, max_weights=1000) for seed in (1, 1, 2))
    assert str(first) == str(again)
    assert first.rows == again.rows
    assert first.rows != other.rows


def test_correlated_filters_are_recognised() -> None:
    """Filters with Matérn-½ covariance of lengthscale 1: that kernel is chosen."""
    factor = np.linalg.cholesky(correlation_matrix("matern12", 1.0, (3, 3)))
    w = 0.1 * np.random.default_rng(0).normal(size=(64, 64, 9)) @ factor.T
    fitted = bp.priors.fit({"conv.weight": w.reshape(64, 64, 3, 3)})
    prior: Any = fitted.priors["conv.weight"]
    assert type(prior) is bp.priors.CorrelatedNormal
    assert prior.kernel == "matern12"
    assert prior.lengthscale == pytest.approx(1.0, abs=0.08)
    assert prior.scale == pytest.approx(0.1, rel=0.05)
    layer = fitted.layers["conv.weight"]
    assert layer.spatial is not None
    assert layer.spatial.correlated
    assert layer.kernel_size == (3, 3)
    assert "correlated" in fitted.table()


def test_every_way_to_give_a_network_is_the_same(tmp_path: Path) -> None:
    net = student_network(0, torch.float32)
    state = net.state_dict()
    wrapped = {f"module.{name}": value for name, value in state.items()}
    torch.save(state, tmp_path / "state.pt")
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "checkpoint.pth")
    np.savez(tmp_path / "arrays.npz", **{name: value.numpy() for name, value in state.items()})
    bayesian = bp.attach(student_network(0, torch.float32), bp.priors.Normal(0.0, 1.0, centred=False))
    given = [
        state,
        wrapped,
        tmp_path / "state.pt",
        str(tmp_path / "checkpoint.pth"),
        tmp_path / "arrays.npz",
        [net],
    ]
    expected = bp.priors.fit(net, include="2.weight").rows
    for one in given:
        assert bp.priors.fit(one, include="2.weight").rows == expected
    found = bp.priors.fit(bayesian, include="2.weight").rows[0]
    assert found["standard_deviation"] == pytest.approx(expected[0]["standard_deviation"], rel=1e-5)
    assert [row["layer"] for row in bp.priors.fit(net, include="*.bias").rows] == ["0.bias", "2.bias"]


def test_running_statistics_integers_and_scalars_are_left_out() -> None:
    net = nn.Sequential(nn.Linear(10, 10), nn.BatchNorm1d(10))
    state = net.state_dict() | {"temperature": torch.tensor(1.0)}
    assert set(bp.priors.fit(state).layers) == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_few_weights_get_a_normal_prior_and_constant_ones_none() -> None:
    fitted = bp.priors.fit({"b": np.array([1.0, -2.0, 2.0]), "ones": np.ones(5), "w": np.eye(8)})
    assert fitted.priors["b"].scale == pytest.approx(math.sqrt(3))
    assert "ones" not in fitted.priors
    assert "nothing to learn from" in fitted.layers["ones"].evidence
    assert "exactly zero" in fitted.layers["w"].evidence
    assert len(fitted.rows) == 3


class Opaque:
    """An object that a checkpoint of plain tensors cannot hold."""


def _bad_files(folder: Path) -> dict[str, Any]:
    torch.save(Opaque(), folder / "object.pt")
    (folder / "junk.pt").write_bytes(b"hello")
    (folder / "junk.npz").write_bytes(b"hello")
    np.savez(folder / "objects.npz", w=np.array([None]))
    torch.save([1, 2], folder / "list.pt")
    torch.save({"epoch": 3}, folder / "empty.pt")
    (folder / "net.h5").write_bytes(b"")
    return {file.name: file for file in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("object.pt", r"Pickled objects are not loaded.*torch.save\(net.state_dict\(\)"),
        ("junk.pt", "not a file of plain tensors"),
        ("junk.npz", "not an .npz file of plain arrays"),
        ("objects.npz", "not an .npz file of plain arrays"),
        ("list.pt", "holds a list, expected a state_dict"),
        ("empty.pt", r"no weights under the keys \['epoch'\]"),
        ("net.h5", "ends in .pt, .pth or .npz"),
    ],
)
def test_unfit_files_are_refused_in_words(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        bp.priors.fit(_bad_files(tmp_path)[name])


def test_unfit_weights_are_refused_in_words(tmp_path: Path) -> None:
    w = np.ones((3, 4))
    with pytest.raises(FileNotFoundError, match="no such file"):
        bp.priors.fit(tmp_path / "none.pt")
    with pytest.raises(ValueError, match="no weights match include='x\\*'; its entries are \\['w'\\]"):
        bp.priors.fit({"w": w}, include="x*")
    with pytest.raises(ValueError, match="w has 1 of 2 entries that are NaN or infinite"):
        bp.priors.fit({"w": np.array([1.0, math.nan])})
    with pytest.raises(ValueError, match=r"w is \(4, 3\) in network 1 and \(3, 4\) in network 0"):
        bp.priors.fit([{"w": w}, {"w": w.T}])
    with pytest.raises(ValueError, match=r"network 1 lacks \['w'\], which network 0 has"):
        bp.priors.fit([{"w": w}, {"v": w}])
    with pytest.raises(ValueError, match="no network given"):
        bp.priors.fit([])
    with pytest.raises(ValueError, match="fit: level"):
        bp.priors.fit({"w": w}, level=1.5)
    with pytest.raises(ValueError, match="max_weights 5 given"):
        bp.priors.fit({"w": w}, max_weights=5)
