"""The zoo from settings: sizes come from the data, and batch normalisation from the training inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bnnpriors.cli.build import build_network
from bnnpriors.datasets import Dataset


def images(channels: int, size: int, classes: int = 4) -> Dataset:
    random = np.random.default_rng(0)
    x, y = random.random((12, channels, size, size)), np.arange(12) % classes
    return Dataset.from_raw("tiny", x, y, x, y, kind="classification", shared_scale=True)


@pytest.mark.parametrize(
    ("class_path", "arguments", "shape"),
    [
        ("bnnpriors.models.mnist_cnn", {"channels": 2}, (1, 28)),
        ("bnnpriors.models.lenet5", {}, (1, 28)),
        ("bnnpriors.models.lenet5", {"pooling": "average"}, (3, 32)),
        ("bnnpriors.models.myrtle", {"channels": 2, "depth": 5}, (3, 32)),
        ("bnnpriors.models.resnet20", {"channels": 2}, (3, 32)),
    ],
)
def test_the_vision_models_fit_the_data(
    class_path: str, arguments: dict[str, Any], shape: tuple[int, int]
) -> None:
    data = images(*shape)
    net = build_network(class_path, arguments, data, seed=0)
    assert net(data.x_train).shape == (12, 4)


def test_batch_normalisation_is_frozen_at_the_training_inputs() -> None:
    data = images(3, 32)
    arguments = {"channels": 2, "norm": "batch", "activation": "relu", "bias": False}
    net = build_network("bnnpriors.models.resnet20", arguments, data, seed=0)
    inner = net[0].conv(data.x_train)
    torch.testing.assert_close(net[0].norm.running_mean, inner.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert not any(module.training for module in net.modules() if "BatchNorm" in type(module).__name__)


class Calibrated(torch.nn.Sequential):
    """A user's network that brings its statistics along."""

    def __init__(self) -> None:
        super().__init__(torch.nn.Flatten(), torch.nn.BatchNorm1d(16), torch.nn.Linear(16, 4))
        self[1].running_mean.fill_(5.0)
        self[1].num_batches_tracked.fill_(7)
        self.eval()


def test_statistics_that_a_network_has_are_kept() -> None:
    net = build_network(f"{__name__}.Calibrated", {}, images(1, 4), seed=0)
    assert net[1].running_mean.tolist() == [5.0] * 16
