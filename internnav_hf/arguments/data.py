"""Data options shared by recipes; each recipe adds those of its own samples."""

from dataclasses import dataclass, field

from internnav_hf.arguments.ranges import option

DATASET_NAMES = "Folders (of vln_ce with the camera) or formats; %%30 keeps 30 percent."


@dataclass
class DataArguments:
    """Data options of every recipe."""

    data_root: str = field(metadata={"help": "Folder of the data."})
    num_eval_samples: int = option(500, "Maximum number of samples to evaluate.", low=1)
    max_broken_fraction: float = option(
        0.01, "Refuse to start if a larger share of episodes is broken.", low=0, high=1
    )
    cache_dir: str | None = option(None, "Folder of the index, and of features if any are cached.")


@dataclass
class DialogueArguments(DataArguments):
    """Samples for System2's dialogue."""

    data_root: str = field(metadata={"help": "Folder that holds r2r/, rxr/, ..."})
    eval_datasets: str | None = option(None, "Held-out scenes, for metrics while training.")
    sample_step: int = option(4, "Frames between two samples of an episode.", low=1)
    augment: bool = option(True, "Vary colour, contrast and sharpness of what System2 sees.")
    packing_length: int | None = option(
        None,
        "Tokens of a pack: samples in a row, computed without padding; "
        "--per_device_train_batch_size then counts packs.",
        low=1,
    )
