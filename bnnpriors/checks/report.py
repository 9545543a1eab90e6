"""What a check reports: one finding a property, in a table that can be read and a verdict that can be asserted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class CheckError(AssertionError):
    """A checked object lacks a property that it must have."""


class NotApplicable(Exception):
    """Raised by a check of a property that the subject cannot have; its text is the reason."""


@dataclass(frozen=True)
class Finding:
    """One property.

    Attributes:
        name: the property. holds: True or False; None where the property is not applicable.
        figure: what was measured and what it was compared with, or why it is not applicable.
    """

    name: str
    holds: bool | None
    figure: str

    @property
    def verdict(self) -> str:
        """`holds`, `FAILS` or `not applicable`."""
        return {True: "holds", False: "FAILS", None: "not applicable"}[self.holds]


@dataclass(frozen=True)
class Report:
    """The findings about one object. Its `str` is a table with one line a property.

    Attributes:
        subject: the object, in words. findings: in the order in which the properties were checked.
    """

    subject: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether no property fails."""
        return not self.failures

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that fail."""
        return tuple(finding for finding in self.findings if finding.holds is False)

    def __getitem__(self, name: str) -> Finding:
        """The finding about one property."""
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(f"{name!r} given, expected one of {[finding.name for finding in self.findings]}")

    def raise_if_failed(self) -> None:
        """Raise CheckError, with the name and the figure of each property that fails."""
        if self.failures:
            lines = "\n".join(f"  {finding.name}: {finding.figure}" for finding in self.failures)
            raise CheckError(f"{self.subject} fails {len(self.failures)} of its checks:\n{lines}")

    def __str__(self) -> str:
        """The table."""
        wide = max((len(finding.name) for finding in self.findings), default=0)
        rows = [f"{f.name:<{wide}}  {f.verdict:<14}  {f.figure}" for f in self.findings]
        counts = [f"{sum(f.holds is want for f in self.findings)} {word}" for want, word in _COUNTED]
        return "\n".join([f"{self.subject}: {', '.join(counts)}", *rows])


_COUNTED = ((True, "hold"), (False, "fail"), (None, "not applicable"))


class Check(NamedTuple):
    """One property and how it is checked.

    Attributes:
        name: the property. run: subject -> (whether it holds, the figure); raises NotApplicable with the reason.
        needs: properties without which this one cannot be judged.
    """

    name: str
    run: Callable[[Any], tuple[bool, str]]
    needs: tuple[str, ...] = ()


def run_checks(subject: Any, title: str, checks: Sequence[Check]) -> Report:
    """Run every check; one that raises fails, one whose needs failed is not applicable."""
    findings: dict[str, Finding] = {}
    for check in checks:
        broken = [name for name in check.needs if name in findings and findings[name].holds is False]
        findings[check.name] = (
            Finding(check.name, None, f"cannot be judged while '{broken[0]}' fails")
            if broken
            else _run(check, subject)
        )
    return Report(title, tuple(findings.values()))


def _run(check: Check, subject: Any) -> Finding:
    try:
        holds, figure = check.run(subject)
    except NotApplicable as reason:
        return Finding(check.name, None, str(reason))
    except Exception as error:
        text = " ".join(str(error).split())
        return Finding(check.name, False, f"raised {type(error).__name__}: {_shortened(text)}")
    return Finding(check.name, bool(holds), figure)


def _shortened(text: str, length: int = 300) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
