"""Parts that several families share: encoders, configuration, diffusion."""
