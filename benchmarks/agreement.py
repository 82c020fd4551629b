"""A scatter plot of seen values over true ones (no plotting library)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sanawm_gym.validate.agreement import Pairs

SIDE, MARGIN = 420, 46
"""Side of a panel and its margin [px]."""


def scatter(
    path: Path, panels: Mapping[str, Pairs], unit: str = "rad/s", noun: str = "decisions"
) -> None:
    """Write panels side by side on one scale, with the diagonal of equality.

    Args:
        path: PNG to write.
        panels: Title to pairs of true and seen values.
        unit: Of the values.
        noun: What a pair is of.
    """
    everything = np.concatenate([*panels.values()])
    limit = float(np.ceil(10 * np.quantile(np.abs(everything), 0.995)) / 10) or 0.1
    image = Image.new("RGB", (SIDE * len(panels), SIDE), "white")
    draw = ImageDraw.Draw(image, "RGBA")
    inner = SIDE - 2 * MARGIN
    for index, (title, pairs) in enumerate(panels.items()):
        left, bottom = index * SIDE + MARGIN, SIDE - MARGIN

        def place(
            x: float, y: float, left: int = left, bottom: int = bottom
        ) -> tuple[float, float]:
            scale = inner / (2 * limit)
            return left + scale * (x + limit), bottom - scale * (y + limit)

        draw.rectangle([*place(-limit, limit), *place(limit, -limit)], outline="black")
        draw.line([*place(-limit, -limit), *place(limit, limit)], fill=(160, 160, 160, 255))
        for x, y in np.clip(pairs, -limit, limit):
            u, v = place(x, y)
            draw.ellipse([u - 2, v - 2, u + 2, v + 2], fill=(20, 70, 160, 90))
        for value in (-limit, 0.0, limit):
            u, v = place(value, -limit)
            draw.text((u - 10, v + 4), f"{value:g}", fill="black")
            u, v = place(-limit, value)
            draw.text((u - 30, v - 6), f"{value:g}", fill="black")
        draw.text((left, MARGIN - 16), f"{title}: {len(pairs)} {noun}", fill="black")
        draw.text((left + inner // 2 - 60, SIDE - 20), f"commanded (true), {unit}", fill="black")
        draw.text((left + 4, MARGIN + 4), f"seen, {unit}", fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
