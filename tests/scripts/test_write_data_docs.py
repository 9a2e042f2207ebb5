import re

from internnav_hf.data.tasks.common import TASKS
from scripts import write_data_docs


def test_the_page_about_data_is_up_to_date():
    assert write_data_docs.PATH.read_text(encoding="utf-8") == write_data_docs.render()


def test_the_page_about_training_says_which_formats_each_task_takes():
    page = (write_data_docs.PATH.parent / "training.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([^|]+?) \| `--\w+` \| (.+) \|$", page, re.MULTILINE))
    for task in TASKS:
        cells = [cell.split(",")[0] for cell in rows[task.name].split(" | ")]
        assert cells == ["no" if missing else "yes" for missing in task.formats().values()]
