"""Data sets as arrays on the host, read from files at hand: nothing is fetched or unpickled."""

from adlab.data.batching import Batches, batches, stack
from adlab.data.cifar import cifar10
from adlab.data.cities import Cities, cities
from adlab.data.dataset import Dataset
from adlab.data.geodesy import azimuthal_equidistant, geocentric, geodesic
from adlab.data.handwriting import digits
from adlab.data.mixtures import gaussian_mixture

__all__ = [
    "Batches",
    "Cities",
    "Dataset",
    "azimuthal_equidistant",
    "batches",
    "cifar10",
    "cities",
    "digits",
    "gaussian_mixture",
    "geocentric",
    "geodesic",
    "stack",
]
