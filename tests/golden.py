"""Numbers of the reference implementations, and the dialogues among them."""

import json
from pathlib import Path

from internnav_hf.models.system2.dialogue import Answer, training_messages

GOLDEN = Path(__file__).parent / "golden"
TRAIN = json.loads((GOLDEN / "prompts_train.json").read_text())


def golden_messages(golden: dict) -> list[dict[str, str]]:
    sample = golden["sample"]
    pixel = sample["n_poses"] is not None
    action = sample["action"] if isinstance(sample["action"], list) else [sample["action"]]
    answer = Answer.of_pixel(*action) if pixel else Answer.of_actions(action)
    num_history = golden["text"].count("|>\n<|vision") + golden["text"].count("|>\n. ")
    return training_messages(sample["instruction"], num_history, answer)
