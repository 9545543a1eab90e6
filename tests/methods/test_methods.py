"""Methods on one posterior: what they predict where it is known, what does not apply, and what is kept."""

from __future__ import annotations

import dataclasses
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import bnnpriors as bp
from bnnpriors import methods as M
from bnnpriors import priors as P
from bnnpriors.datasets import Dataset
from bnnpriors.store import StoreError
from bnnpriors.variational import LinearRegression

HMC = M.MCMC(bp.samplers.HMC(step_size=0.1, num_steps=5), num_samples=150, num_warmup=50, num_chains=4)
LINEAR: dict[str, M.Method] = {
    "HMC": HMC,
    "mean field": M.MeanField(num_steps=300, learning_rate=0.05, num_predictive=2000),
    "low rank": M.LowRank(rank=1, num_steps=300, learning_rate=0.05, num_predictive=2000),
    "function space": M.FunctionSpace(num_points=2, jitter=0.0, num_steps=200, learning_rate=0.05),
    "Laplace": M.Laplace(num_steps=300, learning_rate=0.05),
    "infinite width": M.InfiniteWidth(),
}


def line(kind: str = "regression") -> Dataset:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(60, 2))
    y = x @ [1.0, -0.5] + 0.5 * generator.normal(size=60)
    if kind == "classification":
        y = (y > 0).astype(float)
    return Dataset.from_raw("line", x[:40], y[:40], x[40:], y[40:], kind=kind, dtype=torch.float64)


def linear(data: Dataset, prior: object = None, *, noise: object = 0.5, **options) -> bp.Posterior:
    net = nn.Linear(2, data.num_outputs, bias=False).double()
    model = bp.attach(net, P.Normal(0.0, 1.0) if prior is None else prior)
    likelihood = bp.likelihoods.Gaussian(noise) if data.kind == "regression" else bp.likelihoods.Categorical()
    return bp.Posterior(model, likelihood, data.x_train, data.y_train, **options)


def test_a_linear_model_has_one_posterior_whatever_the_method() -> None:
    """Its exact NLL, to 0.03 nats: sampling and stochastic gradients leave 0.01. A single layer is its own infinite width."""
    data = line()
    posterior = linear(data)
    table = M.compare(posterior, data, LINEAR, seed=1)
    exact = LinearRegression(data.x_train, data.y_train[:, 0], 0.25, 1.0).predict(data.x_test)
    wanted = bp.evaluate(exact, data.y_test, target_scale=data.target_scale)
    rows = {row["method"]: row for row in table.rows}
    for name in LINEAR:
        assert rows[name]["nll"] == pytest.approx(wanted["nll"], abs=0.03), name
    for name in ("Laplace", "infinite width"):
        assert rows[name]["nll"] == pytest.approx(wanted["nll"], abs=1e-5)
    evidence = float(LinearRegression(data.x_train, data.y_train[:, 0], 0.25, 1.0).log_evidence())
    for name in ("Laplace", "infinite width"):
        assert rows[name]["own"]["log_evidence"] == pytest.approx(evidence, abs=1e-5)
    assert rows["function space"]["own"]["jitter"] == 0.0
    assert rows["HMC"]["own"]["rhat_max"] < 1.2
    assert table.best in LINEAR


def test_gaps_are_paired() -> None:
    data = line()
    table = M.compare(linear(data), data, {"a": LINEAR["Laplace"], "b": M.DeepEnsemble(2, 200)})
    one, other = (table.points[name]["log_prob"] for name in ("a", "b"))
    worse = "b" if table.best == "a" else "a"
    difference = (one - other) * (1 if worse == "b" else -1)
    wanted = (difference.mean(), difference.std(ddof=1) / len(difference) ** 0.5)
    assert table.gap(worse) == pytest.approx(wanted)
    assert table.gap(table.best)[0] == 0


def test_classes_with_inputs_from_elsewhere() -> None:
    """Softmax likelihood, all methods, and the AUROC of inputs far away."""
    data = line("classification")
    quick = {"HMC": {"num_samples": 30}, "mean field": {"num_steps": 100}}
    chosen = {
        name: dataclasses.replace(LINEAR[name], **quick.get(name, {}))
        for name in ("HMC", "mean field", "Laplace", "infinite width")
    }
    table = M.compare(linear(data), data, chosen, ood=0.01 * data.x_test)
    for row in table.rows:
        assert row["accuracy"] > 0.75
        assert {"brier", "ece", "auroc_ood", "seconds"} <= set(row)
        assert row["auroc_ood"] > 0.7
    assert "OOD AUROC" in table.markdown()


def test_what_does_not_apply_has_a_line_that_says_why() -> None:
    data = line()
    net = nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4), nn.Linear(4, 1)).double()
    posterior = bp.Posterior(
        bp.attach(net, P.Normal(0.0, 1.0)), bp.likelihoods.Gaussian(0.5), data.x_train, data.y_train
    )
    table = M.compare(
        posterior, data, {"infinite width": M.InfiniteWidth(), "Laplace": M.Laplace(num_steps=50)}
    )
    assert "LayerNorm" in table.rows[0]["reason"]
    assert "nll" in table.rows[1]
    text = table.markdown()
    assert "| infinite width | — |" in text
    assert "- infinite width has no figures: infinite.kernel: 1 (LayerNorm)" in text
    cold = linear(data, temperature=0.1)
    reason = M.compare(cold, data, {"gp": M.InfiniteWidth()}).rows[0]["reason"]
    assert "temperature 1, and 0.1" in reason
    flat = M.compare(linear(data, P.StudentT(3.0)), data, {"kron": M.Laplace(structure="kron")})
    wanted = "centred Normal" if find_spec("laplace") else "bnnpriors[laplace]"
    assert wanted in flat.rows[0]["reason"]


def test_a_failure_ends_one_method_alone() -> None:
    data = line()
    wild = M.MeanField(num_steps=20, learning_rate=1e6)
    table = M.compare(linear(data), data, {"wild": wild, "Laplace": M.Laplace(num_steps=50)})
    assert "lower learning_rate" in table.rows[0]["reason"]
    assert "nll" in table.rows[1]


@dataclasses.dataclass(frozen=True)
class Counted(M.Method):
    """A method of one's own that counts its runs in a file."""

    file: str
    num_steps: int = 20

    def check(self, posterior: bp.Posterior) -> None:
        """Nothing."""

    def fit(self, posterior: bp.Posterior, *, seed: int, store: Path | None) -> M.Fitted:
        """As Laplace."""
        with Path(self.file).open("a") as file:
            file.write("x")
        return M.Laplace(num_steps=self.num_steps).fit(posterior, seed=seed, store=store)


def test_a_result_on_disk_is_not_made_again(tmp_path: Path) -> None:
    data, count = line(), tmp_path / "count"
    method = Counted(str(count))
    first = M.compare(linear(data), data, {"one of mine": method}, folder=tmp_path / "run")
    again = M.compare(linear(data), data, {"one of mine": method}, folder=tmp_path / "run")
    assert count.read_text() == "x"
    assert again.rows == first.rows
    np.testing.assert_array_equal(again.points["one of mine"]["mean"], first.points["one of mine"]["mean"])
    changed = dataclasses.replace(method, num_steps=30)
    with pytest.raises(StoreError, match="other settings"):
        M.compare(linear(data), data, {"one of mine": changed}, folder=tmp_path / "run")
    with pytest.raises(StoreError, match="other settings"):
        M.compare(linear(data, noise=0.6), data, {"one of mine": method}, folder=tmp_path / "run")
    file = tmp_path / "run" / "methods" / "one-of-mine.json"
    file.write_text(file.read_text()[:50])
    with pytest.raises(StoreError, match="damaged"):
        M.compare(linear(data), data, {"one of mine": method}, folder=tmp_path / "run")
    file.unlink()  # as where the process ended between the arrays and the row
    M.compare(linear(data), data, {"one of mine": method}, folder=tmp_path / "run")
    assert count.read_text() == "xx"


def test_draws_of_an_earlier_run_serve(tmp_path: Path) -> None:
    data = line()
    posterior = linear(data)
    store = tmp_path / "draws"
    bp.sample(
        posterior, HMC.sampler, num_samples=30, num_warmup=10, num_chains=2, store=store, progress=False
    )
    loaded = dataclasses.replace(HMC, draws=str(store))
    row = M.compare(posterior, data, {"HMC": loaded}).rows[0]
    assert row["own"]["acceptance"] > 0
    other = linear(data, noise=P.HalfNormal(1.0))
    assert "other latents" in M.compare(other, data, {"HMC": loaded}).rows[0]["reason"]


def test_hyperpriors_give_way_to_numbers_that_are_learnt() -> None:
    """Under a shared scale the limit is a mixture; with learn=True the marginal likelihood rises above that of the start."""
    data = line()
    prior = {"weight": P.Normal(0.0, P.HalfNormal(1.0), centred=False)}
    posterior = linear(data, prior, noise=P.HalfNormal(1.0))
    rows = M.compare(
        posterior,
        data,
        {
            "as it is": M.InfiniteWidth(),
            "learnt": M.InfiniteWidth(learn=True),
            "start": M.InfiniteWidth(learn=True, num_steps=1),
        },
    ).rows
    assert "mixture of Gaussian processes" in rows[0]["reason"]
    assert rows[1]["own"]["log_evidence"] > rows[2]["own"]["log_evidence"]


def test_mistakes_are_named_before_any_work() -> None:
    data = line()
    posterior = linear(data)
    with pytest.raises(ValueError, match="no methods given"):
        M.compare(posterior, data, {})
    with pytest.raises(ValueError, match="give the same file"):
        M.compare(posterior, data, {"a b": HMC, "a  b": HMC})
    with pytest.raises(TypeError, match=r"bp.methods.Laplace\(\)"):
        M.compare(posterior, data, {"a": "HMC"})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="expected one; compare each by itself"):
        M.compare(linear(data, temperature=[0.1, 1.0]), data, {"HMC": HMC})
    with pytest.raises(ValueError, match="not the training part"):
        M.compare(posterior, bp.datasets.diabetes(), {"HMC": HMC})
    few = M.FunctionSpace(num_points=50)
    assert (
        "num_points 50 given, expected 1 to 40" in M.compare(posterior, data, {"few": few}).rows[0]["reason"]
    )
    x = torch.zeros(5001, 2, dtype=torch.float64)
    many = bp.Posterior(posterior.model, bp.likelihoods.Gaussian(0.5), x, x[:, :1])
    with pytest.raises(ValueError, match=r"5001 function values .* give num_points"):
        M.FunctionSpace().check(many)
    assert "num_members 0" in M.compare(posterior, data, {"none": M.DeepEnsemble(0)}).rows[0]["reason"]


def test_table_and_page(tmp_path: Path) -> None:
    data = line()
    table = M.compare(
        linear(data), data, {"Laplace <full>": M.Laplace(num_steps=50), "cold": M.Laplace(structure="no")}
    )
    table.write(tmp_path)
    page = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert "Laplace &lt;full&gt;" in page
    assert "<full>" not in page
    assert page.count("<svg") == 3
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == str(table)
    assert json.dumps(table.flat())
