"""The table of families in the guide is the one that the classes give."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnnpriors import priors as P
from bnnpriors.priors.table import END, START, families, table, write

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "priors.md"


def test_the_guide_is_up_to_date() -> None:
    text = PAGE.read_text(encoding="utf-8")
    shown = text.split(START)[1].split(END)[0].strip()
    assert shown == table(), "run: python -m bnnpriors.priors.table docs/guide/priors.md"


def test_every_public_prior_has_a_row_with_a_formula() -> None:
    rows = table().splitlines()[2:]
    assert len(rows) == len(families()) == len({row.split("|")[1] for row in rows})
    assert {P.Normal, P.Horseshoe, P.Distribution, P.Dirichlet} <= set(families())
    for row in rows:
        cells = row.replace("\\|", "").split("|")
        assert len(cells) == 6, row
        assert len(cells[2]) > 20, row


def test_a_page_without_markers_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before {START} old {END} after", encoding="utf-8")
    write(page)
    assert page.read_text(encoding="utf-8") == f"before {START}\n{table()}\n{END} after"
    page.write_text("nothing", encoding="utf-8")
    with pytest.raises(ValueError, match="expected the markers"):
        write(page)
