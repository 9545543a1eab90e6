"""`check_kernel`: sound kernels pass, and each planted fault is found by the check that is there for it."""

import copy

import gpytorch
import pytest
import torch
from gpytorch.kernels import Kernel, LinearKernel, MaternKernel, PeriodicKernel, RBFKernel, ScaleKernel

from bnnpriors import infinite
from bnnpriors.checks import CheckError, check_kernel
from bnnpriors.checks.kernel import KERNEL_CHECKS

from ..infinite.networks import NETWORKS, inputs, model
from .faulty_kernels import FAULTS, GradientCut

LAST = "networks of finite width"


@pytest.mark.parametrize(
    "kernel",
    [
        RBFKernel(),
        ScaleKernel(MaternKernel(nu=0.5, ard_num_dims=2)),
        LinearKernel() + PeriodicKernel() * RBFKernel(active_dims=[1, 3]),
    ],
    ids=["RBF", "Matern", "sum"],
)
def test_kernels_of_gpytorch_pass(kernel: Kernel) -> None:
    """With inputs of as many features as they say, and left as they were."""
    before = copy.deepcopy(kernel.state_dict())
    random = torch.get_rng_state()
    report = check_kernel(kernel)
    report.raise_if_failed()
    assert [finding.name for finding in report.findings] == [check.name for check in KERNEL_CHECKS]
    assert [finding.name for finding in report.findings if finding.holds is None] == [LAST]
    assert all(torch.equal(before[name], value) for name, value in kernel.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_of_networks_pass(name: str) -> None:
    check_kernel(infinite.kernel(model(name)), inputs(name, 4)).raise_if_failed()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_faults_are_found(fault: type[Kernel]) -> None:
    """By the check of the property that they lack."""
    report = check_kernel(fault())
    assert report[FAULTS[fault]].holds is False, report
    assert not report.passed


def test_the_report_says_what_is_wrong() -> None:
    report = check_kernel(GradientCut())
    assert [finding.name for finding in report.failures] == ["gradients"]
    assert "raw_lengthscale[0]: " in report["gradients"].figure
    with pytest.raises(CheckError, match="GradientCut on inputs of shape"):
        report.raise_if_failed()


@pytest.mark.slow
def test_networks_of_finite_width() -> None:
    """The kernel of the networks passes; one whose last hidden layer has a variance 1.4 times too large does not."""
    name = "strided"
    kernel = infinite.kernel(model(name))
    x = inputs(name, 3)
    report = check_kernel(kernel, x, networks=lambda width: model(name, width).float())
    assert report[LAST].holds, report
    variance = kernel.weight_variance.detach().clone()
    variance[-2] *= 1.4
    kernel.set(weight_variance=variance)
    wrong = check_kernel(kernel, x, networks=lambda width: model(name, width).float())
    assert [finding.name for finding in wrong.failures] == [LAST]


def test_networks_that_do_not_get_wide() -> None:
    """Of one width whatever is asked for, the spread does not fall."""
    kernel = infinite.kernel(model("dense"))
    report = check_kernel(kernel, inputs("dense", 3), networks=lambda width: model("dense", 96).float())
    assert report[LAST].holds is False
    assert "spread falls 1.0" in report[LAST].figure or "spread falls 0.9" in report[LAST].figure


def test_what_cannot_be_checked(as_a_user_meets_it: None) -> None:
    kernel = infinite.kernel(model("strided"))
    with pytest.raises(TypeError, match="int given, expected bp"):
        check_kernel(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="works on positions; pass x"):
        check_kernel(kernel)
    x = inputs("strided", 3)
    for bad in (x[:2], x[[0, 1, 1]], x / 0):
        with pytest.raises(ValueError, match="three at least"):
            check_kernel(kernel, bad)
    with pytest.raises(ValueError, match="seed -1"):
        check_kernel(RBFKernel(), seed=-1)
    assert check_kernel(infinite.kernel(model("strided"), input_shape=(2, 5, 4))).passed
    assert isinstance(kernel, gpytorch.kernels.Kernel)
