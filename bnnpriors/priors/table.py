"""The table of families in the documentation, made from the classes: `python -m bnnpriors.priors.table docs/guide/priors.md`."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from torch.distributions import constraints

from .. import priors
from .base import Prior
from .location_scale import LocationScale

START, END = "<!-- families: start -->", "<!-- families: end -->"
SUPPORTS = (
    (constraints.real, "reals"),
    (constraints.positive, "positive"),
    (constraints.simplex, "probabilities"),
    (constraints.corr_cholesky, "Cholesky factors"),
)


def families() -> list[type[Prior]]:
    """Every public prior class that can be attached or used as a hyperprior, in the order of `priors.__all__`."""
    found = (getattr(priors, name) for name in priors.__all__)
    return [
        item for item in found
        if inspect.isclass(item) and issubclass(item, Prior) and item not in (Prior, LocationScale)
    ]  # fmt: skip


def table() -> str:
    """A Markdown table: the call, the first paragraph of the docstring, the support and the forms of each family."""
    rows = ["| prior | density | on | forms |", "|---|---|---|---|"]
    rows += [
        f"| `{_call(family)}` | {_summary(family)} | {_support(family)} | {_forms(family)} |"
        for family in families()
    ]
    return "\n".join(rows)


def write(page: Path) -> None:
    """Put the table between the two markers of a page. Raises ValueError where the page lacks them."""
    text = page.read_text(encoding="utf-8")
    if START not in text or END not in text:
        raise ValueError(f"{page}: expected the markers {START} and {END} around the table")
    before, rest = text.split(START, 1)
    _, after = rest.split(END, 1)
    page.write_text(f"{before}{START}\n{table()}\n{END}{after}", encoding="utf-8")


def _call(family: type[Prior]) -> str:
    positional = [
        parameter.name for parameter in inspect.signature(family).parameters.values()
        if parameter.kind is not parameter.KEYWORD_ONLY
    ]  # fmt: skip
    return f"{family.__name__}({', '.join(positional)})"


def _summary(family: type[Prior]) -> str:
    first = inspect.cleandoc(family.__doc__ or "").split("\n\n")[0]
    return " ".join(first.split()).replace("|", "\\|").replace("*", "\\*")


def _support(family: type[Prior]) -> str:
    if isinstance(inspect.getattr_static(family, "support"), property):
        return {"Uniform": "an interval"}.get(family.__name__, "as its parts")
    return next(text for support, text in SUPPORTS if family.support is support)


def _forms(family: type[Prior]) -> str:
    parameters = inspect.signature(family).parameters
    if "centred" not in parameters:
        return "centred" if family.centred else "normal latent"
    forms = "centred, non-centred" if parameters["centred"].default else "non-centred, centred"
    return f"{forms}, normal latent" if "normal_latent" in parameters else forms


if __name__ == "__main__":
    if len(sys.argv) == 2:
        write(Path(sys.argv[1]))
    else:
        print(table())
