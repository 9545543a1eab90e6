"""Samplers: one algorithm a file."""

from .amagold import AMAGOLD
from .base import Sampler
from .chees import ChEES
from .exchange import ReplicaExchange
from .ggmc import GGMC
from .hmc import HMC
from .langevin import BAOAB, OBABO
from .layerwise import Layerwise
from .map import MAP
from .mclmc import MCLMC
from .nuts import NUTS
from .psgld import PSGLD
from .schedules import Cyclical
from .sghmc import SGHMC
from .sgld import SGLD
from .sgnht import SGNHT
from .swag import SWAG

__all__ = [
    "AMAGOLD",
    "BAOAB",
    "GGMC",
    "HMC",
    "MAP",
    "MCLMC",
    "NUTS",
    "OBABO",
    "PSGLD",
    "SGHMC",
    "SGLD",
    "SGNHT",
    "SWAG",
    "ChEES",
    "Cyclical",
    "Layerwise",
    "ReplicaExchange",
    "Sampler",
]
