"""Gradients that were changed between `backward` and `step`, as gradient clipping does."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor


class Guard:
    """Remembers what `backward` left in each gradient: its memory and its version, which every change in place counts up."""

    def __init__(self) -> None:
        self._left: dict[int, tuple[int, int]] = {}
        self._watched: set[int] = set()

    def watch(self, parameters: Iterable[Tensor]) -> None:
        """Look at these parameters' gradients from now on; a frozen one cannot be watched yet."""
        left = self._left

        def note(parameter: Tensor) -> None:
            if parameter.grad is not None:
                left[id(parameter)] = (parameter.grad.data_ptr(), parameter.grad._version)

        for parameter in parameters:
            if parameter.requires_grad and id(parameter) not in self._watched:
                self._watched.add(id(parameter))
                parameter.register_post_accumulate_grad_hook(note)

    def is_changed(self, parameter: Tensor) -> bool:
        """Whether the gradient is not what `backward` left there; False where no `backward` was seen."""
        assert parameter.grad is not None
        now = (parameter.grad.data_ptr(), parameter.grad._version)
        return self._left.get(id(parameter), now) != now

    def forget(self) -> None:
        """Begin again, after a step."""
        self._left.clear()
