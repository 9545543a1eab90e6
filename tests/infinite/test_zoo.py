"""The published networks: their layers, their limits, and what their readouts become at the ends (values: test_references)."""

from collections import Counter

import pytest
import torch
from torch import Tensor

import bnnpriors as bp
from bnnpriors import infinite
from bnnpriors.infinite import zoo


def _images(channels: int = 3, size: int = 8, count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, size, size, generator=generator, dtype=torch.float64)


def _kinds(model: bp.BayesianModule) -> Counter[str]:
    return Counter(type(layer).__name__ for layer in model.net.modules())


def test_the_layers_are_the_published_ones() -> None:
    """As the papers count them: ResNet-32 has 31 convolutions beside its three shortcuts, and here one more at the end."""
    assert _kinds(zoo.convnet_gp())["Conv2d"] == 7
    assert _kinds(zoo.residual_cnn_gp())["Conv2d"] == 9
    assert _kinds(zoo.resnet32_gp())["Conv2d"] == 1 + 30 + 1 + 3
    assert _kinds(zoo.cnn_gp_14())["Conv2d"] == 14
    myrtle = _kinds(zoo.myrtle10())
    assert (myrtle["Conv2d"], myrtle["AvgPool2d"], myrtle["AdaptiveAvgPool2d"], myrtle["Linear"]) == (
        9,
        2,
        1,
        1,
    )


@pytest.mark.parametrize("make", [zoo.convnet_gp, zoo.resnet32_gp, zoo.cnn_gp_14, zoo.myrtle10])
def test_they_run_and_their_width_leaves_the_kernel_alone(make) -> None:  # type: ignore[no-untyped-def]
    x = _images()
    narrow, wide = make(2, shape=(3, 8, 8)), make(5, channels=3, shape=(3, 8, 8)).double()
    wide.sample_prior_(generator=torch.Generator().manual_seed(0))
    assert wide(x).shape == (3, 5)
    torch.testing.assert_close(
        infinite.kernel(narrow).gram(x), infinite.kernel(wide).gram(x), rtol=1e-12, atol=0
    )


def test_the_residual_gp_is_no_networks() -> None:
    model = zoo.residual_cnn_gp(2, shape=(1, 8, 8))
    assert model(_images(1).float()).shape == (3, 2)
    with pytest.raises(ValueError, match="skip from the inputs"):
        infinite.kernel(model)
    assert infinite.kernel(model, mean_terms=False).gram(_images(1)).shape == (3, 3)


@pytest.mark.parametrize("make", [zoo.cnn_gp_14, zoo.myrtle10])
def test_a_lengthscale_goes_from_independent_weights_to_mean_pooling(make) -> None:  # type: ignore[no-untyped-def]
    """Σ = δ and, times the number of positions, Σ = 1; the correlated prior's jitter and its lengthscale allow 1e-4."""
    x = _images(1, 8)

    def gram(readout: zoo.Readout) -> Tensor:
        return infinite.kernel(make(1, shape=(1, 8, 8), readout=readout)).gram(x)

    positions = 64 if make is zoo.cnn_gp_14 else 4
    torch.testing.assert_close(gram(0.02), gram("independent"), rtol=1e-4, atol=0)
    torch.testing.assert_close(gram(1e5), positions * gram("mean"), rtol=1e-4, atol=0)
    middle = gram(2.0)
    assert bool((middle > gram("independent")).all())
    assert bool((middle < positions * gram("mean")).all())


def test_bad_sizes(as_a_user_meets_it: None) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        zoo.convnet_gp(0)
    with pytest.raises(ValueError, match="multiples of four"):
        zoo.myrtle10(shape=(3, 30, 32))
    with pytest.raises(ValueError, match="expected 'independent'"):
        zoo.cnn_gp_14(readout="sum")
