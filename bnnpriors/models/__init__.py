"""Ready-made networks, as plain `torch.nn` modules: give them to `bnnpriors.attach` like any other."""

from bnnpriors.models.convolutional import mnist_cnn
from bnnpriors.models.dense import mlp

__all__ = ["mlp", "mnist_cnn"]
