"""The markdown table of one job, from the records of its rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

Records = list[dict[str, Any]]
HEADER = (
    "| chains | contender | evaluations/s, median (min–max) | × best peer | × BlackJAX "
    "| set-up, first round s | set-up, later rounds s | import s |\n|--:|---|--:|--:|--:|--:|--:|--:|"
)


def table(records: Records) -> str:
    """Rows by number of chains, then fastest first.

    A ratio is the median over rounds of this contender's rate over the reference's in the same round. The references
    are the peer (any contender but ours) and the BlackJAX variant with the highest median rate; "–" where there is none.
    Contenders that were skipped or failed are listed below the table.
    """
    lines = [HEADER]
    for chains in sorted({record["chains"] for record in records}):
        rates: dict[str, dict[int, float]] = {}
        good = [record for record in records if record["chains"] == chains and "rate" in record]
        for record in good:
            rates.setdefault(record["contender"], {})[record["round"]] = record["rate"]
        ours = {record["contender"] for record in good if record["ours"]}
        speed = {name: median(by_round.values()) for name, by_round in rates.items()}
        peers = [name for name in rates if name not in ours]
        best = max(peers, key=speed.__getitem__, default=None)
        blackjax = max(
            (name for name in peers if name.startswith("blackjax")), key=speed.__getitem__, default=None
        )
        for name in sorted(rates, key=speed.__getitem__, reverse=True):
            mine = [record for record in good if record["contender"] == name]
            lines.append(
                row(chains, name, mine, rates[name], rates.get(best or ""), rates.get(blackjax or ""))
            )
    absent = {
        (record["contender"], record.get("skipped") or record.get("failed"))
        for record in records
        if "rate" not in record
    }
    return "\n".join(lines + [""] * bool(absent) + [f"- {name}: {why}" for name, why in sorted(absent)])


def row(
    chains: int,
    name: str,
    records: Records,
    rate: dict[int, float],
    best: dict[int, float] | None,
    blackjax: dict[int, float] | None,
) -> str:
    """One line of the table."""
    rates = [record["rate"] for record in records]
    cells = [
        str(chains),
        f"**{name}**" if records[0]["ours"] else name,
        f"{median(rates):,.0f} ({min(rates):,.0f}–{max(rates):,.0f})",
        ratio(rate, best),
        ratio(rate, blackjax),
        typical(records, "setup_s", lambda round_: round_ == 0),
        typical(records, "setup_s", lambda round_: round_ > 0),
        typical(records, "import_s", lambda round_: True),
    ]
    return "| " + " | ".join(cells) + " |"


def ratio(rate: dict[int, float], reference: dict[int, float] | None) -> str:
    """Median over common rounds of rate / reference."""
    ratios = [rate[round_] / reference[round_] for round_ in rate if round_ in reference] if reference else []
    return f"{median(ratios):.2f}" if ratios else "–"


def typical(records: Iterable[dict[str, Any]], key: str, keep: Callable[[int], bool]) -> str:
    """Median of a figure over the rounds that `keep` accepts."""
    values = [record[key] for record in records if keep(record["round"])]
    return f"{median(values):.1f}" if values else "–"
