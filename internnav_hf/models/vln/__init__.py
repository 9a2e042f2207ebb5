"""Seq2Seq and CMA, the recurrent models of vision-and-language navigation."""

from internnav_hf.catalog import exports

__getattr__ = exports(__name__)
