"""DD-PPO's point-goal agent."""

from internnav_hf.catalog import exports

__getattr__ = exports(__name__)
