"""Networks as pairs of plain functions, their losses, and adapters for those of other libraries."""

from adlab.models.equinox_modules import from_equinox
from adlab.models.gpt2 import gpt2, gpt2_size
from adlab.models.losses import accuracy, classification_loss, cross_entropy
from adlab.models.mlp import mlp
from adlab.models.model import Model
from adlab.models.nnx_modules import from_nnx
from adlab.models.resnet import resnet

__all__ = [
    "Model",
    "accuracy",
    "classification_loss",
    "cross_entropy",
    "from_equinox",
    "from_nnx",
    "gpt2",
    "gpt2_size",
    "mlp",
    "resnet",
]
