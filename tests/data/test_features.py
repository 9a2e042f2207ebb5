import json
import multiprocessing
import os

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from internnav_hf.data.features import FeatureStore, cache_features, encoder_digest, frames_key

DIGEST, OTHER = "a" * 64, "b" * 64


class Episodes:
    """Three episodes, one of them in two places."""

    lengths = (5, 2, 5, 9)
    feature_keys = ("aa00", "ab11", "aa00", "cc22")

    def __init__(self):
        self.read = []

    def read_frames(self, episode):
        self.read.append(episode)
        rng = np.random.default_rng(self.lengths[episode])
        length = self.lengths[episode]
        return {
            "rgb": rng.integers(0, 255, (length, 3, 8, 8), np.uint8),
            "depth": rng.random((length, 6, 6), np.float32),
        }


def encode_rgb(frames):
    assert frames.dtype == torch.uint8
    return frames.float().mean((2, 3))


def encode_depth(frames):
    return frames[:, :2, :3]


def store(tmp_path, **options):
    return FeatureStore.below(tmp_path, DIGEST, **options)


def cache(source, features, **options):
    return cache_features(source, features, encode_rgb, encode_depth, **options)


def test_features_are_those_of_the_encoders(tmp_path):
    source, features = Episodes(), store(tmp_path, dtype="float32")
    assert features.missing(source.feature_keys) == ["aa00", "ab11", "cc22"]
    assert cache(source, features, batch_size=2) == 3
    assert not features.missing(source.feature_keys)
    for row, key in enumerate(source.feature_keys):
        frames = source.read_frames(row)
        found = features.read(key)
        rgb = encode_rgb(torch.from_numpy(frames["rgb"]))
        assert np.array_equal(found["rgb_features"], rgb.numpy())
        assert np.array_equal(found["depth_features"], frames["depth"][:, :2, :3])


def test_only_the_first_frames_are_read_when_no_more_are_used(tmp_path):
    features = store(tmp_path)
    cache(Episodes(), features)
    whole, some = features.read("cc22"), features.read("cc22", 4)
    for name in ("rgb_features", "depth_features"):
        assert some[name].dtype == np.float16
        assert np.array_equal(some[name], whole[name][:4])
    with pytest.raises(
        ValueError, match=r"cc22.safetensors: features: found 9 frames, expected 10"
    ):
        features.read("cc22", 10)


def test_a_second_run_encodes_only_what_is_missing(tmp_path):
    source, features = Episodes(), store(tmp_path)
    cache(source, features)
    features.path("ab11").unlink()
    again = Episodes()
    assert cache(again, store(tmp_path)) == 1
    assert again.read == [1]
    assert cache(again, features) == 0


def _share(folder, rank):
    cache(Episodes(), store(folder), rank=rank, world_size=2)


def test_processes_share_the_work_and_leave_no_halves(tmp_path):
    cache(Episodes(), store(tmp_path / "one"), num_workers=2)
    context = multiprocessing.get_context("forkserver")
    workers = [context.Process(target=_share, args=(tmp_path / "two", rank)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    names = [
        sorted(p.name for p in (tmp_path / n).rglob("*") if p.is_file()) for n in ("one", "two")
    ]
    assert names[0] == names[1]
    for key in Episodes.feature_keys:
        pair = [store(tmp_path / name).read(key) for name in ("one", "two")]
        assert all(np.array_equal(pair[0][name], pair[1][name]) for name in pair[0])


def test_an_interrupted_episode_leaves_no_file(tmp_path):
    def interrupted(frames):
        if len(frames) == 2:
            raise KeyboardInterrupt
        return encode_depth(frames)

    features = store(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        cache_features(Episodes(), features, encode_rgb, interrupted)
    assert features.missing(Episodes.feature_keys) == ["ab11", "cc22"]
    assert not list(tmp_path.rglob(".*"))


def test_a_store_of_another_encoder_is_refused(tmp_path):
    folder = store(tmp_path).folder
    with pytest.raises(ValueError, match=rf"encoder_digest: found {DIGEST}, expected {OTHER}"):
        FeatureStore(folder, OTHER)
    with pytest.raises(ValueError, match="dtype: found float16, expected float32"):
        FeatureStore(folder, DIGEST, "float32")
    assert FeatureStore.below(tmp_path, OTHER).folder != folder
    assert FeatureStore(folder, DIGEST).folder == folder


def test_files_that_are_not_features_of_these_encoders_are_named(tmp_path):
    features = store(tmp_path)
    path = features.path("dd33")
    with pytest.raises(ValueError, match=r"dd33.safetensors: features: found no file"):
        features.read("dd33")
    path.parent.mkdir()
    save_file({"rgb_features": np.zeros((1, 2))}, path, metadata={"encoder_digest": OTHER})
    with pytest.raises(ValueError, match=rf"encoder_digest: found {OTHER}, expected {DIGEST}"):
        features.read("dd33")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="expected a whole safetensors file"):
        features.read("dd33")


def test_numbers_that_do_not_fit_are_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"rgb_features: found values up to 70000, .* float16's"):
        store(tmp_path).write("ee44", {"rgb_features": np.full((1, 2), 7e4)})
    store(tmp_path, dtype="float32").write("ee44", {"rgb_features": np.full((1, 2), 7e4)})
    with pytest.raises(ValueError, match="one of float16, float32: 'int8'"):
        store(tmp_path, dtype="int8")
    assert json.loads((store(tmp_path).folder / "encoder.json").read_text())["dtype"] == "float16"


def test_a_digest_tells_weights_and_settings_apart():
    weights = {"a": torch.ones(2, 2), "b": torch.tensor(3, dtype=torch.int64)}
    digest = encoder_digest(weights, {"image_size": 256})
    assert digest == encoder_digest(dict(reversed(weights.items())), {"image_size": 256})
    changed = [
        encoder_digest(weights, {"image_size": 224}),
        encoder_digest(weights | {"a": torch.ones(4)}, {"image_size": 256}),
        encoder_digest(weights | {"a": torch.ones(2, 2).half()}, {"image_size": 256}),
        encoder_digest(weights | {"a": torch.tensor([[1, 1], [1, 1.1]])}, {"image_size": 256}),
    ]
    assert len({digest, *changed}) == 5
    assert encoder_digest({"a": torch.ones(2, dtype=torch.bfloat16)}, {}) != digest


def test_a_key_follows_the_frame_files(tmp_path):
    files = [tmp_path / "r2r" / name for name in ("a.npy", "b.npy")]
    files[0].parent.mkdir()
    for file in files:
        file.write_bytes(b"12")
    key = frames_key(files, tmp_path)
    assert key == frames_key(files, tmp_path) != frames_key(files, tmp_path / "r2r")
    assert key != frames_key(files[:1], tmp_path)
    files[1].write_bytes(b"123")
    assert key != frames_key(files, tmp_path)


def test_a_key_follows_what_is_in_the_files(tmp_path):
    """As in the archives of two datasets, with one time for all."""
    keys = set()
    for content in (b"a" * 9000, b"b" * 9000):
        files = [tmp_path / f"{number}.npy" for number in range(2)]
        for file in files:
            file.write_bytes(b"header" + content)
            os.utime(file, (0, 0))
        keys |= {frames_key(files, tmp_path), frames_key(iter(files), tmp_path)}
    assert len(keys) == 2
