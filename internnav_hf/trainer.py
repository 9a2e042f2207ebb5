"""The former place of `NavTrainer`, kept for one release; it is `internnav_hf.NavTrainer`."""

from internnav_hf.training.trainer import NavTrainer, NavTrainingArguments

__all__ = ["NavTrainer", "NavTrainingArguments"]
