"""The image-goal family: GNM, ViNT and NoMaD."""

from internnav_hf.catalog import exports

__getattr__ = exports(__name__)
