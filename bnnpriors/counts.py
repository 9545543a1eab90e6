"""Counts as users give them."""

from __future__ import annotations

import operator
from typing import Any


def as_integer(value: Any) -> int | None:
    """An integer of any type (int, NumPy's, a tensor's) as an int; None for anything else, such as 2.5."""
    try:
        return operator.index(value)
    except TypeError:
        return None
