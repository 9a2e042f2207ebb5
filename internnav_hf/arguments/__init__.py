"""Arguments of recipes, read and checked before anything is loaded."""

from internnav_hf.arguments.training import (
    NavTrainingArguments,
    option,
    parse_arguments,
    run_recipe,
)

__all__ = ["NavTrainingArguments", "option", "parse_arguments", "run_recipe"]
