"""NavDP, and NavDP* (the action expert that shares its trunk)."""

from internnav_hf.catalog import exports

__getattr__ = exports(__name__)
