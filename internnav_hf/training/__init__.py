"""Training: options, evaluation, checkpoints, interruption, resuming and publishing."""
