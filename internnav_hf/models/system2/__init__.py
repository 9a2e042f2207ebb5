"""System2: a Qwen-VL model with a pixel-goal head."""

from internnav_hf.catalog import exports

__getattr__ = exports(__name__)
