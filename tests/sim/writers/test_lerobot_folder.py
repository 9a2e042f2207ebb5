import json

import pyarrow as pa
import pyarrow.parquet as pq

from internnav_hf.camera import CameraSpec
from internnav_hf.sim.writers.lerobot_folder import LeRobotFolder


def test_rows_and_tasks_are_counted_through(tmp_path):
    folder = LeRobotFolder(tmp_path, CameraSpec(), {"scene": "mine"})
    for task, length in (("go", 3), ("stop", 2)):
        folder.add(
            {"action": pa.array(range(length))}, [{"task": task}], {"stats": {"count": [length]}}
        )
    folder.finish()
    second = pq.read_table(tmp_path / "data" / "chunk-000" / "episode_000001.parquet").to_pydict()
    assert second["index"] == [3, 4]
    assert second["frame_index"] == [0, 1]
    assert second["episode_index"] == second["task_index"] == [1, 1]
    read = {
        name: [json.loads(line) for line in (tmp_path / "meta" / name).read_text().splitlines()]
        for name in ("episodes.jsonl", "tasks.jsonl", "episodes_stats.jsonl")
    }
    assert read["episodes.jsonl"][1] == {"episode_index": 1, "tasks": ["stop"], "length": 2}
    assert read["tasks.jsonl"][1] == {"task_index": 1, "task": "stop"}
    assert read["episodes_stats.jsonl"][0]["stats"] == {"count": [3]}
    info = json.loads((tmp_path / "meta" / "info.json").read_text())
    assert (info["total_frames"], info["scene"]) == (5, "mine")
