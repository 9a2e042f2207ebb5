"""The depth planners iPlanner and ViPlanner."""

from internnav_hf.catalog import exports

__getattr__ = exports(__name__)
