"""Stage 2: a video transformer that draws the network's latents once more, sharper."""

from sanawm_gym.worldmodel.refiner.config import DRIVE_REFINER, LTX2_REFINER, RefinerConfig
from sanawm_gym.worldmodel.refiner.model import Refiner
from sanawm_gym.worldmodel.refiner.state import RefinerState

__all__ = ["DRIVE_REFINER", "LTX2_REFINER", "Refiner", "RefinerConfig", "RefinerState"]
