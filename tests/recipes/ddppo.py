"""What DD-PPO's recipe takes, and its smallest training."""

from pathlib import Path

from internnav_hf.training.ddppo import DDPPOArguments
from internnav_hf.training.ppo.settings import PPOArguments, SceneArguments
from recipes import train_ddppo as recipe
from tests.recipes.launch import TINY, command_line
from tests.training.ppo.runs import ROOM

KINDS = (DDPPOArguments, PPOArguments, SceneArguments, recipe.DDPPOTrainingArguments)


def options(output_dir: Path, **changes) -> list[str]:
    """The recipe's command line, for eight frames in one small room."""
    own = {"output_dir": output_dir, "per_device_train_batch_size": None, "max_steps": 4}
    own |= {"num_environments": 2, "rollout_steps": 4, "save_steps": 4}
    return command_line(TINY | own | ROOM | changes)
