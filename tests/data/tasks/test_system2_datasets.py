import pytest

from internnav_hf.data.formats.registry import Reader, dataset_names
from internnav_hf.data.tasks.common import SYSTEM2
from internnav_hf.data.tasks.system2_datasets import open_datasets
from internnav_hf.data.tasks.system2_sampling import SamplingRules
from tests.data.vln_ce import straight_episode, write_scene

SIZE = (64, 48)


def opened(root, names, rules=SamplingRules(), seed=0):  # noqa: B008
    reader = Reader(SYSTEM2.native, root / "cache", needs_depth=False)
    return open_datasets(SYSTEM2, reader, root, dataset_names(root, names), rules, seed, 0.01)


@pytest.fixture
def root(tmp_path):
    for name in ("r2r", "rxr"):
        episodes = [straight_episode(index) for index in range(2)]
        write_scene(tmp_path / name / "a", episodes, SIZE)
    return tmp_path


def test_samples_point_to_the_episodes_of_all_datasets(root):
    one, both = (
        opened(root, names) for names in ("rxr_125cm_0_30", "r2r_125cm_0_30,rxr_125cm_0_30")
    )
    units = both.episodes["unit"].take(both.samples["episode"]).to_pylist()
    half = one.samples.num_rows
    assert units == ["r2r/a"] * half + ["rxr/a"] * half
    assert (
        both.samples.slice(half).drop_columns("episode").equals(one.samples.drop_columns("episode"))
    )
    assert both.episodes["dataset"].to_pylist() == [0, 0, 1, 1]
    assert (both.image_size, len(both.cameras)) == (SIZE, 2)


def test_a_share_of_a_dataset_is_the_same_each_time(root):
    half = opened(root, "r2r_125cm_0_30%50").samples
    assert half.num_rows == opened(root, "r2r_125cm_0_30").samples.num_rows // 2
    assert half.equals(opened(root, "r2r_125cm_0_30%50").samples)
    assert not half.equals(opened(root, "r2r_125cm_0_30%50", seed=1).samples)


def test_images_of_another_size_are_refused(root):
    write_scene(root / "other" / "a", [straight_episode(0)], (32, 24))
    with pytest.raises(ValueError, match="one size; found 32x24 in other_.*, 64x48 in r2r_"):
        opened(root, "r2r_125cm_0_30,other_125cm_0_30")


def test_other_rules_use_the_same_episodes(root):
    for step in (2, 4):
        opened(root, "r2r_125cm_0_30", SamplingRules(sample_step=step))
    assert len(list((root / "cache").rglob("episodes.arrow"))) == 1
    assert len(list((root / "cache").rglob("samples.arrow"))) == 2
