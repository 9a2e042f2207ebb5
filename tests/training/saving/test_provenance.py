"""What a training makes its model from: data judged by what lies there, not by a name."""

import json

import pytest
from torch.utils.data import ConcatDataset, Subset

from internnav_hf.data import System2Dataset
from internnav_hf.publishing.licences import NON_COMMERCIAL, SCANS, UNRESTRICTED, Licence
from internnav_hf.training.saving import provenance
from internnav_hf.training.saving.provenance import cameras_of, data_origins
from tests.data.vln_ce import straight_episode, write_scene
from tests.tiny.system2 import tiny_processor

CAMERA = "125cm_0_30"


def dataset(root, folder: str = "mine", scenes=("a", "b"), simulated=()) -> System2Dataset:
    for index, scene in enumerate(scenes):
        write_scene(root / folder / scene, [straight_episode(index)], size=(112, 84))
        if scene in simulated:
            info = root / folder / scene / "meta" / "info.json"
            info.parent.mkdir(exist_ok=True)
            info.write_text(json.dumps({"robot_type": "simulated", "codebase_version": "v2.1"}))
    return System2Dataset(root, f"{folder}_{CAMERA}", tiny_processor(), cache_dir=root / "cache")


def test_own_data_have_no_known_licence(tmp_path):
    (found,) = data_origins(dataset(tmp_path))
    assert (found.name, found.kind, found.licence) == (f"mine_{CAMERA}", "data", None)


@pytest.mark.parametrize(
    ("simulated", "licence"), [(("a", "b"), UNRESTRICTED), (("a",), NON_COMMERCIAL)]
)
def test_simulated_data_are_free_where_every_scene_is(tmp_path, simulated, licence):
    (found,) = data_origins(dataset(tmp_path, "r2r", simulated=simulated))
    assert found.licence == licence


def test_scans_are_known_by_their_names_in_a_renamed_folder(tmp_path):
    for folder in ("mine", "simulated_train"):
        (found,) = data_origins(dataset(tmp_path, folder, ("17DRP5sb8fy", "00800-TEEsavR23oF")))
        assert found.licence == SCANS


def test_the_card_of_a_data_set_counts_wherever_it_lies_above(tmp_path):
    data = dataset(tmp_path / "x" / "y")
    (tmp_path / "x" / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# Mine\n")
    assert data_origins(data)[0].licence == Licence("cc-by-4.0")
    (tmp_path / "x" / "README.md").write_text("---\nlicense: cc-by-sa-4.0\n---\n# InternData-N1\n")
    (found,) = data_origins(data)
    assert (found.licence, found.repository) == (NON_COMMERCIAL, "InternRobotics/InternData-N1")


def test_all_sets_of_a_mixture_count(tmp_path):
    sets = [dataset(tmp_path / "1", simulated=("a", "b")), dataset(tmp_path / "2", "r2r")]
    found = data_origins(Subset(ConcatDataset(sets), [0]))
    assert {origin.licence for origin in found} == {UNRESTRICTED, NON_COMMERCIAL}
    assert [camera["height_m"] for camera in cameras_of(ConcatDataset(sets))] == [1.25]


def test_a_data_set_of_another_kind_is_not_known():
    (found,) = data_origins([1, 2])
    assert (found.name, found.licence) == ("list", None)


def test_a_link_to_data_is_what_it_leads_to(tmp_path):
    dataset(tmp_path / "InternData-N1")
    (tmp_path / "own").symlink_to(tmp_path / "InternData-N1")
    data = System2Dataset(tmp_path / "own", f"mine_{CAMERA}", tiny_processor(), cache_dir=tmp_path)
    assert data_origins(data)[0].licence == NON_COMMERCIAL


@pytest.mark.parametrize(
    ("second", "licence"),
    [("license: cc-by-nc-4.0", Licence("cc-by-nc-4.0")), ("title: x", None), ("license: mit",) * 2],
)
def test_roots_with_a_group_of_one_name_have_a_card_each(tmp_path, second, licence):
    scenes = []
    for root, head in (("a", "license: mit"), ("b", second)):
        (tmp_path / root / "group" / "scene").mkdir(parents=True)
        (tmp_path / root / "README.md").write_text(f"---\n{head}\n---\n")
        scenes.append(tmp_path / root / "group" / "scene")
    expected = Licence("mit") if licence == "license: mit" else licence
    assert provenance._origin("group", scenes).licence == expected
