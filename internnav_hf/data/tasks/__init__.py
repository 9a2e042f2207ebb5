"""Training data of models: datasets of samples, and collators that batch them."""
