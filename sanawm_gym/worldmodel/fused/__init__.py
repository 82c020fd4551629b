"""The bundled world's network and autoencoder arranged for speed on a CPU."""

from .autoencoder import FusedAutoencoder
from .network import FusedNetwork, why_not_fused

__all__ = ["FusedAutoencoder", "FusedNetwork", "why_not_fused"]
