"""What every sampler refuses: step sizes that are no numbers, and runs in which it cannot tune what it is asked to."""

import re

import numpy as np
import pytest

from bnnpriors import samplers
from bnnpriors.samplers import AMAGOLD, GGMC, HMC, MCLMC, Layerwise

from ..conjugate import regression, sample

NAMES = sorted({*samplers.__all__} - {"Cyclical", "Layerwise", "ReplicaExchange", "Sampler"})


@pytest.mark.usefixtures("as_a_user_meets_it")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["0.1", None, [0.1], 0.0, float("nan")], ids=str)
def test_a_step_size_is_a_positive_number(name, value):
    kind = getattr(samplers, name)
    said = f"{name}: step_size {value!r} given, expected a positive number"
    with pytest.raises(ValueError, match=re.escape(said)):
        kind(step_size=value)
    for number in (1, 0.1, np.float32(0.1), np.float64(0.1)):
        assert kind(step_size=number).step_size == number


@pytest.mark.usefixtures("as_a_user_meets_it")
@pytest.mark.parametrize("name", [n for n in NAMES if hasattr(getattr(samplers, n), "target_acceptance")])
@pytest.mark.parametrize("value", [0, 1.0, -0.5, "0.8"])
def test_a_target_is_between_none_and_all(name, value):
    kind = getattr(samplers, name)
    options = {"steps_per_test": 2} if name in ("GGMC", "MCLMC") else {}
    said = (
        f"target_acceptance {value!r} given, but"
        if name == "OBABO"
        else f"target_acceptance {value!r} given, expected"
    )
    with pytest.raises(ValueError, match=said):
        kind(target_acceptance=value, **options)


@pytest.mark.parametrize(
    "inner", [GGMC(0.1, steps_per_test=2, target_acceptance=0.8), AMAGOLD(0.1, target_acceptance=0.8)]
)
def test_a_target_needs_a_warm_up(inner):
    """One that is given; the targets that `HMC` and `MCLMC` have by themselves may go without."""
    posterior, *_ = regression()
    for sampler in (inner, Layerwise(inner)):
        with pytest.raises(
            ValueError, match=r"target_acceptance 0\.8 given without a warm-up.*pass num_warmup=200 or more"
        ):
            sample(posterior, sampler, num_samples=1)
    sample(posterior, inner, num_samples=1, num_warmup=1, num_chains=1)
    for sampler in (HMC(0.1, 2), MCLMC(0.1), GGMC(0.1, steps_per_test=2)):
        sample(posterior, sampler, num_samples=1, num_chains=1)
