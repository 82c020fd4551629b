"""Frame-wise gated delta rule: the recurrence of SANA-WM's linear attention.

The state is a D x E matrix per head that is read by queries and written once per *frame* (a sum
over the frame's S tokens, not a product over tokens as in the usual gated delta rule):

    S_t = gamma_t (I - sum_s beta_s k_s k_s^T) S_{t-1} + sum_s beta_s k_s v_s^T,   out_s = q_s^T S_t

[SANA-WM, arXiv 2605.15178, eq. 3-5; written here with keys on the rows, i.e. transposed.]
`naive` says it in loops, `parallel` is the form for whole clips and training, `step` the form for
one frame in a stream. A clip may be spread over ranks that hold slices of its time
(`ClipSlices`, `context_parallel`). The normaliser of the attention is the same rule with v = 1.
On a GPU the same interface runs on kernels of our own (`kernels`); `backend` chooses.
"""

from .backend import chosen_form, frame_gdn, frame_gdn_step, set_kernels, use_kernels
from .clip_slices import ClipSlices, exchange_halo, gather_frames
from .naive import naive_frame_gdn
from .parallel import FrameGDNResult

__all__ = [
    "ClipSlices",
    "FrameGDNResult",
    "chosen_form",
    "exchange_halo",
    "frame_gdn",
    "frame_gdn_step",
    "gather_frames",
    "naive_frame_gdn",
    "set_kernels",
    "use_kernels",
]
