"""The benchmark of visual navigation."""
