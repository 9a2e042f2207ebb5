import os

from internnav_hf.data.formats.vln_ce.checks import FrameFiles, check_episode
from internnav_hf.data.formats.vln_ce.names import DatasetName
from internnav_hf.data.formats.vln_ce.reader import read_records
from tests.data.vln_ce import straight_episode, write_scene


def test_each_image_folder_is_listed_once(tmp_path, monkeypatch):
    write_scene(tmp_path, [straight_episode(index) for index in range(4)], (64, 48))
    listed = []
    look = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or look(path))
    files = FrameFiles(tmp_path)
    for record in read_records(tmp_path)[0]:
        episode, size, has_landmarks = check_episode(
            record, DatasetName.parse("r2r_125cm_0_30"), files
        )
        assert (episode.length, size, has_landmarks) == (12, (64, 48), False)
    assert len(listed) == 2
