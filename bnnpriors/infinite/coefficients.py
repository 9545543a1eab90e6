"""The polynomials of arccos and arcsin, read where they are written: csrc/coefficients.hpp."""

from __future__ import annotations

import re
from functools import cache

from ..extension import FOLDER


@cache
def coefficients(name: str) -> tuple[float, ...]:
    """Coefficients of a polynomial, lowest power first: of "ARC_SINGLE", "ARC_DOUBLE", "SINE_SINGLE" or "SINE_DOUBLE"."""
    text = (FOLDER / "coefficients.hpp").read_text()
    found = re.search(rf"\b{name}\[\] = \{{(.*?)\}}", text, re.DOTALL)
    assert found is not None, name
    return tuple(float(number) for number in found[1].split(",") if number.strip())
