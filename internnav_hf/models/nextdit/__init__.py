"""NextDiT, the action expert of DualVLN."""

from internnav_hf.catalog import exports

__getattr__ = exports(__name__)
