"""Train, evaluate and run embodied-navigation models with Hugging Face Transformers."""

__version__ = "0.1.0"
