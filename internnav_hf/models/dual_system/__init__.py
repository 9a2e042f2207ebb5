"""The dual system: System2, latent queries and an action expert."""

from internnav_hf.catalog import exports

__getattr__ = exports(__name__)
