"""The fused network and autoencoder compiled by OpenVINO (extra ``fast``).

OpenVINO joins the many small operations between two products into one and keeps them in registers.
What it compiles are the blocks of one pass and the two halves of the autoencoder; poses, prompts
and the bookkeeping of the memory stay with torch. A graph belongs to one noise level and one number
of rows, and is compiled when a stream first needs it, which takes seconds.

The network runs in float32 at any setting, so that what recurs does not add up rounding; the
autoencoder may run in bfloat16.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..autoencoder import VideoAutoencoder
from ..model import SanaWM
from .autoencoder import FusedAutoencoder
from .block import BlockNew, Words
from .network import FusedNetwork, Shared

_PRECISION = {torch.float32: "f32", torch.bfloat16: "bf16"}


def load_openvino() -> Any:
    """The module.

    Raises:
        ModuleNotFoundError: If it is not installed, naming the extra.
    """
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "backend 'openvino' needs OpenVINO: pip install 'sanawm-gym[fast]'", name="openvino"
        ) from error
    return openvino


class Graph:
    """A function of tensors compiled for the sizes of an example.

    Args:
        function: From tensors to tensors.
        example: Its inputs; other ones must have the same shapes.
        precision: Of the arithmetic; tensors go in and out in float32.
    """

    def __init__(
        self,
        function: Callable[..., tuple[Tensor, ...]],
        example: Sequence[Tensor],
        precision: torch.dtype,
    ) -> None:
        openvino = load_openvino()
        with warnings.catch_warnings():
            # Sizes become constants of the graph, which is what a tracer warns of and meant here.
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(_Traced(function), tuple(example), check_trace=False)
            model = openvino.convert_model(
                traced, example_input=tuple(example), input=[list(x.shape) for x in example]
            )
        settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": _PRECISION[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        compiled = openvino.Core().compile_model(model, "CPU", settings)
        self._request = compiled.create_infer_request()

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run; the results are the caller's own."""
        arrays = [x.detach().contiguous().numpy() for x in inputs]
        results = self._request.infer(arrays, share_inputs=True, share_outputs=False)
        return [torch.from_numpy(results[i]) for i in range(len(results))]


class _Traced(nn.Module):
    def __init__(self, function: Callable[..., tuple[Tensor, ...]]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return self._function(*tensors)


class OpenVINONetwork(FusedNetwork):
    """`FusedNetwork` with compiled blocks.

    Args:
        network: Where the weights come from, float32.

    Raises:
        ValueError: If the network has parts that this form does not know, or other weights.
        ModuleNotFoundError: If OpenVINO is not installed, naming the extra.
    """

    def __init__(self, network: SanaWM) -> None:
        load_openvino()
        _check_float32(network.dtype)
        super().__init__(network, exportable=True)
        self._graphs: dict[tuple[float, torch.Size], tuple[Graph, Any]] = {}

    def _run(
        self, x: Float[Tensor, "b c 1 h w"], level: float, shared: Shared, words: tuple[Words, ...]
    ) -> tuple[Float[Tensor, "b s e"], tuple[BlockNew, ...]]:
        inputs = (x, shared, words)
        key = (level, x.shape)
        if key not in self._graphs:
            self._graphs[key] = self._compile(level, inputs)
        graph, layout = self._graphs[key]
        results: tuple[Tensor, tuple[BlockNew, ...]] = _fill(layout, iter(graph(_leaves(inputs))))
        return results

    def _compile(self, level: float, inputs: tuple[Any, ...]) -> tuple[Graph, Any]:
        plain = super()._run
        self.modulation(level)  # a constant of the graph
        layout: list[Any] = []

        def blocks(*tensors: Tensor) -> tuple[Tensor, ...]:
            x, shared, words = _fill(inputs, iter(tensors))
            results = plain(x, level, shared, words)
            layout.append(results)
            return tuple(_leaves(results))

        graph = Graph(blocks, _leaves(inputs), torch.float32)
        return graph, layout[0]


class OpenVINOAutoencoder:
    """`FusedAutoencoder`, compiled.

    Args:
        autoencoder: Where the weights come from, float32.
        precision: Of the arithmetic: float32 or bfloat16.

    Raises:
        ValueError: If it has other weights.
        ModuleNotFoundError: If OpenVINO is not installed, naming the extra.
    """

    def __init__(self, autoencoder: VideoAutoencoder, precision: torch.dtype) -> None:
        load_openvino()
        _check_float32(autoencoder.latents_mean.dtype)
        self._fused = FusedAutoencoder(autoencoder, packed=False)
        self._precision = precision
        self._encoders: dict[torch.Size, Graph] = {}
        self._decoders: dict[torch.Size, Graph] = {}

    def encode_group(self, frames: Float[Tensor, "b 3 s h w"]) -> Float[Tensor, "b c 1 y x"]:
        """As `VideoAutoencoder.encode_group`."""
        if frames.shape not in self._encoders:

            def encode(x: Tensor) -> tuple[Tensor, ...]:
                return (self._fused.encode_group(x),)

            self._encoders[frames.shape] = Graph(encode, [frames], self._precision)
        (latent,) = self._encoders[frames.shape]([frames])
        return latent

    def decode_step(
        self, latents: Float[Tensor, "b c t y x"], memory: list[Tensor] | None
    ) -> tuple[Float[Tensor, "b 3 f h w"], list[Tensor]]:
        """As `VideoAutoencoder.decode_step`."""
        if memory is None or latents.shape[2] != 1:
            return self._fused.decode_step(latents, memory)
        inputs = [latents, *memory]
        if latents.shape not in self._decoders:

            def decode(x: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
                frames, left = self._fused.decode_step(x, list(past))
                return (frames, *left)

            self._decoders[latents.shape] = Graph(decode, inputs, self._precision)
        frames, *left = self._decoders[latents.shape](inputs)
        return frames, left


def _check_float32(dtype: torch.dtype) -> None:
    if dtype != torch.float32:
        raise ValueError(f"got weights in {dtype}, expected float32 for the openvino backend")


def _leaves(values: Any) -> list[Tensor]:
    """Tensors of nested tuples, in order; None is left out."""
    if values is None:
        return []
    if isinstance(values, Tensor):
        return [values]
    return [leaf for value in values for leaf in _leaves(value)]


def _fill(layout: Any, tensors: Iterator[Tensor]) -> Any:
    """Nested tuples like `layout` with other tensors."""
    if layout is None:
        return None
    if isinstance(layout, Tensor):
        return next(tensors)
    parts = [_fill(value, tensors) for value in layout]
    return type(layout)(*parts) if hasattr(layout, "_fields") else tuple(parts)
