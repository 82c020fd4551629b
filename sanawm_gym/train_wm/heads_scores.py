"""How well heads read, and how true their deviations are: calibration, figures and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from sanawm_gym.train_wm.heads_features import FeatureClip
from sanawm_gym.video import contact_sheet
from sanawm_gym.worldmodel.heads import (
    NUM_NUMBERS,
    QUANTITIES,
    Heads,
    HeadsOutput,
    Perceived,
)

_WITHIN_ONE = 0.6827
"""Share of a Gaussian within one deviation of its mean."""
_SIDE = 96
"""Side of a quantity's picture [px]."""

Scores = dict[str, dict[str, float]]
"""Figures by quantity."""


@torch.no_grad()
def outputs(heads: Heads, clips: Sequence[FeatureClip]) -> tuple[HeadsOutput, Tensor]:
    """What heads give for all frames of some clips, and the truth there."""
    device = heads.offset.device
    parts = [heads(clip.features.to(device), clip.ground.to(device)) for clip in clips]
    joined = HeadsOutput(*(torch.cat(each).cpu() for each in zip(*parts, strict=True)))
    return joined, torch.cat([clip.truth for clip in clips])


def calibrate(heads: Heads, clips: Sequence[FeatureClip]) -> None:
    """Make readings true to what they promise on clips never trained on.

    A number's distance from its usual value is scaled by the slope that fits the truth best,
    between 0 (it says nothing) and 1; its deviations then until as many truths lie within one of
    them as of a Gaussian, a quantile, which does not care how far off the few worst are. A chance
    gets slope and bias of a logistic fit. [source: for the latter Platt 1999, with his targets,
    which keep what never happened from becoming impossible]

    Args:
        heads: Their ``slope``, ``temperature`` and ``bias`` are replaced. Quantities without a
            truth in the clips are left as they are learnt.
        clips: Held-out clips.
    """
    out, truth = outputs(heads, clips)
    slope, temperature = torch.ones(len(QUANTITIES)), torch.ones(NUM_NUMBERS)
    bias = torch.zeros(len(QUANTITIES) - NUM_NUMBERS)
    target = (truth[:, :NUM_NUMBERS] - heads.offset.cpu()) / heads.scale.cpu()
    for column in range(NUM_NUMBERS):
        known = ~target[:, column].isnan()
        if known.any():
            wanted, got = target[known, column], out.mean[known, column]
            fit = (got * wanted).sum() / got.square().sum().clamp(min=1e-12)
            slope[column] = fit.clamp(0.0, 1.0)
            ratio = (wanted - slope[column] * got).abs() / out.log_deviation[known, column].exp()
            temperature[column] = torch.quantile(ratio, _WITHIN_ONE).clamp(min=1e-3)
    for column in range(NUM_NUMBERS, len(QUANTITIES)):
        known = ~truth[:, column].isnan()
        if known.any():
            logit = out.logit[known, column - NUM_NUMBERS]
            slope[column], bias[column - NUM_NUMBERS] = _logistic_fit(logit, truth[known, column])
    heads.slope.copy_(slope)
    heads.temperature.copy_(temperature)
    heads.bias.copy_(bias)


@torch.enable_grad()
def _logistic_fit(logit: Float[Tensor, " k"], truth: Float[Tensor, " k"]) -> tuple[float, float]:
    """Slope >= 0 and bias under which the truth is likeliest."""
    happened = float(truth.sum())
    missed = len(truth) - happened
    targets = torch.where(truth > 0.5, (happened + 1) / (happened + 2), 1 / (missed + 2)).double()
    fit = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([fit], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        scaled = fit[0].clamp(min=0.0) * logit.double() + fit[1]
        loss = F.binary_cross_entropy_with_logits(scaled, targets) + 1e-4 * fit.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    slope, bias = fit.tolist()
    return max(0.0, slope), bias


@torch.no_grad()
def calibrate_and_judge(
    heads: Heads, clips: Sequence[FeatureClip], usual: Float[Tensor, " q"]
) -> Scores:
    """Calibrate heads on held-out clips and say what they are worth on clips of neither use.

    Each half of the clips is judged by the calibration of the other half. The one that stays is
    fitted on all of them.

    Args:
        heads: Their calibration is replaced.
        clips: Held-out clips, at least two, those of one drive beside each other.
        usual: What to say without looking: the mean of every quantity in training.

    Returns:
        As `judge`.
    """
    middle = len(clips) // 2
    halves, parts = (clips[:middle], clips[middle:]), []
    for mine, other in (halves, halves[::-1]):
        calibrate(heads, other)
        parts.append(read_clips(heads, mine))
    calibrate(heads, clips)
    seen = Perceived(
        mean=torch.cat([part.mean for part in parts]),
        deviation=torch.cat([part.deviation for part in parts]),
    )
    return judge(seen, torch.cat([clip.truth for clip in clips]), usual)


@torch.no_grad()
def read_clips(heads: Heads, clips: Sequence[FeatureClip]) -> Perceived:
    """Readings of all frames of some clips."""
    device = heads.offset.device
    parts = [heads.read(clip.features.to(device), clip.ground.to(device)) for clip in clips]
    return Perceived(
        mean=torch.cat([part.mean for part in parts]).cpu(),
        deviation=torch.cat([part.deviation for part in parts]).cpu(),
    )


def judge(seen: Perceived, truth: Float[Tensor, "b q"], usual: Float[Tensor, " q"]) -> Scores:
    """Figures of readings.

    Args:
        seen: What was read.
        truth: What was there; NaN where unknown.
        usual: The answer to compare with, the same whatever there was.

    Returns:
        Of numbers: root mean square and mean absolute ``error`` with those of the ``usual`` answer,
        and the share of truths ``within_1`` and ``within_2`` deviations (0.68 and 0.95 of a
        Gaussian). Of chances: ``log_loss`` with that of the usual answer, Brier score, and the mean
        probability beside the frequency. Quantities without a truth are left out.
    """
    scores: Scores = {}
    for column, (name, quantity) in enumerate(QUANTITIES.items()):
        known = ~truth[:, column].isnan()
        if not known.any():
            continue
        wanted = truth[known, column]
        got, spread = seen.mean[known, column], seen.deviation[known, column]
        if quantity.kind == "chance":
            scores[name] = _chance_scores(got, wanted, usual[column])
            continue
        off, usually = got - wanted, usual[column] - wanted
        scores[name] = {
            "error": float(off.square().mean().sqrt()),
            "usual_error": float(usually.square().mean().sqrt()),
            "absolute_error": float(off.abs().mean()),
            "usual_absolute_error": float(usually.abs().mean()),
            "within_1": float((off.abs() <= spread).float().mean()),
            "within_2": float((off.abs() <= 2 * spread).float().mean()),
        }
    return scores


def _chance_scores(got: Tensor, wanted: Tensor, usual: Tensor) -> dict[str, float]:
    clipped = usual.clamp(1e-4, 1 - 1e-4).expand_as(wanted)
    return {
        "log_loss": float(F.binary_cross_entropy(got.clamp(1e-6, 1 - 1e-6), wanted)),
        "usual_log_loss": float(F.binary_cross_entropy(clipped, wanted)),
        "brier": float((got - wanted).square().mean()),
        "usual_brier": float((clipped - wanted).square().mean()),
        "probability": float(got.mean()),
        "frequency": float(wanted.mean()),
    }


def table(scores: Scores) -> str:
    """The figures as lines to print."""
    lines = []
    for name, row in scores.items():
        unit = QUANTITIES[name].unit
        if "error" in row:
            lines.append(
                f"{name:16s} error {row['error']:.4g} {unit} (usual answer "
                f"{row['usual_error']:.4g}), within 1 and 2 deviations "
                f"{row['within_1']:.0%} and {row['within_2']:.0%}"
            )
        else:
            lines.append(
                f"{name:16s} log loss {row['log_loss']:.4g} (usual answer "
                f"{row['usual_log_loss']:.4g}), probability {row['probability']:.3g} against "
                f"frequency {row['frequency']:.3g}"
            )
    return "\n".join(lines)


@torch.no_grad()
def draw_readings(heads: Heads, clips: Sequence[FeatureClip], path: Path) -> None:
    """A picture a number, in the order of `QUANTITIES`: truth to the right, reading upwards."""
    out, truth = outputs(heads, clips)
    wanted = (truth[:, :NUM_NUMBERS] - heads.offset.cpu()) / heads.scale.cpu()
    tiles = []
    for column in range(NUM_NUMBERS):
        known = ~wanted[:, column].isnan()
        span = np.linspace(-3, 3, _SIDE + 1)
        counts, _, _ = np.histogram2d(
            out.mean[known, column].numpy(), wanted[known, column].numpy(), bins=(span, span)
        )
        shade = np.sqrt(counts / max(1.0, counts.max()))[::-1]
        tile = (255 * (1 - shade)).astype(np.uint8)[..., None].repeat(3, axis=2)
        diagonal = np.arange(_SIDE)
        tile[diagonal[::-1], diagonal, :2] //= 2
        tiles.append(tile)
    Image.fromarray(contact_sheet(np.stack(tiles), NUM_NUMBERS, scale=2)).save(path)
