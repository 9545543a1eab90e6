"""What a sweep says, in plain words: which draws to trust, whether colder is better, and which prior predicts best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..priors.funnel import listed
from .chains import ESS_PER_CHAIN, RHAT_LIMIT
from .funnels import LOW_BFMI

Row = Mapping[str, Any]

POOR_RHAT, POOR_ACCEPTANCE, POOR_DIVERGENT, POOR_TEMPERATURE = 1.1, 0.4, 0.01, 0.05
RULES = (
    f"Good: R̂ of the predictions at most {RHAT_LIMIT}, and at least {ESS_PER_CHAIN} effective draws a chain, "
    f"no funnel, and an energy's fraction of missing information (E-BFMI) of at least {LOW_BFMI}. "
    f"Poor: R̂ of the predictions above {POOR_RHAT}, acceptance below {POOR_ACCEPTANCE}, more than {POOR_DIVERGENT:.0%} "
    f"of the draws divergent, or a configurational temperature off by more than {POOR_TEMPERATURE:.0%} and four standard "
    "errors. Fair: in between. Weights have symmetries that predictions do not, so R̂ of the weights does not count."
)


def grade(row: Row) -> str:
    """ "good", "fair" or "poor"; see `RULES`."""
    return "poor" if reasons(row) else "good" if _is_good(row) else "fair"


def reasons(row: Row) -> list[str]:
    """Why the draws of a posterior are poor, in a few words each; empty where they are not."""
    found = []
    rhat = row.get("rhat_predictions", math.nan)
    if math.isnan(rhat):
        found.append("R̂ is not defined (one chain, too few draws, or chains that never move)")
    elif rhat > POOR_RHAT:
        found.append(f"the chains disagree in their predictions (R̂ {rhat:.2f})")
    if row.get("acceptance", 1.0) < POOR_ACCEPTANCE:
        found.append(f"few proposals are accepted ({row['acceptance']:.0%})")
    if row.get("divergent", 0.0) > POOR_DIVERGENT:
        found.append(f"{row['divergent']:.1%} of the draws diverge")
    off = abs(row.get("configurational_temperature", 1.0) - 1)
    if off > max(POOR_TEMPERATURE, 4 * _number(row.get("configurational_temperature_se"))):
        found.append(f"the configurational temperature is {row['configurational_temperature']:.2f} T")
    return found


def verdict(rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
    """Questions and the sentences that answer them, the most important first."""
    questions = {"Can the draws be trusted?": _trust, "Is colder better?": _cold, "Which prior?": _best}
    return [(question, answer(rows)) for question, answer in questions.items()]


def nearest_to_one(rows: Sequence[Row]) -> float:
    """The temperature of the ladder closest to 1 on a logarithmic scale."""
    return float(min((row["temperature"] for row in rows), key=lambda t: abs(math.log(t))))


def best_row(rows: Sequence[Row]) -> Row:
    """The row of lowest NLL, among those whose draws are not poor where there are any."""
    usable = [row for row in rows if grade(row) != "poor"]
    return min(usable or rows, key=lambda row: _number(row["nll"], math.inf))


def _trust(rows: Sequence[Row]) -> list[str]:
    grades = [grade(row) for row in rows]
    counts = {name: grades.count(name) for name in ("good", "fair", "poor")}
    total = "Of {} posteriors, {good} are sampled well, {fair} fairly and {poor} poorly.".format(
        len(rows), **counts
    )
    poor = [row for row, name in zip(rows, grades, strict=True) if name == "poor"]
    if not poor:
        advice = (
            "Read the standard errors with the figures."
            if counts["fair"]
            else "The figures can be taken as they are."
        )
    else:
        advice = (
            f"Poor: {_places(poor, rows)}. Their figures describe these chains and not the posterior: sample and warm up "
            "longer before drawing conclusions from them."
        )
    return [total, advice, *_funnels(rows)]


def _funnels(rows: Sequence[Row]) -> list[str]:
    inside = [row for row in rows if row.get("funnels")]
    if not inside:
        return []
    names = list(dict.fromkeys(name for row in inside for name in row["funnels"]))
    return [
        f"Funnels between {listed(names)} and the centred weights that they scale: {_places(inside, rows)}. More draws hardly "
        "help there; the warnings name the priors to change."
    ]


def _places(some: Sequence[Row], rows: Sequence[Row]) -> str:
    """Which of the rows these are, in words."""
    if len(some) == len(rows):
        return "every one"
    places = []
    for prior in dict.fromkeys(row["prior"] for row in some):
        mine = [row for row in some if row["prior"] == prior]
        every = len(mine) == len([row for row in rows if row["prior"] == prior])
        places.append(
            f"{prior} at " + ("every T" if every else "T = " + _join(f"{r['temperature']:g}" for r in mine))
        )
    return "; ".join(places)


def _cold(rows: Sequence[Row]) -> list[str]:
    one = nearest_to_one(rows)
    sentences = []
    for prior in dict.fromkeys(row["prior"] for row in rows):
        mine = [row for row in rows if row["prior"] == prior]
        base = next(row for row in mine if row["temperature"] == one)
        sentences.append(f"{prior}: {_compare(base, best_row(mine))}")
    return sentences


def _compare(base: Row, best: Row) -> str:
    if base is best:
        return f"NLL is lowest at T = {base['temperature']:g} itself, {_figure(base)}."
    gain, error = base["nll"] - best["nll"], math.hypot(_number(base["nll_se"]), _number(best["nll_se"]))
    direction = "colder" if best["temperature"] < base["temperature"] else "warmer"
    clear = "is better beyond" if gain > 2 * error and error > 0 else "is not better beyond"
    text = (
        f"NLL is {_figure(best)} at T = {best['temperature']:g} and {_figure(base)} at T = {base['temperature']:g}: "
        f"{direction} {clear} twice the sampling error."
    )
    return text + (
        " Do not rely on it: one of the two is sampled poorly."
        if "poor" in (grade(base), grade(best))
        else ""
    )


def _best(rows: Sequence[Row]) -> list[str]:
    one = nearest_to_one(rows)
    ranked = sorted(
        (row for row in rows if row["temperature"] == one), key=lambda row: _number(row["nll"], math.inf)
    )
    if len(ranked) == 1:
        return [f"One prior was sampled; its NLL at T = {one:g} is {_figure(ranked[0])}."]
    listed = ", ".join(f"{row['prior']} {_figure(row)}" for row in ranked)
    poor = _join(row["prior"] for row in ranked if grade(row) == "poor")
    return [
        f"NLL at T = {one:g}, best first: {listed}." + (f" Sampled poorly there: {poor}." if poor else "")
    ]


def _figure(row: Row) -> str:
    return f"{row['nll']:.3f} ± {row['nll_se']:.3f}" if _number(row["nll_se"]) else f"{row['nll']:.3f}"


def _is_good(row: Row) -> bool:
    ess = min(_number(row.get("ess_bulk_predictions")), _number(row.get("ess_tail_predictions")))
    explores = not row.get("funnels") and not row.get("bfmi", math.nan) < LOW_BFMI
    return row["rhat_predictions"] <= RHAT_LIMIT and ess >= ESS_PER_CHAIN * row["chains"] and explores


def _number(value: float | None, otherwise: float = 0.0) -> float:
    return otherwise if value is None or math.isnan(value) else value


def _join(words: Any) -> str:
    return ", ".join(words)
