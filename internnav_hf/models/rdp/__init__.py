"""RDP, the recurrent diffusion policy."""

from internnav_hf.catalog import exports

__getattr__ = exports(__name__)
