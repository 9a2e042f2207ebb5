"""Dataset names such as `r2r_125cm_0_30%30`, and the folders they stand for."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from internnav_hf.data.formats.vln_ce.reader import EPISODES_FILE
from internnav_hf.data.readers.columns import archive_hint
from internnav_hf.data.readers.errors import printable
from internnav_hf.data.readers.folders import (
    did_you_mean,
    folders_and_dead_links,
    nearest_folder,
    subfolders,
)

NAME_PATTERN = re.compile(
    r"(?P<folder>.+)_(?P<height_cm>\d+)cm_(?P<pitch_deg>\d+)_(?P<look_down_pitch_deg>\d+)"
    r"(?:%(?P<percent>\d+))?"
)
SETTING_PATTERN = re.compile(r"(\d+cm)_(\d+)deg")


@dataclass(frozen=True)
class DatasetName:
    """`{folder}_{height}cm_{pitch}_{look-down pitch}`, and `%N` to keep N percent of the
    samples.
    """

    folder: str
    height_cm: int
    pitch_deg: int
    look_down_pitch_deg: int
    percent: int = 100

    @classmethod
    def parse(cls, text: str) -> "DatasetName":
        """Parse a name, checking its form only; `scene_folders` checks that it exists."""
        match = NAME_PATTERN.fullmatch(text)
        if match is None:
            raise ValueError(
                f"Dataset name {text!r} is not of the form NAME_HEIGHTcm_PITCH_PITCH[%PERCENT];"
                " an example: r2r_125cm_0_30%30"
            )
        parts = match.groupdict()
        percent = int(parts.pop("percent") or 100)
        folder = parts.pop("folder")
        if not 1 <= percent <= 100:
            raise ValueError(f"Dataset name {text!r}: %{percent} must lie between %1 and %100")
        if Path(folder).name != folder or folder.startswith("."):
            raise ValueError(f"Dataset name {text!r}: {folder!r} must be the name of a folder")
        return cls(folder, percent=percent, **{key: int(part) for key, part in parts.items()})

    def __str__(self) -> str:
        return f"{self.folder}_{self.camera}"

    @property
    def camera(self) -> str:
        """Camera part of the name, as in `125cm_0_30`."""
        return f"{self.height_cm}cm_{self.pitch_deg}_{self.look_down_pitch_deg}"

    @property
    def setting(self) -> str:
        """Camera setting of the ordinary view, as in column and folder names."""
        return f"{self.height_cm}cm_{self.pitch_deg}deg"

    @property
    def look_down_setting(self) -> str:
        """Camera setting of the view with pixel goals, from which poses and goals are read."""
        return f"{self.height_cm}cm_{self.look_down_pitch_deg}deg"


def parse_dataset_names(names: str | Iterable[str]) -> list[DatasetName]:
    """Parse names, comma separated or a list."""
    words = names.split(",") if isinstance(names, str) else list(names)
    words = [word.strip() for word in words if word.strip()]
    if not words:
        raise ValueError("No dataset name given; an example: datasets='r2r_125cm_0_30'")
    return [DatasetName.parse(word) for word in words]


def scene_folders(data_root: Path, name: DatasetName, needs_depth: bool = False) -> list[Path]:
    """Return the sorted scenes of a dataset, after checking that root, dataset, scenes, camera
    setting and, if needed, depth of the look-down view exist.
    """
    if not data_root.is_dir():
        raise ValueError(
            f"data_root {data_root}: no such folder. It should hold the folder {name.folder!r}."
            f"{nearest_folder(data_root)}"
        )
    folder = data_root / name.folder
    if not folder.is_dir():
        known = [child.name for child in subfolders(data_root)]
        hint = archive_hint(data_root)
        raise ValueError(
            f"Unknown dataset {str(name)!r}: {data_root} has no folder {name.folder!r}."
            f"{did_you_mean(name.folder, known)}{hint}"
        )
    scenes = folders_and_dead_links(folder)
    if not scenes:
        raise ValueError(f"{folder}: no scene folder in it.{archive_hint(folder)}")
    if not any((scene / EPISODES_FILE).is_file() for scene in scenes):
        names = ", ".join(printable(scene.name) for scene in scenes[:5])
        raise ValueError(
            f"{folder}: all {len(scenes)} scene folders are empty or incomplete: {EPISODES_FILE} is"
            f" missing in {names}{', ...' if scenes[5:] else ''}"
        )
    _check_camera(folder, scenes, name)
    if needs_depth:
        _check_depth_folders(scenes, name)
    return scenes


def _check_depth_folders(scenes: list[Path], name: DatasetName) -> None:
    setting = name.look_down_setting
    if not any(setting in camera_settings(scene, "depth") for scene in scenes):
        raise ValueError(
            f"Dataset {str(name)!r} has no depth: no scene of {scenes[0].parent} has images"
            f" observation.images.depth.{setting} (16-bit PNG, millimetres;"
            " scripts/make_dataset.py writes them unless --depth false is given). An action"
            " expert that sees no depth needs none: depth=False."
        )


def camera_settings(scene: Path, kind: str = "rgb") -> list[str]:
    """Return settings such as "125cm_30deg" for which the scene has images of that kind."""
    prefix = f"observation.images.{kind}."
    if not (scene / "videos").is_dir():
        return []
    folders = [child for chunk in subfolders(scene / "videos") for child in subfolders(chunk)]
    names = {child.name for child in folders if child.name.startswith(prefix)}
    return sorted(name.removeprefix(prefix) for name in names)


def _check_camera(folder: Path, scenes: list[Path], name: DatasetName) -> None:
    """Refuse a setting that the first scene with images lacks, as a wrong name."""
    known = next((found for scene in scenes if (found := camera_settings(scene))), [])
    for setting in (name.setting, name.look_down_setting):
        if setting not in known:
            raise ValueError(
                f"Unknown dataset {str(name)!r}: {folder} has no images of camera {setting!r}."
                f" It has {', '.join(known) or 'none'}.{_nearest_name(name, known)}"
            )


def _nearest_name(name: DatasetName, known: list[str]) -> str:
    """Return a hint that ends an error message: the dataset of the settings most like those of
    `name`.
    """
    wanted = (name.setting, name.look_down_setting)
    close = [setting for word in wanted for setting in get_close_matches(word, known, n=1)]
    parts = [match.groups() for word in close if (match := SETTING_PATTERN.fullmatch(word))]
    if len(parts) < 2 or parts[0][0] != parts[1][0]:
        return ""
    return f" Did you mean '{name.folder}_{parts[0][0]}_{parts[0][1]}_{parts[1][1]}'?"
