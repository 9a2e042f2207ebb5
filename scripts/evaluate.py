"""Evaluate instruction-following models in unseen rooms, next to random, forward-only and oracle
baselines.

    python scripts/evaluate.py --model outputs/demo/model --out outputs/eval --scenes 20
    python scripts/evaluate.py --vln_models outputs/seq2seq outputs/cma outputs/rdp

Visual navigation, for models that drive to goals, has options of its own:

    python scripts/evaluate.py --task point-goal --help

--model is a System2 or a dual system, and --vln_models are Seq2Seq, CMA and RDP, in one table. A
dual system has two rows: along its own trajectories, and as a System2 whose goals a shortest-path
follower reaches. With --system1, a model that drives to goals, any System2's goals are reached
along its paths as well (NavDP: the published decoupled System1). Writes metrics.json, metrics.md
and report.html to --out. An interrupted run goes on where it was when it is started again with the
same arguments; under `accelerate launch` the processes share the episodes. Without --model only the
baselines are evaluated. With --data_root and --datasets, single decisions on held-out samples are
measured too, and a dual system's single trajectories.
"""

import logging
import sys

import torch
from accelerate import PartialState

from internnav_hf.arguments.training import parse_arguments
from internnav_hf.command_line import ends_in_one_line
from internnav_hf.evaluation.arguments import VLN, requested_tasks
from internnav_hf.evaluation.visual_navigation import benchmark as visual_navigation
from internnav_hf.evaluation.visual_navigation.drive import DrivingRules
from internnav_hf.evaluation.visual_navigation.episodes import EpisodeRules
from internnav_hf.evaluation.vln.arguments import VLNArguments
from internnav_hf.evaluation.vln.benchmark import evaluate_vln


def run(options: list[str]) -> None:
    """Instruction following, or the visual navigation that --task names."""
    if requested_tasks(options) == [VLN]:
        page = evaluate_vln(*parse_arguments([VLNArguments], options, __doc__))
    else:
        kinds = (visual_navigation.VisualNavigationArguments, EpisodeRules, DrivingRules)
        parsed = parse_arguments(kinds, options, visual_navigation.__doc__)
        page = visual_navigation.evaluate_visual_navigation(*parsed)
    if PartialState().is_main_process:
        print(f"{page.with_name('metrics.md').read_text(encoding='utf-8')}\n{page}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    # Without an accelerator, processes find each other only if they are told that there is none.
    PartialState(cpu=not torch.accelerator.is_available())
    with ends_in_one_line():
        run(sys.argv[1:])
    PartialState().destroy_process_group()
