"""Walk a System2 or a dual system through rooms it has never seen, beside a random walker and the
oracle.

    python scripts/evaluate.py --model outputs/demo/model --out outputs/eval --scenes 20

Visual navigation, a System1 by itself, has options of its own:

    python scripts/evaluate.py --task point-goal --help

A dual system walks twice: along its own trajectories, and as a System2 whose goals a shortest-path
follower reaches. With --system1, a NavDP, any System2's goals are walked to along NavDP's
trajectories as well (the published decoupled System1). Writes metrics.json, metrics.md and
report.html to --out. An interrupted run goes on where it was when it is started again with the same
arguments. Without --model the baselines walk alone. With --data_root and --datasets, single
decisions on held-out samples are measured too, and a dual system's single trajectories.
"""

import logging
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from internnav_hf.arguments import option, parse_arguments
from internnav_hf.camera import CameraSpec
from internnav_hf.data.dual_system import DualSystemDataset
from internnav_hf.data.system2 import System2Dataset
from internnav_hf.evaluation import system1_benchmark
from internnav_hf.evaluation.agents import Agent, OracleAgent, RandomWalker
from internnav_hf.evaluation.course import Course, camera_of, camera_options, unseen_scenes
from internnav_hf.evaluation.decoupled_agent import DecoupledAgent
from internnav_hf.evaluation.dual_open_loop import evaluate_dual_open_loop
from internnav_hf.evaluation.dual_system_agent import DualSystemAgent
from internnav_hf.evaluation.metrics import episode_metrics, summarize
from internnav_hf.evaluation.open_loop import evaluate_open_loop
from internnav_hf.evaluation.records import Rollout
from internnav_hf.evaluation.report import read_log_history, write_metrics, write_report
from internnav_hf.evaluation.rollout import RolloutStore, evaluate_agent, file_stamps
from internnav_hf.evaluation.system1_benchmark import (
    TASKS,
    VLN,
    System1Arguments,
    asked_tasks,
    evaluate_system1,
)
from internnav_hf.evaluation.system1_drive import DrivingRules
from internnav_hf.evaluation.system1_episodes import EpisodeRules
from internnav_hf.evaluation.system2_agent import System2Agent
from internnav_hf.models.loading import check_is_checkpoint
from internnav_hf.policies import DualSystemPolicy, NavDPPolicy, System2Policy, is_dual_system
from internnav_hf.sim.scenes import SceneConfig, load_scene

logger = logging.getLogger("evaluate")
AGENTS = ("dual", "system2", "system2_navdp", "random", "oracle")
Policy = System2Policy | DualSystemPolicy


@dataclass
class Arguments:
    """What to evaluate, where, how."""

    task: list[str] = field(
        default_factory=lambda: [VLN],
        metadata={"help": f"{VLN}, or visual navigation: some of {', '.join(TASKS)}."},
    )
    out: str = option("outputs/eval", "Folder of metrics.json, metrics.md and report.html.")
    model: str | None = option(None, "Folder (or Hub name) of a System2 or dual system.")
    system1: str | None = option(None, "A NavDP (folder, released file) that walks to its goals.")
    system1_goal: Literal["pixel", "point"] = option(
        "pixel", "What --system1 is told: the pixel, or the point that it shows by depth."
    )
    answer_with: str | None = option(None, "head or text; by default the head if there is one.")
    agents: list[str] = field(
        default_factory=list,
        metadata={"help": f"Who walks, of {', '.join(AGENTS)}; by default all that --model can."},
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
    allow_sliding: bool = option(False, "VLN-CE's rule: walk on along an obstacle that is met.")
    max_steps_per_goal: int = option(
        8, "Actions towards a pixel goal until System2 is asked again."
    )
    num_trajectories: int = option(32, "Samples of the action expert for a path.")
    guidance_scale: float | None = option(None, "Of its guidance; default: the expert's own.")
    num_inference_steps: int | None = option(None, "Of its diffusion; default: the expert's own.")
    max_steps_per_plan: int = option(8, "Actions with a plan until System2 is asked again.")
    num_parallel: int = option(8, "Environments that System2 answers in one batch.")
    use_depth: bool = option(True, "False: no depth; pixel goals are lifted by the floor plane.")
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
        if self.task != [VLN]:
            raise ValueError(f"--task: found {' '.join(self.task)}; name it on the command line.")
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
        steps = ("max_steps", "max_steps_per_goal", "max_steps_per_plan", "num_inference_steps")
        for name in ("scenes", "episodes", "num_parallel", "num_trajectories", *steps):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"--{name}: found {getattr(self, name)}, expected 1 or more.")
        for name in ("trainer_state", "scene"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise ValueError(f"--{name} {path}: there is no such file.")
        if self.data_root is not None and self.model is None:
            raise ValueError("--data_root: single decisions are those of a --model; none is given.")
        if self.system1 is not None and self.model is None:
            raise ValueError("--system1: it walks to the goals of a --model; none is given.")


def main(args: Arguments) -> None:
    """Walk, measure, report."""
    out = Path(args.out)
    log_history = read_log_history(args.trainer_state)
    policy = load_policy(args) if args.model else None
    system1 = load_system1(args) if args.system1 else None
    agents, measure = make_agents(args, policy, system1), open_loops(args, policy)
    out.mkdir(parents=True, exist_ok=True)
    camera = choose_camera(args, policy)
    if system1 is not None:
        compare_camera(system1, camera)
    course = make_course(args)
    rollouts = walk(args, agents, course, camera, out)
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
    how_many = (args.num_samples, args.batch_size, args.seed)
    results |= {name: evaluate(*inputs, *how_many) for name, (evaluate, *inputs) in measure.items()}
    write_metrics(out, results)
    shown = (out, results, rollouts, course.scene, args.success_distance)
    page = write_report(*shown, log_history, camera)
    print(f"{(out / 'metrics.md').read_text(encoding='utf-8')}\n{page}")


def load_policy(args: Arguments) -> Policy:
    """Of --model, a System2 or a dual system; a folder that is neither is one clear ValueError."""
    path = args.model
    assert path is not None
    if check_is_checkpoint("--model", path):
        for what, names in MODEL_FILES.items():
            if not any(Path(path, name).is_file() for name in names):
                raise ValueError(f"--model {path}: no {what} in it ({' or '.join(names)}).")
    policy: Policy
    if is_dual_system(path):
        names = ("guidance_scale", "num_inference_steps", "max_steps_per_plan", "seed")
        settings = {name: getattr(args, name) for name in (*names, "answer_with")}
        settings["num_samples"] = args.num_trajectories
        policy = DualSystemPolicy.from_pretrained(path, **settings)
    else:
        policy = System2Policy.from_pretrained(path, args.answer_with)
    policy.model.to(device())
    return policy


def load_system1(args: Arguments) -> NavDPPolicy:
    """Of --system1; what is no NavDP is one clear ValueError."""
    path = args.system1
    assert path is not None
    if not Path(path).is_file():
        check_is_checkpoint("--system1", path)
    policy = NavDPPolicy.from_pretrained(path, seed=args.seed)
    policy.model.to(device())
    return policy


def device() -> torch.device:
    """Where models run."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def compare_camera(system1: NavDPPolicy, camera: CameraSpec) -> None:
    """Warn where NavDP, which sees the look-down view, was trained with another one."""
    trained = system1.camera
    if trained is not None:
        same = {name: getattr(trained, name) for name in ("look_down_pitch_deg", "depth_scale")}
        seen = replace(camera, pitch_deg=camera.look_down_pitch_deg, **same)
        difference = trained.difference(seen)
        if difference is not None:
            logger.warning("--system1 sees another camera than its own: %s.", difference)


def system2_of(policy: Policy) -> System2Policy:
    """Itself, or the dual system's System2 without plans."""
    if isinstance(policy, System2Policy):
        return policy
    return System2Policy(policy.system2.model, policy.processor, policy.system2.answer_with)


def open_loops(args: Arguments, policy: Policy | None) -> dict[str, tuple]:
    """Name in the results -> what measures there, its policy and data.

    The data are opened before anybody walks: a wrong path fails at once.
    """
    if policy is None or args.data_root is None:
        return {}
    source = (args.data_root, args.datasets, policy.processor)
    options = {"sample_step": args.sample_step, "cache_dir": args.cache_dir}
    held_out = System2Dataset(*source, stop_repeat=1, **options)
    found: dict[str, tuple] = {"open_loop": (evaluate_open_loop, system2_of(policy), held_out)}
    if isinstance(policy, DualSystemPolicy):
        config = policy.expert.config
        options |= {"image_size": config.image_size, "action_horizon": config.action_horizon}
        ways = DualSystemDataset(*source, depth=policy.needs_depth, **options)
        found["dual_open_loop"] = (evaluate_dual_open_loop, policy, ways)
    return found


MODEL_FILES = {
    "model": ("config.json",),
    "processor": ("processor_config.json", "preprocessor_config.json"),
    "tokenizer": ("tokenizer_config.json",),
}


def choose_camera(args: Arguments, policy: Policy | None) -> CameraSpec:
    """The camera that the model was trained with, changed by --camera_* with a warning."""
    stored = policy.processor.camera if policy is not None else None
    model = args.model if policy is not None else None
    return camera_of(model, stored, camera_options(asdict(args)), CameraSpec())


def make_course(args: Arguments) -> Course:
    """Generated scenes with seeds of their own, or the mesh file."""
    if args.scene is not None:
        return Course([load_scene(args.scene)], args.episodes, args.seed, args.min_distance)
    config = SceneConfig(num_rooms=tuple(args.num_rooms), num_objects=tuple(args.num_objects))
    scenes = unseen_scenes(args.scenes, args.seed, config)
    return Course(scenes, args.episodes, args.seed, args.min_distance)


def make_agents(
    args: Arguments, policy: Policy | None, system1: NavDPPolicy | None = None
) -> list[Agent]:
    """In the order of AGENTS: those of --agents, or all that the models allow."""
    can_walk: dict[str, Callable[[], Agent]] = {}
    if isinstance(policy, DualSystemPolicy):
        can_walk["dual"] = lambda: DualSystemAgent(policy, args.use_depth)
    if policy is not None:
        follower = (args.max_steps_per_goal, args.use_depth)
        can_walk["system2"] = lambda: System2Agent(system2_of(policy), *follower)
    if policy is not None and system1 is not None:
        goals = (args.system1_goal, args.max_steps_per_goal)
        can_walk["system2_navdp"] = lambda: DecoupledAgent(
            system2_of(policy), system1, *goals, use_depth=args.use_depth
        )
    can_walk |= {"random": lambda: RandomWalker(args.seed), "oracle": OracleAgent}
    for name in args.agents:
        if policy is None and name not in can_walk:
            raise ValueError(f"--agents {name} needs --model.")
        if name == "system2_navdp" and system1 is None:
            raise ValueError(f"--agents {name} needs --system1.")
        if name not in can_walk:
            raise ValueError(
                f"--agents {name}: --model {args.model} is a System2 alone, which leaves no plans; "
                "recipes/train_dual_system.py makes a dual system of it."
            )
    return [make() for name, make in can_walk.items() if name in (args.agents or can_walk)]


def walk(
    args: Arguments, agents: list[Agent], course: Course, camera: CameraSpec, out: Path
) -> dict[str, list[Rollout]]:
    """Rollouts of every agent by name; finished ones are read from the output folder."""
    store = RolloutStore(out, args.success_distance)
    rollouts, digest = {}, course.digest()
    for agent in agents:

        def make_env(name: str, see: bool = agent.needs_images):
            rules = (args.success_distance, args.max_steps, see, args.allow_sliding)
            return course.make_env(name, camera, *rules)

        settings = rollout_settings(args, agent, camera) | {"course": digest}
        parallel = args.num_parallel
        rollouts[agent.name] = evaluate_agent(
            agent, course.tasks, make_env, store, settings, parallel
        )
    return rollouts


def rollout_settings(args: Arguments, agent: Agent, camera: CameraSpec) -> dict:
    """All that an agent's rollouts depend on: a rerun with the same finds them."""
    names = ["seed", "scenes", "episodes", "min_distance", "scene", "num_rooms", "num_objects"]
    names += ["max_steps", "allow_sliding"]
    settings = {name: getattr(args, name) for name in names}
    if agent.needs_images:
        sampling = ["num_trajectories", "guidance_scale", "num_inference_steps"]
        own = {
            "system2": ["max_steps_per_goal", "use_depth"],
            "dual": [*sampling, "max_steps_per_plan"],
            "system2_navdp": ["max_steps_per_goal", "system1", "system1_goal"],
        }
        names = ["model", "answer_with", *own[agent.name]]
        settings |= {name: getattr(args, name) for name in names}
        settings |= {"camera": camera.to_dict(), "files": file_stamps(Path(args.model or ""))}
        if "system1" in names:
            settings["system1_files"] = file_stamps(Path(args.system1 or ""))
    return settings


def metrics_of(rollouts: list[Rollout], args: Arguments) -> dict:
    """The summary of one agent, with how much System2 said that could not be parsed."""
    summary = summarize([episode_metrics(r, args.success_distance) for r in rollouts], args.seed)
    num_decisions = sum(len(rollout.decisions) for rollout in rollouts)
    if num_decisions:
        summary["decisions"] = num_decisions
        summary["unparsable_share"] = sum(r.num_unparsable for r in rollouts) / num_decisions
    return summary


def run(options: list[str]) -> None:
    """Instruction following, or the visual navigation that --task names."""
    if asked_tasks(options) == [VLN]:
        main(*parse_arguments([Arguments], options, __doc__))
    else:
        kinds = (System1Arguments, EpisodeRules, DrivingRules)
        page = evaluate_system1(*parse_arguments(kinds, options, system1_benchmark.__doc__))
        print(f"{page.with_name('metrics.md').read_text(encoding='utf-8')}\n{page}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        run(sys.argv[1:])
    except ValueError as error:
        sys.exit(f"evaluate: {error}")
