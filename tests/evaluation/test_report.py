"""The report: what its verdict says, and that the page stands on its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

import bnnpriors as bp
from bnnpriors.datasets import Dataset, digits
from bnnpriors.evaluation.report import Report, write_report
from bnnpriors.evaluation.report_figures import as_pictures
from bnnpriors.evaluation.report_verdict import best_row, grade, reasons, verdict
from bnnpriors.models import mlp


def row(prior: str = "Normal", temperature: float = 1.0, nll: float = 0.2, **changes: Any) -> dict[str, Any]:
    """A posterior that is sampled well, but for the changes."""
    good: dict[str, Any] = {
        "prior": prior, "temperature": temperature, "nll": nll, "nll_se": 0.01, "chains": 2, "draws": 500,
        "rhat_predictions": 1.002, "ess_bulk_predictions": 700.0, "ess_tail_predictions": 600.0, "acceptance": 0.8,
        "configurational_temperature": 1.001, "configurational_temperature_se": 0.002, "warnings": [],
    }  # fmt: skip
    return good | changes


@pytest.mark.parametrize(
    ("changes", "expected", "word"),
    [
        ({}, "good", None),
        ({"rhat_predictions": 1.05}, "fair", None),
        ({"ess_tail_predictions": 150.0}, "fair", None),
        ({"rhat_predictions": 1.2}, "poor", "disagree"),
        ({"rhat_predictions": math.nan}, "poor", "not defined"),
        ({"acceptance": 0.2}, "poor", "accepted"),
        ({"divergent": 0.1}, "poor", "diverge"),
        ({"configurational_temperature": 1.3}, "poor", "configurational"),
        ({"bfmi": 0.2}, "fair", None),
        ({"bfmi": 0.9, "funnels": []}, "good", None),
        ({"funnels": ["0.weight.scale"]}, "fair", None),
        ({"configurational_temperature": 1.3, "configurational_temperature_se": 0.2}, "good", None),
    ],
)
def test_grades(changes: dict[str, float], expected: str, word: str | None) -> None:
    assert grade(row(**changes)) == expected
    assert [word in why for why in reasons(row(**changes))] == ([True] if word else [])


def said(rows: list[dict[str, Any]]) -> str:
    return " ".join(text for _, answer in verdict(rows) for text in answer)


def test_verdict_tells_a_cold_posterior_from_noise() -> None:
    clear = said([row(temperature=0.1, nll=0.1), row(temperature=1.0, nll=0.2)])
    assert "NLL is 0.100 ± 0.010 at T = 0.1 and 0.200 ± 0.010 at T = 1: colder is better beyond" in clear
    assert "is not better beyond" in said([row(temperature=0.1, nll=0.19), row(temperature=1.0, nll=0.2)])
    assert "lowest at T = 1 itself" in said([row(temperature=0.1, nll=0.3), row(temperature=1.0, nll=0.2)])
    alone = said([row(temperature=0.1, nll=0.1, nll_se=math.nan), row(nll=0.2, nll_se=math.nan)])
    assert "is not better beyond" in alone


def test_verdict_does_not_trust_poor_draws() -> None:
    rows = [row(temperature=0.1, nll=0.01, rhat_predictions=2.0), row(temperature=0.3), row(nll=0.3)]
    assert best_row(rows)["temperature"] == 0.3
    assert "Of 3 posteriors, 2 are sampled well, 0 fairly and 1 poorly. Poor: Normal at T = 0.1." in said(
        rows
    )
    assert "Poor: every one." in said([row(rhat_predictions=2.0)])
    poor_base = said([row(temperature=0.1, nll=0.1), row(nll=0.3, acceptance=0.1)])
    assert "Do not rely on it: one of the two is sampled poorly." in poor_base


def test_verdict_names_funnels() -> None:
    one = {"prior": "Hierarchical", "funnels": ["0.weight.scale"]}
    rows = [row(temperature=t, **one) for t in (0.1, 1.0)]
    words = "Funnels between 0.weight.scale and the centred weights that they scale: "
    assert words + "every one. More draws hardly help there" in said(rows)
    assert words + "Hierarchical at every T." in said([*rows, row()])
    assert words + "Hierarchical at T = 1." in said([row("Hierarchical", 0.1), rows[1]])
    assert "Funnels" not in said([row(funnels=[]), row("Other")])


def test_verdict_orders_the_priors() -> None:
    rows = [row("A", nll=0.3), row("B", nll=0.1), row("C", nll=0.2)]
    assert "best first: B 0.100 ± 0.010, C 0.200 ± 0.010, A 0.300 ± 0.010." in said(rows)


class _Page(HTMLParser):
    """Collects references to anything outside, scripts, duplicate ids, and tags that are not closed."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "hr", "use", "path"})

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "script"
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and not str(value).startswith(("#", "data:")):
                self.outside.append(str(value))
            if name == "id":
                self.ids.append(str(value))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def report() -> Callable[..., Report]:
    data = digits()
    model = bp.attach(mlp(64, 10, hidden=(3,)), bp.priors.Normal(0.0, 0.3))
    posterior = bp.Posterior(
        model, bp.likelihoods.Categorical(), data.x_train, data.y_train, temperature=[0.1, 1.0]
    )
    sampler = bp.samplers.GGMC(0.003, 0.9, 2)
    draws = bp.sample(posterior, sampler, num_samples=6, num_chains=2, progress=False)
    rows = [
        row("a & <b>", t, error=0.1, error_se=0.01, dim=243.0, warnings=["use a <smaller> step_size."])
        for t in (0.1, 1.0)
    ]

    def make(**changes: Any) -> Report:
        given: dict[str, Any] = {
            "title": "x < y", "rows": rows, "metrics": ("error", "nll", "ece"), "draws": {"a & <b>": draws}, "data": data,
            "ood": data.x_test.flip(1), "settings": "key: <value>", "folder": "run",
            "results": {"versions": {"torch": "2"}, "machine": "m", "date": "today", "line": "bnnpriors sweep", "seconds": 60.0,
                        "command": "sweep"},
        }  # fmt: skip
        return Report(**given | changes)

    return make


def test_the_page_stands_on_its_own(report: Callable[..., Report], tmp_path: Path) -> None:
    write_report(report(), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert page.outside == []
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert "url(http" not in text
    assert "@import" not in text
    for heading in (
        "Can the draws be trusted?",
        "Metrics",
        "Cold-posterior",
        "Calibration",
        "Single",
        "Diagnostics",
    ):
        assert heading in text
    for escaped in (
        "a &amp; &lt;b&gt;",
        "x &lt; y",
        "key: &lt;value&gt;",
        "use a &lt;smaller&gt; step_size.",
    ):
        assert escaped in text
    assert "bnnpriors sweep --config run/config.yaml" in text
    assert "1 prior × 2 temperatures · 2 chains × 500 draws each · 243 parameters" in text
    assert "0.1000<span" in text
    assert "calibration error" not in text  # a metric that no row has is left out
    assert not list(tmp_path.glob("*.partial"))


def test_the_page_is_the_same_twice(report: Callable[..., Report], tmp_path: Path) -> None:
    write_report(report(ood=None), tmp_path / "a.html")
    write_report(report(ood=None), tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_report_without_its_draws_is_refused(report: Callable[..., Report], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bnnpriors evaluate"):
        write_report(report(rows=[]), tmp_path / "report.html")
    with pytest.raises(ValueError, match="expected the same"):
        write_report(report(draws={}), tmp_path / "report.html")


def test_pictures_are_the_raw_pixels() -> None:
    data = digits()
    pictures = as_pictures(data, data.x_test[:3])
    assert pictures is not None
    assert pictures.shape == (3, 8, 8)
    assert torch.allclose(pictures.flatten(1), data.denormalize(data.x_test[:3]))
    x = [[0.0, 1.0, 2.0, 3.0], [1.0, 0.0, 5.0, 4.0]]
    table = Dataset.from_raw("table", x, [0.0, 1.0], x, [0.0, 1.0], kind="regression")
    assert as_pictures(table, table.x_test) is None
