import os

from internnav_hf.data.formats.vln_ce.checks import check_episode
from internnav_hf.data.formats.vln_ce.names import DatasetName
from internnav_hf.data.formats.vln_ce.reader import read_records
from tests.data.vln_ce import straight_episode, write_scene


def test_no_image_folder_is_listed(tmp_path, monkeypatch):
    write_scene(tmp_path, [straight_episode(index) for index in range(4)], (64, 48))
    listed = []
    look = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or look(path))
    for record in read_records(tmp_path)[0]:
        name = DatasetName.parse("r2r_125cm_0_30")
        episode, size, has_landmarks = check_episode(record, name)
        assert (episode.length, size, has_landmarks) == (12, (64, 48), False)
    assert not listed
