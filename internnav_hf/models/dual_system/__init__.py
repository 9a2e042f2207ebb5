"""The dual system: System2, latent queries and an action expert."""
