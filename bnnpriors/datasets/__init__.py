"""Data sets: every loader is a plain function that returns a standardised `Dataset`.

`digits` and `diabetes` come with scikit-learn and need no download; `uci`, `idx` and `npz` read a folder or file of the
user's; `mnist`, `fashion_mnist`, `kmnist`, `notmnist`, `cifar10`, `cifar100` and `svhn` read a folder too, and download what is
missing, checked by sha256. `out_of_distribution` makes the inputs on which a model ought to be unsure, and `corruptions` those on
which it ought to be less and less sure.
"""

from bnnpriors.datasets.bundled import diabetes, digits
from bnnpriors.datasets.cifar import cifar10, cifar100
from bnnpriors.datasets.corruptions import corrupt, corruptions
from bnnpriors.datasets.dataset import Dataset
from bnnpriors.datasets.idx import idx, read_idx
from bnnpriors.datasets.mnist import fashion_mnist, kmnist, mnist, notmnist
from bnnpriors.datasets.npz import npz
from bnnpriors.datasets.ood import out_of_distribution
from bnnpriors.datasets.svhn import svhn
from bnnpriors.datasets.uci import uci

__all__ = [
    "Dataset",
    "cifar10",
    "cifar100",
    "corrupt",
    "corruptions",
    "diabetes",
    "digits",
    "fashion_mnist",
    "idx",
    "kmnist",
    "mnist",
    "notmnist",
    "npz",
    "out_of_distribution",
    "read_idx",
    "svhn",
    "uci",
]
