import pytest
from hypothesis import given
from hypothesis import strategies as st

from internnav_hf.data.formats.vln_ce.names import DatasetName, parse_dataset_names


def test_a_name_holds_folder_camera_and_share():
    name = DatasetName.parse("r2r_val_unseen_60cm_15_30%20")
    assert (name.folder, name.height_cm, name.percent) == ("r2r_val_unseen", 60, 20)
    assert (name.setting, name.look_down_setting) == ("60cm_15deg", "60cm_30deg")
    assert str(name) == "r2r_val_unseen_60cm_15_30"


@given(st.from_regex(r"[a-z]+_[0-9]{1,3}cm_[0-9]{1,2}_[0-9]{1,2}", fullmatch=True))
def test_every_well_formed_name_is_read(text):
    name = DatasetName.parse(text)
    assert text.startswith(name.folder)
    assert name.percent == 100


def test_names_come_as_text_or_list():
    names = parse_dataset_names(" r2r_125cm_0_30, rxr_125cm_0_30%30,")
    assert names == parse_dataset_names(["r2r_125cm_0_30", "rxr_125cm_0_30%30"])
    assert [name.percent for name in names] == [100, 30]


@pytest.mark.parametrize("text", ["r2r", "r2r_125cm_0", "r2r_125cm_0_30%", "_cm_0_30"])
def test_another_form_is_refused(text):
    with pytest.raises(ValueError, match="not of the form"):
        DatasetName.parse(text)
