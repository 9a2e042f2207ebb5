"""What models learn from: datasets of samples, and collators that make batches of them."""
