"""What recipes ask about their data; each adds what only its samples have."""

from dataclasses import dataclass, field

from internnav_hf.arguments.ranges import option


@dataclass
class DataArguments:
    """The samples, whatever the recipe."""

    data_root: str = field(metadata={"help": "Folder of the data."})
    num_eval_samples: int = option(500, "At most so many are evaluated.", low=1)
    max_broken_fraction: float = option(
        0.01, "Refuse to start if more episodes are broken.", low=0, high=1
    )
    cache_dir: str | None = option(None, "Where the index is kept, and features if there are any.")


@dataclass
class DialogueArguments(DataArguments):
    """Samples of `vln_ce` data for System2's dialogue."""

    data_root: str = field(metadata={"help": "Folder that holds r2r/, rxr/, ..."})
    eval_datasets: str | None = option(None, "Held-out scenes, for metrics while training.")
    sample_step: int = option(4, "Frames between two samples of an episode.", low=1)
    augment: bool = option(True, "Vary colour, contrast and sharpness of what System2 sees.")
