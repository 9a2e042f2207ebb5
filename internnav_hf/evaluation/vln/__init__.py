"""The benchmark of instruction following."""
