"""Settings of the whole suite: offline, one thread, repeatable."""

import os

# Before torch and transformers are imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import hypothesis

hypothesis.settings.register_profile(
    "suite", deadline=None, derandomize=True, max_examples=50, database=None
)
hypothesis.settings.load_profile("suite")
