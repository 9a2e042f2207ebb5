"""Open-loop evaluation: a model's answers to held-out samples."""
