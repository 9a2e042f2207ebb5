"""Checkpoints, resuming, interruptions, and what is recorded about a training."""
