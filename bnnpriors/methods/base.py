"""What a method is: one way from a posterior to predictive distributions, with its own settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ..evaluation import Predictive
from ..posterior import Posterior


class NotApplicableError(ValueError):
    """A method that this posterior has no place for, with the reason."""


class Fitted(NamedTuple):
    """A method after its work.

    Attributes:
        predict: inputs [batch, ...] -> the predictive distribution there.
        figures: what the method says of itself, such as R̂, k̂ or an evidence.
    """

    predict: Callable[[Tensor], Predictive]
    figures: dict[str, float]


class Method(ABC):
    """Base class. A subclass is a frozen dataclass: its fields are the settings, and equal settings give equal results."""

    @abstractmethod
    def check(self, posterior: Posterior) -> None:
        """Raise what speaks against the method here, before any long work: NotApplicableError, or ValueError for settings that
        do not fit.
        """

    @abstractmethod
    def fit(self, posterior: Posterior, *, seed: int, store: Path | None) -> Fitted:
        """Do the work.

        Args:
            posterior: of one temperature.
            seed: of everything random.
            store: a folder of the method's own, where draws may be kept so that a stopped run goes on; None for none.
        """
