"""Data sets: every loader is a plain function that returns a standardised `Dataset`.

`digits` and `diabetes` come with scikit-learn and need no download; `uci`, `idx`, `cifar10` and `npz` read a
folder or file of the user's; `mnist` and `fashion_mnist` download what is missing, checked by sha256.
`out_of_distribution` makes the inputs on which a model ought to be unsure.
"""

from bnnpriors.datasets.bundled import diabetes, digits
from bnnpriors.datasets.cifar import cifar10
from bnnpriors.datasets.dataset import Dataset
from bnnpriors.datasets.idx import idx, read_idx
from bnnpriors.datasets.mnist import fashion_mnist, mnist
from bnnpriors.datasets.npz import npz
from bnnpriors.datasets.ood import out_of_distribution
from bnnpriors.datasets.uci import uci

__all__ = [
    "Dataset",
    "cifar10",
    "diabetes",
    "digits",
    "fashion_mnist",
    "idx",
    "mnist",
    "npz",
    "out_of_distribution",
    "read_idx",
    "uci",
]
