"""The dual system's samples: System2's pixel goals, and what the action expert sees and does on the
way there.

A sample starts at the frame where System2 points at a pixel and ends G frames later, where the
camera is at that place. On the way every second look-down view becomes a frame of the sample, with
the trajectory from there to the goal as its target. The text is System2's training dialogue with
its answer; the latent plan follows it.

Differs from the published loader: only the frames that a sample shows are decoded, each once, and
poses are read from the index.

T frames of a sample, S view size, H horizon, B batch.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from internnav_hf.camera import CameraSpec, resize_view
from internnav_hf.data.rows import EpisodeRow, camera_of
from internnav_hf.data.tasks.common import DUAL_SYSTEM, check_option
from internnav_hf.data.tasks.system2 import System2Collator, System2Dataset, open_once
from internnav_hf.geometry import camera_pose, robot_pose
from internnav_hf.trajectory import ACTION_HORIZON, path_of, trajectory_actions

FRAME_STEP = 2
LARGEST_DEPTH_M = 5.0
FRAME_KEYS = ("rgb", "depth", "actions")
# System2's targets
NOT_READ = (
    "labels",
    "goal_pixel",
    "goal_mask",
    "answer_class",
    "landmark_mask",
    "num_landmark_images",
)


class DualSystemDataset(System2Dataset):
    """Pixel goals of the named datasets, with the frames from the decision to the goal.

    An item is System2's, and of its frames (frame 0 is the decision's): `rgb` (T, 3, S, S) uint8,
    the look-down views; `actions` (T, H, 3) float32, steps (dx, dy, dyaw) in metres and radians in
    the robot's frame at each; and with `depth`, `depth` (T, S, S) float32, metres up to 5, 0
    unknown. S is the argument `image_size`; the attribute of that name is the recorded images'
    (width, height), as System2's. Where there are more than `num_frames` frames, fewer are taken,
    evenly.

    The other arguments are those of `System2Dataset`.
    """

    task = DUAL_SYSTEM

    def __init__(
        self,
        *system2: Any,
        image_size: int = 224,
        action_horizon: int = ACTION_HORIZON,
        num_frames: int = 12,
        depth: bool = True,
        **system2_options: Any,
    ):
        super().__init__(*system2, pixel_goal_only=True, needs_depth=depth, **system2_options)
        sizes = {"image_size": image_size, "num_frames": num_frames}
        for key, value in {**sizes, "action_horizon": action_horizon}.items():
            check_option(key, value, value >= 1, "at least 1")
        self.view_size = (image_size, image_size)
        self.action_horizon = action_horizon
        self.num_frames = num_frames
        self.depth = depth

    def _item(self, index: int, opened: dict[tuple, Image.Image]) -> dict[str, Any]:
        item = super()._item(index, opened)
        sample, episode = self._row(index)
        start, goal = sample["frame_index"], sample["end_frame"] - 1
        frames = [start + ahead for ahead in frames_to_goal(goal - start, self.num_frames)]
        item["rgb"] = np.stack([self._rgb(episode, frame, opened) for frame in frames])
        if self.depth:
            item["depth"] = np.stack([self._depth(episode, frame) for frame in frames])
        poses = camera_poses(episode)
        ways = [poses[frame : goal + 1] for frame in frames]
        actions = np.stack([self._actions(way, episode) for way in ways])
        item["actions"] = actions.astype(np.float32)
        return item

    def decision(self, index: int) -> dict[str, Any]:
        """Return the input of a policy, and the expert's path.

        `System2Dataset.decision`'s, and: `path` (H + 1, 2) metres in the robot's frame,
        `robot_pose` (x, y, yaw) in the scene, `scene` (name of its folder) and `scene_folder`,
        `camera`, and, with depth, `look_down_depth` (rows, columns) metres, 0 unknown.
        """
        sample, episode = self._row(index)
        frame, end = sample["frame_index"], sample["end_frame"]
        poses = camera_poses(episode)
        decision = super().decision(index) | {
            "path": path_of(self._actions(poses[frame:end], episode)),
            "robot_pose": robot_pose(poses[frame]),
            "scene": episode.folder.name,
            "scene_folder": episode.folder,
            "camera": self._camera_of(episode),
        }
        if self.depth:
            decision["look_down_depth"] = episode.depth(frame)
        return decision

    def _camera_of(self, episode: EpisodeRow) -> CameraSpec:
        cameras = self._cameras[episode["dataset"]]
        return cameras[0] if len(cameras) == 1 else camera_of(episode)

    def _rgb(self, episode: EpisodeRow, frame: int, opened: dict[tuple, Image.Image]) -> np.ndarray:
        """Return (3, S, S) uint8; the first was decoded for System2."""
        image = open_once(episode, frame, opened)
        view = resize_view(image, self.view_size, Image.Resampling.BICUBIC)
        return np.asarray(view).transpose(2, 0, 1)

    def _depth(self, episode: EpisodeRow, frame: int) -> np.ndarray:
        """Return (S, S) float32 metres, at most `LARGEST_DEPTH_M`."""
        depth = episode.depth(frame, size=self.view_size)
        return np.minimum(depth, np.float32(LARGEST_DEPTH_M))

    def _actions(self, T_world_camera: np.ndarray, episode: EpisodeRow) -> np.ndarray:
        return trajectory_actions(T_world_camera, episode["pitch"], self.action_horizon)


class DualSystemCollator(System2Collator):
    """Encoded samples to one batch; sequences are padded on the right, frames by repeating the
    last.

    Two samples, a goal nine frames ahead without history and one five frames ahead with eight past
    frames, at 384x384 and 640x480 pixels:

        input_ids          (2, 2294)            int64    up to the answer; then pad_token_id
        attention_mask     (2, 2294)            int64    1 on tokens, 0 on padding
        mm_token_type_ids  (2, 2294)            int64    1 on image tokens
        pixel_values       (10968, 1176)        float32  patches of all images, one after the other
        image_grid_thw     (12, 3)              int64    2 images of the first, 10 of the second
        rgb                (2, 5, 3, 224, 224)  uint8    look-down views, the decision's first
        depth              (2, 5, 224, 224)     float32  metres, at most 5; 0 unknown
        actions            (2, 5, 32, 3)        float32  dx, dy in metres, dyaw in radians
        frame_mask         (2, 5)               bool     True on 5 frames and on 3

    `depth` is left out where the samples have none.
    """

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """The keys are the arguments of `DualSystemModel.forward`."""
        for position, sample in enumerate(samples):
            _check_frames(position, sample, samples[0])
        batch = super().__call__(samples)
        batch = {key: value for key, value in batch.items() if key not in NOT_READ}
        return batch | _stack_frames(samples)


def camera_poses(episode: EpisodeRow) -> np.ndarray:
    """Return (T, 4, 4) camera to world; as recorded, or of a level robot."""
    if not episode.has("camera_poses"):
        height_m, pitch = episode["height_m"], episode["pitch"]
        return np.stack([camera_pose(x, y, yaw, height_m, pitch) for x, y, yaw in episode.poses])
    upper = episode.array("camera_poses", 3, 4)
    last = np.broadcast_to(np.array([[0, 0, 0, 1]], upper.dtype), (len(upper), 1, 4))
    return np.concatenate([upper, last], axis=1)


def frames_to_goal(num_ahead: int, num_frames: int) -> range:
    """Frames after the decision to show on the path to a goal `num_ahead` frames ahead: every
    second, or fewer, evenly, if that would be more than `num_frames`.
    """
    frames = range(0, num_ahead, FRAME_STEP)
    if len(frames) <= num_frames:
        return frames
    return range(0, num_ahead, -(-num_ahead // num_frames))


def _stack_frames(samples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Pad to the frames of the longest sample; `frame_mask` (B, T) is True on a sample's own."""
    last = torch.tensor([[len(sample["rgb"]) - 1] for sample in samples])
    frames = torch.arange(int(last.max()) + 1)
    rows = frames.minimum(last)
    stacked = {
        key: torch.stack(
            [torch.as_tensor(s[key])[row] for s, row in zip(samples, rows, strict=True)]
        )
        for key in FRAME_KEYS
        if key in samples[0]
    }
    return {**stacked, "frame_mask": frames <= last}


def _check_frames(position: int, sample: dict[str, Any], first: dict[str, Any]) -> None:
    """Check that samples have the same kinds of frames, of one size, equally many of each."""
    shapes = {key: np.shape(sample[key]) for key in FRAME_KEYS if key in sample}
    wanted = {key: np.shape(first[key]) for key in FRAME_KEYS if key in first}
    if not {"rgb", "actions"} <= shapes.keys():
        raise ValueError(
            f"sample {position} of the batch has no rgb and actions; it has {sorted(sample)}."
            " Is its dataset a DualSystemDataset?"
        )
    if {key: s[1:] for key, s in shapes.items()} != {key: s[1:] for key, s in wanted.items()}:
        raise ValueError(
            f"sample {position} of the batch: found frames {shapes}, expected the kinds and sizes"
            f" of sample 0, {wanted}"
        )
    if len({shape[0] for shape in shapes.values()}) > 1:
        raise ValueError(f"sample {position} of the batch: numbers of frames differ: {shapes}")
