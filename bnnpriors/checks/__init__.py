"""Is a plug-in right? Tests of a user's own prior, as the library's own are tested."""

from .prior import check_prior
from .report import CheckError, Finding, Report

__all__ = ["CheckError", "Finding", "Report", "check_prior"]
