"""Ready-made networks, as plain `torch.nn` modules: give them to `bnnpriors.attach` like any other."""

from bnnpriors.models.convolutional import lenet5, mnist_cnn, myrtle
from bnnpriors.models.dense import mlp
from bnnpriors.models.normalisation import FilterResponseNorm, freeze_statistics
from bnnpriors.models.residual import resnet20

__all__ = ["FilterResponseNorm", "freeze_statistics", "lenet5", "mlp", "mnist_cnn", "myrtle", "resnet20"]
