"""Which form of the network and the autoencoder a world steps with.

* ``plain``: `SanaWM` and `VideoAutoencoder` as they are trained; every network, every device.
* ``fused``: the same numbers up to rounding with fewer and larger operations; for a CPU.
* ``openvino``: the fused form compiled by OpenVINO (extra ``fast``), on a CPU.
* ``auto``: fused on a CPU where the network allows it, else plain. Never openvino: whether a
  package happens to be installed shall not change what a seed draws.
"""

from __future__ import annotations

import torch

from .autoencoder import VideoAutoencoder
from .engine import Engine
from .fused import FusedAutoencoder, FusedNetwork, why_not_fused
from .model import SanaWM

BACKENDS = ("auto", "plain", "fused", "openvino")


def check_backend(backend: str, device: str) -> None:
    """Refuse what can be refused before anything is loaded.

    Raises:
        ValueError: If there is no such backend, or it does not run on this device.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend: got {backend!r}, expected one of {list(BACKENDS)}; choose one")
    if backend in ("fused", "openvino") and torch.device(device).type != "cpu":
        raise ValueError(
            f"backend: got {backend!r} with device {device!r}, expected the device 'cpu'; leave "
            "backend at 'auto' on others"
        )


@torch.no_grad()
def choose_engine(
    network: SanaWM,
    autoencoder: VideoAutoencoder,
    backend: str = "auto",
    precision: torch.dtype | None = None,
) -> Engine:
    """Build what a world steps with.

    The faster forms hold copies of the weights: build them anew when those change.

    Args:
        network: Its weights and device are taken.
        autoencoder: The same.
        backend: See the module.
        precision: In which OpenVINO runs the autoencoder; the weights are float32 then. None is
            float32; the others run in the dtype of the weights.

    Raises:
        ValueError: If the backend does not exist or cannot run this network on its device.
        ModuleNotFoundError: If OpenVINO is asked for and not installed, naming the extra.
    """
    device = autoencoder.latents_mean.device
    if backend == "auto":
        fits = device.type == "cpu" and why_not_fused(network.config) is None
        backend = "fused" if fits else "plain"
    check_backend(backend, str(device))
    if backend == "plain":
        return Engine(backend=backend, network=network, codec=autoencoder)
    if backend == "fused":
        codec = FusedAutoencoder(autoencoder)
        return Engine(backend=backend, network=FusedNetwork(network), codec=codec)
    from .fused.openvino_graph import OpenVINOAutoencoder, OpenVINONetwork

    return Engine(
        backend=backend,
        network=OpenVINONetwork(network),
        codec=OpenVINOAutoencoder(autoencoder, precision or torch.float32),
    )
