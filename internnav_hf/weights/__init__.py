"""Weights that come from outside: read without running anything, checked before they are used."""
