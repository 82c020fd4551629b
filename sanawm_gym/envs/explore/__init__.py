"""A free camera in a generated world: `SanaWM-Explore-v0`."""
