"""Ready-made networks, as plain `torch.nn` modules: give them to `bnnpriors.attach` like any other."""

from bnnpriors.models.convolutional import mnist_cnn
from bnnpriors.models.dense import mlp
from bnnpriors.models.residual import FilterResponseNorm, resnet20

__all__ = ["FilterResponseNorm", "mlp", "mnist_cnn", "resnet20"]
