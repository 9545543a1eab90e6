"""Is a plug-in right? Tests of a user's own prior or sampler, as the library's own are tested."""

from .prior import check_prior
from .report import CheckError, Finding, Report
from .sampler import check_sampler

__all__ = ["CheckError", "Finding", "Report", "check_prior", "check_sampler"]
