"""Drivers: policies that turn observations into actions."""

from sanawm_gym.agents.loading import load_policy
from sanawm_gym.agents.policy import Policy

__all__ = ["Policy", "load_policy"]
