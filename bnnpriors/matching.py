"""Which parameter of a module gets which prior: glob patterns over names, first match wins."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from torch import nn

from .priors import Fixed, Prior, as_prior

JOINT = "joint."


class Match(NamedTuple):
    """A prior and the parameters that it is on.

    Attributes:
        name: the parameter's name; `joint.<patterns>` for a joint prior.
        prior: as given. parameters: by name; one, or those of a joint prior in the module's order.
    """

    name: str
    prior: Prior
    parameters: dict[str, nn.Parameter]

    @property
    def is_joint(self) -> bool:
        """Whether it is one joint prior on the vector of all elements."""
        return self.name not in self.parameters


def match(net: nn.Module, priors: Mapping[str | tuple[str, ...], object] | object) -> list[Match]:
    """The priors of the trainable parameters; those that match `Fixed()` are frozen. See `attach`.

    Raises:
        TypeError: a prior is none. ValueError: a parameter matches no pattern, or a pattern no parameter.
    """
    given = dict(priors) if isinstance(priors, Mapping) else {"*": priors}
    rules = {key: as_prior(prior) for key, prior in given.items()}
    patterns = [(p, key) for key in rules for p in ((key,) if isinstance(key, str) else key)]
    aliases: dict[int, list[str]] = {}
    for name, parameter in net.named_parameters(remove_duplicate=False):
        aliases.setdefault(id(parameter), []).append(name)

    found: dict[str, Match] = {}
    used: set[str] = set()
    fixed, missing = [], []
    for name, parameter in net.named_parameters():
        hits = [(p, k) for p, k in patterns if any(fnmatchcase(a, p) for a in aliases[id(parameter)])]
        used.update(p for p, _ in hits)
        if not parameter.requires_grad:
            continue
        if not hits:
            missing.append(f"  {name} {tuple(parameter.shape)}")
            continue
        key = hits[0][1]
        if isinstance(rules[key], Fixed):
            fixed.append(parameter)
            continue
        title = name if isinstance(key, str) else JOINT + "+".join(key)
        found.setdefault(title, Match(title, rules[key], {})).parameters[name] = parameter
    if missing:
        raise ValueError(
            "attach: no pattern matches these parameters:\n"
            + "\n".join(missing)
            + "\nAdd a pattern for them, freeze them (requires_grad_(False)), or give them bp.priors.Fixed()"
        )
    if unused := [p for p, _ in patterns if p not in used]:
        raise ValueError(
            f"attach: no parameter matches {unused}; the names are {[n for n, _ in net.named_parameters()]}"
        )
    for parameter in fixed:
        parameter.requires_grad_(False)
    return list(found.values())
