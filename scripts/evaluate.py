"""Walk a System2 through rooms it has never seen, beside a random walker and the oracle.

    python scripts/evaluate.py --model outputs/demo/model --out outputs/eval --scenes 20

Writes metrics.json, metrics.md and report.html to --out. An interrupted run goes on where it was
when it is started again with the same arguments. Without --model the baselines walk alone. With
--data_root and --datasets, single decisions on held-out samples are measured too.
"""

import json
import logging
import shlex
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from internnav_hf.arguments import option, parse_arguments
from internnav_hf.camera import CameraSpec
from internnav_hf.data.system2 import System2Dataset
from internnav_hf.evaluation.agents import Agent, OracleAgent, RandomWalker
from internnav_hf.evaluation.course import Course, unseen_scenes
from internnav_hf.evaluation.metrics import episode_metrics, summarize
from internnav_hf.evaluation.open_loop import evaluate_open_loop
from internnav_hf.evaluation.records import Rollout
from internnav_hf.evaluation.report import markdown_table, write_metrics, write_report
from internnav_hf.evaluation.rollout import RolloutStore, evaluate_agent
from internnav_hf.evaluation.system2_agent import System2Agent
from internnav_hf.policies import System2Policy
from internnav_hf.sim.scenes import SceneConfig, load_scene

logger = logging.getLogger("evaluate")
AGENTS = ("system2", "random", "oracle")


@dataclass
class Arguments:
    """What to evaluate, where, how."""

    out: str = option("outputs/eval", "Folder of metrics.json, metrics.md and report.html.")
    model: str | None = option(None, "Folder (or Hub name) of a System2 and its processor.")
    answer_with: str | None = option(None, "head or text; by default the head if there is one.")
    agents: list[str] = field(
        default_factory=lambda: list(AGENTS),
        metadata={"help": "Who walks; system2 needs --model."},
    )
    scenes: int = option(10, "Number of generated scenes.")
    episodes: int = option(10, "Episodes in each scene.")
    seed: int = option(0, "Of scenes, episodes, and the random walker.")
    min_distance: float = option(2.0, "Metres of walking from start to goal, at least.")
    scene: str | None = option(None, "A mesh file (GLB, PLY, OBJ) instead of generated scenes.")
    num_rooms: list[int] = field(
        default_factory=lambda: list(SceneConfig.num_rooms),
        metadata={"help": "Fewest and most rooms of a generated scene."},
    )
    num_objects: list[int] = field(
        default_factory=lambda: list(SceneConfig.num_objects),
        metadata={"help": "Fewest and most pieces of furniture in one."},
    )
    success_distance: float = option(1.0, "Metres from the goal that count as reached.")
    max_steps: int = option(500, "Actions until an episode is cut off.")
    max_steps_per_goal: int = option(
        8, "Actions towards a pixel goal until System2 is asked again."
    )
    num_parallel: int = option(8, "Environments that System2 answers in one batch.")
    use_depth: bool = option(True, "Lift pixel goals by depth; false: by the floor plane.")
    camera_height_m: float | None = option(None, "Instead of the model's camera height.")
    camera_pitch_deg: float | None = option(None, "Instead of its ordinary pitch.")
    camera_look_down_pitch_deg: float | None = option(None, "Instead of its look-down pitch.")
    camera_hfov_deg: float | None = option(None, "Instead of its horizontal field of view.")
    data_root: str | None = option(None, "Root of held-out data for the open loop part.")
    datasets: str = option("r2r_val_unseen_125cm_0_30", "Held-out datasets below --data_root.")
    cache_dir: str | None = option(None, "Where the data's index is kept; by default with HF's.")
    num_samples: int = option(500, "Samples of the open loop part.")
    sample_step: int = option(4, "Frames between two of them in an episode, as in training.")
    batch_size: int = option(16, "Samples in one batch of the open loop part.")
    trainer_state: str | None = option(None, "A trainer_state.json; its curve joins the report.")

    def __post_init__(self) -> None:
        unknown = sorted(set(self.agents) - set(AGENTS))
        if unknown:
            raise ValueError(
                f"--agents: found {', '.join(unknown)}; known are {', '.join(AGENTS)}."
            )
        if self.answer_with not in (None, "head", "text"):
            raise ValueError(f"--answer_with: found {self.answer_with}, expected head or text.")
        for name in ("num_rooms", "num_objects"):
            if len(getattr(self, name)) != 2:
                raise ValueError(f"--{name}: found {getattr(self, name)}, expected MIN MAX.")
        for name in ("scenes", "episodes", "num_parallel", "max_steps", "max_steps_per_goal"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name}: found {getattr(self, name)}, expected 1 or more.")
        for name in ("trainer_state", "scene"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise ValueError(f"--{name} {path}: there is no such file.")
        if self.data_root is not None and self.model is None:
            raise ValueError("--data_root: single decisions are those of a --model; none is given.")


def main(args: Arguments) -> None:
    """Walk, measure, report."""
    out = Path(args.out)
    log_history = read_log_history(args.trainer_state)
    policy = load_policy(args.model, args.answer_with) if args.model else None
    held_out = load_held_out(args, policy)
    out.mkdir(parents=True, exist_ok=True)
    camera = choose_camera(args, policy)
    course = make_course(args)
    rollouts = walk(args, make_agents(args, policy), course, camera, out)
    results = {
        "agents": {name: metrics_of(found, args) for name, found in rollouts.items()},
        "model": args.model,
        "command": shlex.join(["python", *sys.argv]),
        "settings": {
            **asdict(args),
            "camera": camera.to_dict(),
            "num_scenes": len(course.scenes),
            "scene_names": list(course.scenes),
        },
    }
    if policy is not None and held_out is not None:
        results["open_loop"] = evaluate_open_loop(
            policy, held_out, args.num_samples, args.batch_size, args.seed
        )
    write_metrics(out, results)
    page = write_report(out, results, rollouts, course.scene, args.success_distance, log_history)
    print(f"{markdown_table(results['agents'])}\n\n{page}")


def load_policy(path: str, answer_with: str | None) -> System2Policy:
    """The model and its processor; a folder that lacks either is one clear ValueError."""
    folder = Path(path)
    if folder.is_dir():
        for what, names in MODEL_FILES.items():
            if not any((folder / name).is_file() for name in names):
                raise ValueError(f"--model {path}: no {what} in it ({' or '.join(names)}).")
    elif path.count("/") != 1 or path.startswith((".", "/", "~")) or folder.parent.is_dir():
        raise ValueError(f"--model {path}: there is no such folder.")
    policy = System2Policy.from_pretrained(path, answer_with)
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    policy.model.to(device)
    return policy


def load_held_out(args: Arguments, policy: System2Policy | None) -> System2Dataset | None:
    """The data of the open loop part, before anybody walks: a wrong path fails at once."""
    if policy is None or args.data_root is None:
        return None
    return System2Dataset(
        args.data_root,
        args.datasets,
        policy.processor,
        stop_repeat=1,
        sample_step=args.sample_step,
        cache_dir=args.cache_dir,
    )


MODEL_FILES = {
    "model": ("config.json",),
    "processor": ("processor_config.json", "preprocessor_config.json"),
    "tokenizer": ("tokenizer_config.json",),
}


def choose_camera(args: Arguments, policy: System2Policy | None) -> CameraSpec:
    """The camera that the model was trained with, changed by --camera_* with a warning."""
    stored = policy.processor.camera if policy is not None else None
    camera = CameraSpec() if stored is None else CameraSpec.from_dict(stored)
    if policy is not None and stored is None:
        logger.warning("%s does not say which camera it was trained with: %s.", args.model, camera)
    given = {
        name.removeprefix("camera_"): value
        for name, value in asdict(args).items()
        if name.startswith("camera_") and value is not None
    }
    chosen = replace(camera, **given)
    difference = camera.difference(chosen)
    if difference is not None:
        logger.warning("Another camera than the model's: %s.", difference)
    return chosen


def make_course(args: Arguments) -> Course:
    """Generated scenes with seeds of their own, or the mesh file."""
    if args.scene is not None:
        return Course([load_scene(args.scene)], args.episodes, args.seed, args.min_distance)
    config = SceneConfig(num_rooms=tuple(args.num_rooms), num_objects=tuple(args.num_objects))
    scenes = unseen_scenes(args.scenes, args.seed, config)
    return Course(scenes, args.episodes, args.seed, args.min_distance)


def make_agents(args: Arguments, policy: System2Policy | None) -> list[Agent]:
    """In the order of AGENTS; system2 only with a policy."""
    agents: list[Agent] = []
    if policy is not None and "system2" in args.agents:
        agents.append(System2Agent(policy, args.max_steps_per_goal, args.use_depth))
    if "random" in args.agents:
        agents.append(RandomWalker(args.seed))
    if "oracle" in args.agents:
        agents.append(OracleAgent())
    if not agents:
        raise ValueError("Nobody walks: --agents system2 needs --model.")
    return agents


def walk(
    args: Arguments, agents: list[Agent], course: Course, camera: CameraSpec, out: Path
) -> dict[str, list[Rollout]]:
    """Rollouts of every agent by name; finished ones are read from the output folder."""
    store = RolloutStore(out, args.success_distance)
    rollouts, digest = {}, course.digest()
    for agent in agents:

        def make_env(name: str, see: bool = agent.needs_images):
            return course.make_env(name, camera, args.success_distance, args.max_steps, see)

        settings = rollout_settings(args, agent, camera) | {"course": digest}
        parallel = args.num_parallel
        rollouts[agent.name] = evaluate_agent(
            agent, course.tasks, make_env, store, settings, parallel
        )
    return rollouts


def rollout_settings(args: Arguments, agent: Agent, camera: CameraSpec) -> dict:
    """All that an agent's rollouts depend on: a rerun with the same finds them."""
    names = ["seed", "scenes", "episodes", "min_distance", "scene", "num_rooms", "num_objects"]
    names += ["max_steps"]
    settings = {name: getattr(args, name) for name in names}
    if agent.needs_images:
        names = ["model", "answer_with", "max_steps_per_goal", "use_depth"]
        settings |= {name: getattr(args, name) for name in names}
        settings |= {"camera": camera.to_dict(), "files": file_stamps(Path(args.model or ""))}
    return settings


def file_stamps(folder: Path) -> list[list]:
    """Name, size and time of a model's files, so that a retrained model is walked again."""
    files = sorted(folder.glob("*")) if folder.is_dir() else []
    return [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files if f.is_file()]


def metrics_of(rollouts: list[Rollout], args: Arguments) -> dict:
    """The summary of one agent, with how much System2 said that could not be parsed."""
    summary = summarize([episode_metrics(r, args.success_distance) for r in rollouts], args.seed)
    num_decisions = sum(len(rollout.decisions) for rollout in rollouts)
    if num_decisions:
        summary["decisions"] = num_decisions
        summary["unparsable_share"] = sum(r.num_unparsable for r in rollouts) / num_decisions
    return summary


def read_log_history(path: str | None) -> list[dict] | None:
    """Of a trainer_state.json."""
    return None if path is None else json.loads(Path(path).read_text())["log_history"]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        main(*parse_arguments([Arguments], sys.argv[1:], description=__doc__))
    except ValueError as error:
        sys.exit(f"evaluate: {error}")
