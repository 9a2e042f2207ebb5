"""Frames per second of the simulator: RGB-D by embree called directly, and by trimesh's wrapper.

    python -m benchmarks.render

One core, one run, the same scene, poses and rays for both. The project's bound is 30 frames/s
of 320x240 RGB-D. The second table is for datasets: scenes, planning, labels and files together.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import trimesh

from internnav_hf.camera import CameraSpec
from internnav_hf.command_line import LineParser
from internnav_hf.geometry import camera_pose
from internnav_hf.sim.navigation import NavigableSpace
from internnav_hf.sim.render import Renderer, camera_rays
from internnav_hf.sim.scenes import Scene, generate_scene
from scripts.make_dataset import DatasetArguments, SceneJob, write_scene

SIZES = ((128, 96), (320, 240), (640, 480))
BOUND_FRAMES_PER_SECOND = 30


def main() -> None:
    """Print two small tables."""
    parser = LineParser(__doc__)
    parser.add_argument("--frames", type=int, default=100, help="frames to render at each size")
    parser.add_argument(
        "--wrapper-frames", type=int, default=10, help="frames to render by the wrapper"
    )
    parser.add_argument("--episodes", type=int, default=10, help="episodes to write")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    scene = generate_scene(options.seed)
    poses = _random_poses(scene, options.frames, options.seed)
    print(f"{scene.name}: {len(scene.faces)} triangles, one core")
    print("| size | RGB-D frames/s | trimesh.ray frames/s | ratio |")
    print("|---|---|---|---|")
    for width, height in SIZES:
        camera = CameraSpec(width=width, height=height)
        direct = _frames_per_second(Renderer(scene).render, poses, camera)
        wrapper = _frames_per_second(_wrapper(scene), poses[: options.wrapper_frames], camera)
        print(f"| {width}x{height} | {direct:.0f} | {wrapper:.1f} | {direct / wrapper:.1f} |")
    print(f"Bound: {BOUND_FRAMES_PER_SECOND} frames/s at 320x240.\n")
    _print_datasets(options.episodes, options.seed)


def _random_poses(scene: Scene, num_poses: int, seed: int) -> list[np.ndarray]:
    space, rng = NavigableSpace(scene), np.random.default_rng(seed)
    places = [(space.sample(rng), rng.uniform(-np.pi, np.pi)) for _ in range(num_poses)]
    return [camera_pose(x, y, yaw, 1.25, np.radians(15)) for (x, y), yaw in places]


def _frames_per_second(
    render: Callable[[np.ndarray, CameraSpec], object], poses: list[np.ndarray], camera: CameraSpec
) -> float:
    render(poses[0], camera)
    start = time.perf_counter()
    for pose in poses:
        render(pose, camera)
    return len(poses) / (time.perf_counter() - start)


def _wrapper(scene: Scene) -> Callable[[np.ndarray, CameraSpec], object]:
    """First hits, their depth and their colour, by `trimesh.ray`."""
    mesh = trimesh.Trimesh(scene.vertices, scene.faces, process=False)

    def render(pose: np.ndarray, camera: CameraSpec) -> tuple[np.ndarray, np.ndarray]:
        rays = camera_rays(camera.width, camera.height, camera.hfov_deg) @ pose[:3, :3].T
        origins = np.tile(pose[:3, 3], (len(rays), 1))
        points, ray, face = mesh.ray.intersects_location(origins, rays, multiple_hits=False)
        depth, rgb = np.zeros(len(rays)), np.zeros((len(rays), 3), np.uint8)
        depth[ray] = (points - pose[:3, 3]) @ pose[:3, 2]
        rgb[ray] = scene.face_colors[face]
        return rgb, depth

    return render


def _print_datasets(num_episodes: int, seed: int) -> None:
    print("| dataset | written frames/s | ms per frame |")
    print("|---|---|---|")
    for name, changes in (
        (
            "128x96, one pitch, no depth, masks",
            {"width": 128, "height": 96, "pitch": 30.0, "depth": False, "landmarks": True},
        ),
        ("640x480, two pitches, depth", {}),
    ):
        with tempfile.TemporaryDirectory() as folder:
            arguments = DatasetArguments(out=folder, episodes=num_episodes, **changes)
            start = time.perf_counter()
            job = SceneJob(Path(folder) / "scene", 0, seed, None, arguments)
            _, num_frames = write_scene(job)
            seconds = time.perf_counter() - start
        print(f"| {name} | {num_frames / seconds:.0f} | {1000 * seconds / num_frames:.1f} |")


if __name__ == "__main__":
    main()
