"""Kernels in Triton for the recurrent blocks. Importing this imports triton: see `..backend`."""

from .rule import triton_frame_gdn

__all__ = ["triton_frame_gdn"]
