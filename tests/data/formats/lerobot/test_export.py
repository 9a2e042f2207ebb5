import io
import json
import shutil

import datasets
import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest
from PIL import Image

from internnav_hf.data.formats.lerobot import export as lerobot_export
from internnav_hf.data.formats.lerobot.export import export
from internnav_hf.data.formats.lerobot.tables import RGB, pooled_statistics
from internnav_hf.data.formats.streamvln import read_trajectories
from tests.data.streamvln import SIZE, color_of, write_set

LENGTHS = (12, 3, 4)
DATA_OF = {
    "v2.1": [f"data/chunk-000/episode_{i:06d}.parquet" for i in range(3)],
    "v3.0": ["data/chunk-000/file-000.parquet"],
}


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    return list(read_trajectories(write_set(tmp_path_factory.mktemp("data") / "R2R", LENGTHS)))


@pytest.fixture(scope="module")
def written(tmp_path_factory, walks):
    folders = {version: tmp_path_factory.mktemp("out") / version for version in DATA_OF}
    for version, folder in folders.items():
        export(folder, walks, version, num_threads=2)
    return folders


def files(folder):
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def lines(folder, name):
    return [json.loads(line) for line in (folder / "meta" / name).read_text().splitlines()]


@pytest.mark.parametrize("version", DATA_OF)
def test_frames_come_back_in_order_with_their_actions(written, walks, version):
    folder = written[version]
    tables = [pq.read_table(folder / name) for name in DATA_OF[version]]
    rows = [row for table in tables for row in table.to_pylist()]
    assert [row["index"] for row in rows] == list(range(sum(LENGTHS)))
    assert [row["action"] for row in rows] == [a for walk in walks for a in walk.actions]
    assert [row["episode_index"] for row in rows] == [0] * 12 + [1] * 3 + [2] * 4
    assert [row["frame_index"] for row in rows[:15]] == [*range(12), *range(3)]
    assert rows[13]["timestamp"] == pytest.approx(1 / 30)
    assert rows[13]["task_index"] == 2
    for row in rows:
        image = Image.open(io.BytesIO(row[RGB]["bytes"]))
        assert image.size == SIZE
        assert image.getpixel((3, 4)) == color_of(row["frame_index"])


@pytest.mark.parametrize("version", DATA_OF)
def test_images_are_copied_and_not_encoded_again(written, walks, version):
    first = pq.read_table(written[version] / DATA_OF[version][0])[RGB][5].as_py()
    assert first["bytes"] == walks[0].frames[5].read_bytes()
    assert first["path"] == "frame-000005.png"


@pytest.mark.parametrize("version", DATA_OF)
def test_datasets_and_pandas_read_them(written, version):
    names = [str(written[version] / name) for name in DATA_OF[version]]
    stream = datasets.load_dataset("parquet", data_files=names, split="train", streaming=True)
    rows = list(stream)
    assert len(rows) == sum(LENGTHS)
    assert rows[7][RGB].getpixel((0, 0)) == color_of(7)
    assert rows[7]["action"] == 1
    assert set(stream.features) == {*json.loads(info_text(written[version]))["features"]}
    if version == "v3.0":
        tasks = pandas.read_parquet(written[version] / "meta" / "tasks.parquet")
        assert tasks.iloc[1].name == '{"instruction": "Gehe zur Tür"}'
        assert tasks.loc['{"instruction": "Gehe zur Tür"}'].task_index == 1


def info_text(folder):
    return (folder / "meta" / "info.json").read_text()


@pytest.mark.parametrize("version", DATA_OF)
def test_info_tells_features_and_places(written, version):
    info = json.loads(info_text(written[version]))
    assert info["codebase_version"] == version
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 19, 4)
    assert (info["fps"], info["robot_type"], info["splits"]) == (30, "unknown", {"train": "0:3"})
    image = {"dtype": "image", "shape": [12, 16, 3], "names": ["height", "width", "channel"]}
    assert info["features"][RGB] == image
    assert info["features"]["action"] == {"dtype": "int64", "shape": [1], "names": None}
    columns = pq.read_schema(written[version] / DATA_OF[version][0]).names
    assert columns == list(info["features"])
    place = {"episode_chunk": 0, "episode_index": 0, "chunk_index": 0, "file_index": 0}
    assert info["data_path"].format(**place) == DATA_OF[version][0]


def test_all_instructions_are_tasks_of_their_episode(written):
    v21, v30 = written["v2.1"], written["v3.0"]
    episodes = lines(v21, "episodes.jsonl")
    assert [row["length"] for row in episodes] == list(LENGTHS)
    tasks = [json.loads(task)["instruction"] for task in episodes[1]["tasks"]]
    assert tasks == ["Walk through abc_r2r_000001. ", "Gehe zur Tür"]
    known = {row["task_index"]: row["task"] for row in lines(v21, "tasks.jsonl")}
    assert [known[i] for i in range(4)] == [
        *episodes[0]["tasks"],
        *[e["tasks"][0] for e in episodes[1:]],
    ]
    rows = pq.read_table(v30 / "meta" / "episodes" / "chunk-000" / "file-000.parquet").to_pylist()
    assert [row["tasks"] for row in rows] == [row["tasks"] for row in episodes]
    assert [(r["dataset_from_index"], r["dataset_to_index"]) for r in rows] == [
        (0, 12),
        (12, 15),
        (15, 19),
    ]


def test_statistics_are_per_channel_and_of_all_frames(written):
    stats = [row["stats"] for row in lines(written["v2.1"], "episodes_stats.jsonl")]
    red, green, blue = np.array(stats[0][RGB]["mean"])[:, 0, 0]
    assert (red, green, blue) == pytest.approx((55 / 255, 105.5 / 255, 200 / 255))
    assert np.array(stats[0][RGB]["max"])[:, 0, 0] == pytest.approx(
        (110 / 255, 111 / 255, 200 / 255)
    )
    assert np.array(stats[0][RGB]["std"])[2] == pytest.approx(0, abs=1e-6)
    assert stats[0]["action"]["min"] == [-1]
    assert stats[1]["index"]["min"] == [12]
    assert stats[0][RGB]["count"] == stats[0]["action"]["count"] == [12]
    whole = json.loads((written["v3.0"] / "meta" / "stats.json").read_text())
    frames = np.concatenate([np.arange(length) for length in LENGTHS])
    assert whole["frame_index"]["mean"] == pytest.approx([frames.mean()])
    assert whole["frame_index"]["std"] == pytest.approx([frames.std()])
    assert np.ravel(whole[RGB]["std"])[0] == pytest.approx(10 * frames.std() / 255)
    assert whole[RGB]["count"] == [19]
    assert pooled_statistics(stats) == whole
    row = pq.read_table(
        written["v3.0"] / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    ).to_pylist()[1]
    assert row[f"stats/{RGB}/mean"] == stats[1][RGB]["mean"]


def test_a_file_of_v3_is_closed_when_it_is_full(tmp_path, walks, monkeypatch):
    monkeypatch.setattr(lerobot_export, "DATA_FILE_MB", 1e-6)
    export(tmp_path / "out", walks, "v3.0")
    names = sorted(path.name for path in (tmp_path / "out" / "data" / "chunk-000").iterdir())
    assert names == [f"file-00{i}.parquet" for i in range(3)]
    path = tmp_path / "out" / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    assert pq.read_table(path)["data/file_index"].to_pylist() == [0, 1, 2]
    assert pq.read_metadata(tmp_path / "out" / "data/chunk-000/file-000.parquet").num_rows == 12


@pytest.mark.parametrize("version", DATA_OF)
def test_a_broken_off_run_goes_on(tmp_path, written, walks, version, monkeypatch):
    write, calls = lerobot_export._write_parquet, []

    def write_some(path, tables):
        calls.append(path)
        if len(calls) == (2 if version == "v2.1" else 1):
            raise KeyboardInterrupt
        write(path, tables)

    monkeypatch.setattr(lerobot_export, "_write_parquet", write_some)
    with pytest.raises(KeyboardInterrupt):
        export(tmp_path / "out", walks, version)
    assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]
    monkeypatch.undo()
    (tmp_path / ".out.partial" / "data" / ".episode_000001.parquet-7f").write_bytes(b"half")
    monkeypatch.setattr(lerobot_export, "image_statistics", lambda *_: calls.append("again"))
    export(tmp_path / "out", walks, version)
    assert "again" not in calls
    assert files(tmp_path / "out") == files(written[version])
    assert not list(tmp_path.rglob(".*"))


def test_a_broken_off_run_of_other_walks_is_thrown_away(tmp_path, walks, written):
    partial = tmp_path / ".out.partial"
    shutil.copytree(written["v2.1"], partial)
    (partial / "plan.txt").write_text("another")
    export(tmp_path / "out", walks[:1], "v2.1")
    assert len(list((tmp_path / "out" / "data" / "chunk-000").iterdir())) == 1


def test_broken_images_are_one_error(tmp_path):
    found = list(read_trajectories(write_set(tmp_path / "R2R", LENGTHS)))
    path = found[1].frames[2]
    path.write_bytes(path.read_bytes()[:40])
    Image.new("RGB", (8, 8)).save(found[2].frames[1])
    with pytest.raises(ValueError, match="2 of 3 walks cannot be read") as raised:
        export(tmp_path / "out", found, "v2.1")
    assert "000001/rgb/2.png: image: found 40 bytes" in str(raised.value)
    assert "000002/rgb/1.png: size: found 8x8, expected 16x12" in str(raised.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="version: found 'v2', expected one of v2.1, v3.0"):
        export(tmp_path / "out", found, "v2")
    with pytest.raises(ValueError, match="found no walk"):
        export(tmp_path / "out", [], "v2.1")
