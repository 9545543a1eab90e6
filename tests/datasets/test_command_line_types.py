"""Loaders and models as `class_path`s: what the command line builds from YAML or flags, with no registry."""

from __future__ import annotations

import pytest
import torch
from jsonargparse import ArgumentParser, set_parsing_settings
from torch import nn

from bnnpriors.datasets import Dataset


def test_a_loader_is_a_class_path() -> None:
    set_parsing_settings(subclasses_enabled=[Dataset])
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=Dataset)
    parsed = parser.parse_args(
        ["--data", "bnnpriors.datasets.digits", "--data.seed=3", "--data.dtype=torch.float64"]
    )
    data = parser.instantiate(parsed).data
    assert isinstance(data, Dataset)
    assert data.x_train.dtype == torch.float64


@pytest.mark.parametrize(
    "flags",
    [
        [
            "--net",
            "bnnpriors.models.mlp",
            "--net.in_features=4",
            "--net.out_features=2",
            "--net.hidden=[8,8]",
        ],
        ["--net", "bnnpriors.models.mnist_cnn", "--net.channels=2"],
    ],
)
def test_a_model_is_a_class_path(flags: list[str]) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--net", type=nn.Module)
    assert isinstance(parser.instantiate(parser.parse_args(flags)).net, nn.Sequential)
