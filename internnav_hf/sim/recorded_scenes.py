"""Scenes of datasets that the embedded simulator wrote, rebuilt from the datasets' metadata.

A generated scene follows from its seed, which is part of its name in `meta/info.json`, and from the
density there or the sizes in the dataset's `make_dataset.json`. A mesh is the file named in
`make_dataset.json`, which must lie next to it. The rebuilt scene shows where a robot can be, also
in places that no camera saw.
"""

import logging
import re
from functools import lru_cache
from pathlib import Path

from internnav_hf.data.readers.errors import broken
from internnav_hf.data.readers.json_files import read_json
from internnav_hf.sim.navigation import NavigableSpace
from internnav_hf.sim.scenes import Scene, SceneConfig, generate_scene, load_scene, scene_config

logger = logging.getLogger(__name__)

ARGUMENTS_FILE = "make_dataset.json"


@lru_cache(maxsize=64)
def recorded_space(scene_folder: Path) -> NavigableSpace | None:
    """The navigable space of the scene that was recorded to `scene_folder`.

    None if the simulator did not write it, or if its mesh file is missing.
    """
    arguments_file = scene_folder.parents[1] / ARGUMENTS_FILE
    info_file = scene_folder / "meta" / "info.json"
    if not (arguments_file.is_file() and info_file.is_file()):
        return None
    arguments, info = read_json(arguments_file), read_json(info_file)
    try:
        scene = _scene(scene_folder, info, arguments)
        return None if scene is None else NavigableSpace(scene, float(arguments["grid_resolution"]))
    except (LookupError, TypeError, AttributeError) as error:
        found = f"{type(error).__name__}: {error}"
        raise broken(arguments_file, "fields", found, "what make_dataset.py wrote") from error


def _scene(scene_folder: Path, info: dict, arguments: dict) -> Scene | None:
    if arguments["scene"] is not None:
        # By its name only: a dataset must not open files elsewhere.
        names = {Path(mesh).stem: Path(mesh).name for mesh in arguments["scene"]}
        mesh = scene_folder.parents[1] / names.get(scene_folder.name, "")
        if mesh.is_file():
            return load_scene(str(mesh))
        logger.warning("%s: there is no such mesh; collisions of paths are not measured.", mesh)
        return None
    seed = re.fullmatch(r"scene_(\d+)", str(info.get("scene", "")))
    if seed is None:
        return None
    if "density" in info:
        return generate_scene(int(seed[1]), scene_config(info["density"]))
    sizes = {name: tuple(arguments[name]) for name in ("num_rooms", "num_objects")}
    return generate_scene(int(seed[1]), SceneConfig(**sizes))
