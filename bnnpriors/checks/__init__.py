"""Is a plug-in right? Tests of a user's own prior, sampler or kernel, as the library's own are tested."""

from .kernel import check_kernel
from .prior import check_prior
from .report import CheckError, Finding, Report
from .sampler import check_sampler

__all__ = ["CheckError", "Finding", "Report", "check_kernel", "check_prior", "check_sampler"]
