"""The demos' verdicts can be yes and no, for each number that they compare."""

import json

import pytest

from scripts import check_demo
from tests.recipes.launch import ROOT

LEARNT = {
    "system2": {
        "metrics.json": {
            "open_loop": {"pixel_error_px": 14.9, "pixel_error_constant_px": 30.0},
            "agents": {"system2": {"sr": 0.16}, "random": {"sr": 0.05}},
        }
    },
    "dual": {
        "metrics.json": {
            "dual_open_loop": {
                "ade_m": 0.34,
                "constant_ade_m": 0.5,
                "collision_share": 0.2,
                "constant_collision_share": 0.3,
            },
            "agents": {"dual": {"sr": 0.16}, "random": {"sr": 0.05}},
        }
    },
    "navdp": {
        "metrics.json": {
            "tasks": {
                "point-goal": {
                    "navdp": {"sr": 0.61, "collided_share": 0.39},
                    "straight-line": {"sr": 0.5, "collided_share": 0.8},
                    "random": {"sr": 0.05},
                },
                "image-goal": {
                    "navdp": {"sr": 0.22},
                    "straight-line": {"sr": 0.14},
                    "random": {"sr": 0.05},
                },
                "pixel-goal": {
                    "navdp": {"sr": 0.9},
                    "straight-line": {"sr": 0.8},
                    "random": {"sr": 0.05},
                },
                "no-goal": {
                    "navdp": {"contact_time_s": 13.0},
                    "straight-line": {"contact_time_s": 4.0},
                },
            }
        },
        "model/eval_results.json": {
            "eval_point_mean_ade_m": 0.29,
            "eval_constant_ade_m": 0.5,
            "eval_critic_rank_correlation": 0.11,
        },
    },
    "vln": {
        "metrics.json": {
            "agents": {
                "random": {"sr": 0.02, "ne": 2.9},
                "forward": {"sr": 0.05, "ne": 2.8},
                "seq2seq": {"sr": 0.11, "ne": 2.5},
                "cma": {"sr": 0.11, "ne": 2.5},
                "rdp": {"sr": 0.0, "ne": 2.5},
            }
        }
    },
}
WORSE = {
    "system2": [("open_loop.pixel_error_px", 15.1), ("agents.system2.sr", 0.14)],
    "dual": [
        ("dual_open_loop.ade_m", 0.36),
        ("dual_open_loop.collision_share", 0.3),
        ("agents.dual.sr", 0.14),
    ],
    "navdp": [
        ("eval_point_mean_ade_m", 0.31),
        ("eval_critic_rank_correlation", 0.09),
        ("tasks.point-goal.navdp.sr", 0.59),
        ("tasks.point-goal.navdp.collided_share", 0.41),
        ("tasks.image-goal.navdp.sr", 0.2),
        ("tasks.pixel-goal.navdp.sr", 0.87),
        ("tasks.no-goal.navdp.contact_time_s", 11.0),
    ],
    "vln": [
        *((f"agents.{name}.sr", 0.09) for name in ("seq2seq", "cma")),
        *((f"agents.{name}.ne", 2.6) for name in ("seq2seq", "cma", "rdp")),
        ("agents.forward.sr", 0.06),
        ("agents.random.ne", 2.7),
    ],
}


def verdict(demo: str, folder, name: str | None = None, value: float = 0.0) -> bool:
    for path, numbers in json.loads(json.dumps(LEARNT[demo])).items():
        *parts, last = (name or "none").split(".")
        part = numbers
        for key in parts:
            part = part.get(key, {})
        if last in part:
            part[last] = value
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(numbers))
    return check_demo.main(str(ROOT / f"recipes/demo_{demo}_learnt.yaml"), str(folder))


@pytest.mark.parametrize("demo", LEARNT)
def test_each_number_of_a_demo_decides(tmp_path, capsys, demo):
    assert verdict(demo, tmp_path)
    assert "NOT LEARNT" not in capsys.readouterr().out
    for name, value in WORSE[demo]:
        assert not verdict(demo, tmp_path, name, value), name
        told = capsys.readouterr().out
        assert told.count("NOT LEARNT") >= 1, name


def test_numbers_are_shown_beside_their_limits(tmp_path, capsys):
    verdict("system2", tmp_path)
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        "Pixel error: 14.9 px; learnt is 15.0 px or less (0.5 x best constant answer 30.0 px)."
    )
    assert second == (
        "Success: 16.0%; learnt is 15.0% or more (3 x random walker 5.0%, floor 1.0%)."
    )


def test_without_any_success_of_chance_a_floor_counts(tmp_path):
    assert not verdict("system2", tmp_path, "agents.random.sr", 0.06)
    numbers = LEARNT["system2"]["metrics.json"]
    agents = {"system2": {"sr": 0.02}, "random": {"sr": 0.0}}
    (tmp_path / "metrics.json").write_text(json.dumps(numbers | {"agents": agents}))
    limits = str(ROOT / "recipes/demo_system2_learnt.yaml")
    assert not check_demo.main(limits, str(tmp_path))
