"""Write docs/DATA.md from the code that reads, indexes and batches the data.

    python scripts/write_data_docs.py

A test compares the file with what this writes.
"""

import inspect
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from internnav_hf import trajectory
from internnav_hf.command_line import LineParser
from internnav_hf.data import (
    DDPPOCollator,
    DDPPODataset,
    DualSystemCollator,
    DualSystemDataset,
    ImageGoalCollator,
    ImageGoalDataset,
    NavDPCollator,
    NavDPDataset,
    System2Collator,
    System2Dataset,
    VLNCollator,
    VLNDataset,
    features,
    index,
    obstacles,
    vocabulary,
)
from internnav_hf.data.checks import actions as action_checks
from internnav_hf.data.checks import depth as depth_checks
from internnav_hf.data.formats import trajectories, vlnce_episodes
from internnav_hf.data.formats.registry import SCHEMAS
from internnav_hf.data.formats.vln_ce import reader as lerobot
from internnav_hf.data.formats.vln_ce.index import EPISODE_SCHEMA
from internnav_hf.data.formats.vln_ce.reader import (
    COLUMNS,
    EPISODES_FILE,
    INSTRUCTION_SEPARATOR,
    Column,
)
from internnav_hf.data.formats.vln_n1 import index as vln_n1_index
from internnav_hf.data.formats.vln_n1 import reader as vln_n1
from internnav_hf.data.formats.vln_pe import frames as vln_pe_frames
from internnav_hf.data.formats.vln_pe import index as vln_pe_index
from internnav_hf.data.formats.vln_pe import reader as vln_pe
from internnav_hf.data.tasks import (
    ddppo,
    ddppo_targets,
    image_goal,
    navdp_targets,
    vln_targets,
)
from internnav_hf.data.tasks import system2_sampling as sampling
from internnav_hf.data.tasks.common import SYSTEM2, TASKS
from internnav_hf.data.tasks.system2_sampling import SAMPLE_SCHEMA

PATH = Path(__file__).parents[1] / "docs" / "DATA.md"

PAGE = """# Data

This page is written by `python scripts/write_data_docs.py`; a test keeps it in step with the code.

See what a folder holds with `python scripts/check_dataset.py FOLDER`, and what System2 is shown
with `python scripts/preview_dataset.py DATA_ROOT --dataset r2r_125cm_0_30`.

Four formats are read: `vln_ce` (published for System2 and the dual system), `vln_n1` (for NavDP),
`vln_pe` (whole episodes, for Seq2Seq, CMA and RDP) and `trajectories` (for GNM, ViNT and NoMaD). A
format of your own is one function: `CONTRIBUTING.md`. A task trains on every format, ours or yours,
that has the columns it needs:

{tasks}

The camera's columns are empty where none is recorded, as in InternData-N1's `vln_pe`; `camera=` of
a dataset stands in. A data root holds folders of one format, whichever it is:

    System2Dataset("vln_pe", "r2r")
    NavDPDataset("vln_ce", groups="r2r_125cm_30_30")
    VLNDataset("vln_ce", processor, scans="r2r_125cm_30_30")

## On disk: `vln_ce` folders

{lerobot}

`data_root` is the folder above the datasets: `data_root/r2r/<scene>/...`. A dataset is named by
its folder and its camera, `NAME_HEIGHTcm_PITCH_PITCH`: `r2r_125cm_0_30` is the folder `r2r`, a
camera 125 cm above the floor, the ordinary view at 0° and the look-down view at 30°. `%30` at the
end keeps a seeded 30 percent of the samples. Archives must be unpacked first.

A line of `{episodes_file}`:

| field | meaning |
|---|---|
| `episode_index` | number in the file names; `chunk-000`, ... hold a thousand each |
| `tasks` | the instructions, verbatim; a string may hold several, separated by `{separator}` |
| `length` | number of frames = rows of the parquet file |

Columns of an episode's parquet file; `S` is a camera setting such as `125cm_30deg`, and poses and
goals are read for the look-down view. Other columns may be there and are not read.

| column | type of a row | meaning |
|---|---|---|
{columns}

Images of `observation.images.rgb.S` are JPEG, one size throughout. Depth
(`observation.images.depth.S`, 16-bit PNG in millimetres) is needed, for the look-down view, where
an action expert sees it (`DualSystemDataset(..., depth=True)`), and not for System2. Our simulator
adds `observation.images.landmark.S`: small 8-bit PNG, how much of each cell the named object
covers; and `camera` in `meta/info.json`.

## On disk: `vln_n1` folders

{vln_n1}

`data_root` is the folder above the groups (published: `gibson_zed`, `hm3d_d435i`, ...). A line of
`{stats_file}`:

    {{"episode_index": 7, "stats": {{"image_index": {{"min": [812], "max": [911]}}}}}}

says that frames 812 to 911 are those of `episode_000007.parquet`. Numbers may stand without
brackets; without `episode_index` line i is episode i.

| column | type of a row | meaning |
|---|---|---|
{vln_n1_columns}

Colour images are JPEG of one size an episode (published 480x270), depth is 16-bit PNG of 0.1 mm
(`depth_scale=` for others). A file's name may be padded and begin with anything, as long as an
episode's begin alike. `{cloud_file}` has coloured points; of all but the obstacles nothing is read,
but by planners, for which those at the floor's height are free. Our simulator adds
`observation.images.semantics`, PNG in the colours of ViPlanner's classes, if asked for.

## On disk: `vln_pe` folders

{vln_pe}

`data_root` is the folder above the scans. A line of `{tasks_file}` and one of
`{pe_stats_file}` of v0.5, and one of `{pe_episodes_file}` of v0.1:

    {{"task_index": 21, "task": "Walk past ...", "instruction_tokens": [2384, 1589, ..., 0],
     "finish_status": "success", "fail_reason": ""}}
    {{"episode_index": 7, "task_index": {{"min": 21, "max": 23, "count": 3}}}}
    {{"instruction_text": "Walk past ...", "instruction_tokens": [2384, 1589, ..., 0],
     "finish_status": "success", "fail_reason": ""}}

An episode's numbers may stand in lists, and below a key "stats". `instruction_tokens` may be
missing or all 0. Without `finish_status` a walk went well.

| column | type of a row | meaning |
|---|---|---|
{vln_pe_columns}

Published, and not read: {vln_pe_others}. Scans whose name or scene contains `{splat_marker}` have
colours in the order BGR, and depth in units of {splat_unit:g} m.

## On disk: `trajectories`

{trajectories}

`scripts/export_trajectories.py` writes this layout from any data with poses.

## VLN-CE's raw episodes

{vlnce_episodes}

### Word lists

{vocabulary}

## What is checked

Once, when the index is built, by training and by `scripts/check_dataset.py` alike (in `vln_ce`,
depth where it is asked for; recorded VLN-CE walks have no poses):

| what | how | formats |
|---|---|---|
{checks}

A broken episode is named, counted and left out; more than `max_broken_fraction` (default
{max_broken_fraction:g}) of them, an empty scene folder or scenes of several fields of view stop the
run before it starts. What is wrong with all of a scene breaks all of its episodes, in one line.
Images are decoded when they are used, and a truncated one stops the run with its name
(`scripts/check_dataset.py --verify-images` decodes all beforehand). EXIF orientations are applied;
transparent pixels, CMYK and 16-bit grey are refused where colours are meant.

### Actions and poses

{action_checks}

### Units of depth

{depth_checks}

Failed walks are left out or cut by the published rules:

{failures}

## From episodes to samples

{sampling}

{rules}

A dataset's list is all pixel goals, then all turns, then the stops `stop_repeat` times.

## The index

{index}

The cache folder is named after the dataset and a hash of the names, sizes and times of the files
it was made from (default: `internnav_hf/index` in the Hugging Face home; `cache_dir=` elsewhere).
It can be deleted at any time. Beside it lie System2's samples. `System2Dataset(...).samples`:

| column | type | meaning |
|---|---|---|
{samples}

`System2Dataset(...).episodes` (and `dataset`, the number of the dataset's name):

| column | type | meaning |
|---|---|---|
{episodes}

### Of `vln_n1`

{vln_n1_index}

In the same cache lies a folder for each point cloud, named after its content.
`NavDPDataset(...).episodes`:

| column | type | meaning |
|---|---|---|
{vln_n1_episodes}

### Of `vln_pe`

{vln_pe_index}

`VLNDataset(...).episodes` (and `root`, the number of the data root):

| column | type | meaning |
|---|---|---|
{vln_pe_episodes}

### Obstacles

{obstacles}

## Items

### System2

{dataset}

### Dual system

{dual_dataset}

How poses become `actions`, step by step:

{trajectory}

### NavDP

{navdp_dataset}

How poses become goals and actions:

{navdp_targets}

### GNM, ViNT, NoMaD

{image_goal}

{image_goal_dataset}

### DD-PPO

{ddppo}

{ddppo_dataset}

How a walk becomes steps:

{ddppo_targets}

### Seq2Seq, CMA, RDP

{vln_dataset}

How a walk becomes targets:

{vln_targets}

### Cached features

{features}

## Batches

### System2

{collator}

### Dual system

{dual_collator}

### NavDP

{navdp_collator}

### GNM, ViNT, NoMaD

{image_goal_collator}

### DD-PPO

{ddppo_collator}

### Seq2Seq, CMA, RDP

{vln_collator}
"""


ALL = "all"
CHECKS = (
    ("files", "can be read; columns have their types and shapes; as many rows as frames", ALL),
    ("images", "one for every frame, of one size, 8 bits a colour (by their headers)", ALL),
    ("depth images", "one for every frame, 16-bit grey, of the colours' aspect", ALL),
    ("actions", "known, with a stop at the end alone, and the poses bear them out", "instructions"),
    ("positions", "metres on earth, no jumps; a robot that walks moves", ALL),
    ("axes", "rotations of a camera that is upright and looks down as told", "poses as matrices"),
    ("heading", "a robot goes where it faces (the median over its steps); radians", ALL),
    ("goals", "waypoints lie in the episode and inside the image", "`vln_ce`"),
    ("depth's unit", "the floor lies where the camera's height and pitch put it", ALL),
    ("depth", "medians of {num_probes} images of a scene from {low:g} to {high:g} m", ALL),
    ("camera", "`meta/info.json` and intrinsics fit the images; metres, degrees", ALL),
    ("progress", "a share, not percent", "`vln_pe`"),
    ("point cloud", "has obstacles, and the walks among them", "`vln_n1`"),
)


def main() -> None:
    """Write the page beside the other documents."""
    LineParser(__doc__).parse_args()
    PATH.write_text(render(), encoding="utf-8")
    print(PATH)


def render() -> str:
    """The whole page."""
    parameters = inspect.signature(System2Dataset).parameters
    return PAGE.format(
        lerobot=documentation(lerobot),
        episodes_file=EPISODES_FILE,
        separator=INSTRUCTION_SEPARATOR,
        columns=column_rows(COLUMNS),
        max_broken_fraction=parameters["max_broken_fraction"].default,
        sampling=documentation(sampling),
        rules=", ".join(f"`{name}` {value}" for name, value in rule_defaults().items()) + ".",
        index=documentation(index),
        samples=schema_rows(SAMPLE_SCHEMA),
        episodes=schema_rows(EPISODE_SCHEMA),
        tasks=task_rows(),
        dataset=documentation(System2Dataset),
        collator=documentation(System2Collator),
        dual_dataset=documentation(DualSystemDataset),
        dual_collator=documentation(DualSystemCollator),
        trajectory=documentation(trajectory),
        **of_vln_n1(),
        **of_vln_pe(),
    )


def of_vln_n1() -> dict[str, object]:
    """Facts about NavDP's data for the page."""
    low, high = depth_checks.MEDIAN_M
    numbers = {"num_probes": depth_checks.NUM_PROBES, "low": low, "high": high}
    checks = [f"| {what} | {how.format(**numbers)} | {where} |" for what, how, where in CHECKS]
    return {
        "checks": "\n".join(checks),
        "vln_n1": documentation(vln_n1),
        "stats_file": vln_n1.STATS_FILE,
        "cloud_file": vln_n1.CLOUD_FILE,
        "vln_n1_columns": column_rows(vln_n1.COLUMNS),
        "action_checks": documentation(action_checks),
        "depth_checks": documentation(depth_checks),
        "vln_n1_index": documentation(vln_n1_index),
        "vln_n1_episodes": schema_rows(vln_n1_index.EPISODE_SCHEMA),
        "obstacles": documentation(obstacles),
        "navdp_dataset": documentation(NavDPDataset),
        "navdp_targets": documentation(navdp_targets),
        "navdp_collator": documentation(NavDPCollator),
        "trajectories": documentation(trajectories),
        "ddppo": documentation(ddppo),
        "ddppo_dataset": documentation(DDPPODataset),
        "ddppo_targets": documentation(ddppo_targets),
        "ddppo_collator": documentation(DDPPOCollator),
        "image_goal": documentation(image_goal),
        "image_goal_dataset": documentation(ImageGoalDataset),
        "image_goal_collator": documentation(ImageGoalCollator),
    }


def of_vln_pe() -> dict[str, object]:
    """Facts about episodes of instruction following for the page."""
    return {
        "vln_pe": documentation(vln_pe),
        "tasks_file": vln_pe.TASKS_FILE,
        "pe_stats_file": vln_pe.STATS_FILE,
        "pe_episodes_file": vln_pe.EPISODES_FILE,
        "vln_pe_columns": column_rows(vln_pe.COLUMNS),
        "vln_pe_others": ", ".join(f"`{name}`" for name in vln_pe.OTHER_COLUMNS),
        "splat_marker": vln_pe_frames.SPLAT_MARKER,
        "splat_unit": vln_pe_frames.SPLAT_DEPTH_UNIT_M,
        "vlnce_episodes": documentation(vlnce_episodes),
        "vocabulary": documentation(vocabulary),
        "failures": documentation(vln_pe_index.FailureRules),
        "vln_pe_index": documentation(vln_pe_index),
        "vln_pe_episodes": schema_rows(vln_pe_index.EPISODE_SCHEMA),
        "vln_dataset": documentation(VLNDataset),
        "vln_targets": documentation(vln_targets),
        "features": documentation(features),
        "vln_collator": documentation(VLNCollator),
    }


def task_rows() -> str:
    """A row per task: the columns it needs, and the formats that have them."""
    rows = [f"| task | needs | {' | '.join(f'`{name}`' for name in SCHEMAS)} |"]
    rows.append("|---" * (2 + len(SCHEMAS)) + "|")
    for task in TASKS:
        cells = [
            f"no {_coded(missing)}" if missing else "yes" for missing in task.formats().values()
        ]
        rows.append(f"| {task.name} | {_coded(task.needed)} | {' | '.join(cells)} |")
    derived = SYSTEM2.derived["goals"]
    return "\n".join(rows) + f"\n\nGoals may follow from {_coded(derived)} (`data.pixel_goals`)."


def _coded(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def documentation(thing: object) -> str:
    """Its docstring; indented parts become code blocks, as Markdown wants."""
    return inspect.getdoc(thing) or ""


def rule_defaults() -> dict[str, object]:
    """Rules of the sampling, as published."""
    rules = sampling.SamplingRules()
    return {name: getattr(rules, name) for name in sampling.SamplingRules.__dataclass_fields__}


def column_rows(columns: dict[str, Column]) -> str:
    """A row per column of an episode."""
    rows = []
    for name, column in columns.items():
        kind = np.dtype(column.dtype).name
        shape = f" {'x'.join(map(str, column.shape))}" if column.shape else ""
        rows.append(f"| `{name}` | {kind}{shape} | {column.meaning} |")
    return "\n".join(rows)


def schema_rows(schema: pa.Schema) -> str:
    """A row per column of an Arrow table."""
    rows = []
    for field in schema:
        meaning = field.metadata[b"meaning"].decode()
        rows.append(f"| `{field.name}` | {type_words(field.type)} | {meaning} |")
    return "\n".join(rows)


def type_words(kind: pa.DataType) -> str:
    """Name of a type, such as "list of int32"."""
    return f"list of {type_words(kind.value_type)}" if pa.types.is_list(kind) else str(kind)


if __name__ == "__main__":
    main()
