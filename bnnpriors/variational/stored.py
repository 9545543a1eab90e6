"""Independent draws of an approximation as those of a run in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ..draws import Draws
from ..posterior import Posterior
from ..store import FORMAT, Store


def in_memory(posterior: Posterior, theta: Float[Tensor, "draws dim"]) -> Draws:
    """Draws of one chain: names, predictions, export."""
    layout = [[name, list(shape)] for name, shape in posterior.layout.shapes]
    meta: dict[str, Any] = {
        "format": FORMAT,
        "temperatures": list(posterior.temperatures),
        "num_chains": 1,
        "layout": layout,
    }
    store = Store.create(None, meta)
    rows = np.asarray(theta.detach().cpu())
    store.reserve({"theta": rows[:1]}, len(rows))
    for row in rows:
        store.append({"theta": row[None]})
    store.commit({})
    return Draws(store, posterior)
