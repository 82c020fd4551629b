"""Causal video autoencoder: pixels to latents and back, one latent frame at a time."""

from sanawm_gym.worldmodel.autoencoder.config import DRIVE_AUTOENCODER, VideoAutoencoderConfig
from sanawm_gym.worldmodel.autoencoder.model import VideoAutoencoder

__all__ = ["DRIVE_AUTOENCODER", "VideoAutoencoder", "VideoAutoencoderConfig"]
