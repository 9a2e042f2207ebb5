"""The images of a `vln_pe` episode: arrays that are memory-mapped, or a file for each frame.

T frames. Arrays are never unpickled.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from internnav_hf.data.checks.depth import NUM_PROBES, known
from internnav_hf.data.checks.images import check_aspect, check_images
from internnav_hf.data.episode import FRAME_SUFFIX, chunk_name
from internnav_hf.data.readers.errors import broken
from internnav_hf.data.readers.images import open_array, open_depth
from internnav_hf.data.rows import ARRAY_SUFFIX

KINDS = ("rgb", "depth")
SUFFIXES = {"rgb": (FRAME_SUFFIX["rgb"], ".png"), "depth": (FRAME_SUFFIX["depth"],)}
DTYPES = {"rgb": (np.uint8,), "depth": (np.float32, np.float16, np.float64)}
DEPTH_UNIT_M = 10.0  # a depth array has metres / 10
LARGEST_VALUE = 1.001
MM_PER_M = 1000.0
FARTHEST_M = 100.0
ODD_SHARE = 0.01  # of the pixels may have any value
STRIDES = 16, 4  # of rows and columns of a frame, for checking the unit
SPLAT_MARKER = "3dgs"
SPLAT_DEPTH_UNIT_M = 100.0


@dataclass(frozen=True)
class FrameRules:
    """`depth_unit_m` is what 1 means in a depth array. Where `scan/scene` contains `splat_marker`,
    colours are stored as BGR and 1 means 100 m, as in the published scans of Gaussian splats;
    None: nowhere.
    """

    depth_unit_m: float = DEPTH_UNIT_M
    splat_marker: str | None = SPLAT_MARKER

    def is_splat(self, unit: str) -> bool:
        """`unit` is scan/scene."""
        return self.splat_marker is not None and self.splat_marker in unit


class RecordedFrames:
    """Frames of one episode of `length` rows in the folder `unit`, below `root`."""

    def __init__(self, root: Path, unit: str, episode_index: int, length: int, rules: FrameRules):
        self.root = root
        self.unit = unit
        self.episode_index = episode_index
        self.length = length
        self.is_splat = rules.is_splat(unit)
        self.depth_unit_m = SPLAT_DEPTH_UNIT_M if self.is_splat else rules.depth_unit_m
        self._files: dict[str, list[Path]] = {}

    def check(self) -> tuple[int, int]:
        """Check that every frame exists, in arrays or images of the right form and of one size;
        return (width, height) of the colours.
        """
        sizes = [self._size(kind) for kind in KINDS]
        check_aspect(self.files("depth")[0], sizes[1], sizes[0])
        return sizes[0]

    def _size(self, kind: str) -> tuple[int, int]:
        array = self._array(kind)
        if array is None:
            return check_images(self.files(kind), kind)
        rows, columns = array.shape[1:3]
        return columns, rows

    def check_depth_unit(self) -> np.ndarray | None:
        """Check that an array can be in the expected unit; return (N,) metres of some pixels of
        some frames, None if frames are images.
        """
        array, path = self._array("depth"), self.files("depth")[0]
        if array is None:
            return None
        some = np.unique(np.linspace(0, self.length - 1, NUM_PROBES).astype(int))
        rows, columns = STRIDES
        values = known(np.asarray(array[some, ::rows, ::columns], np.float32))
        if not len(values):
            raise broken(path, "depth", "nothing but 0 or no number in the frames tried", "depth")
        highest = float(values.max())
        if highest > LARGEST_VALUE:
            highest = float(np.quantile(values, 1 - ODD_SHARE))
        if self.depth_unit_m == DEPTH_UNIT_M and highest > LARGEST_VALUE:
            expected = f"metres / {DEPTH_UNIT_M:g}, from 0 to 1"
            if highest <= FARTHEST_M:
                expected += " (depth_unit_m=1 if all of the folder are metres)"
            raise broken(path, "depth", f"numbers up to {highest:.3g}", expected)
        return values * np.float32(self.depth_unit_m)

    def depth_image(self, frame: int) -> np.ndarray:
        """Return (rows, columns) metres of one frame; values that are not finite are unknown."""
        array = self._array("depth")
        if array is None:
            return open_depth(self.files("depth")[frame])
        image = np.asarray(array[frame], np.float32).reshape(array.shape[1:3])
        return image * np.float32(self.depth_unit_m)

    @property
    def units_per_m(self) -> float:
        """Return the units per metre of depth, in an array or in images."""
        return MM_PER_M if self._array("depth") is None else 1 / self.depth_unit_m

    def files(self, kind: str) -> list[Path]:
        """Return the array of one kind of frames, or the files of all; the first exists."""
        if kind not in self._files:
            self._files[kind] = self._find(kind)
        return self._files[kind]

    def _find(self, kind: str) -> list[Path]:
        videos = self.root / self.unit / "videos" / chunk_name(self.episode_index)
        folder, stem = videos / f"observation.images.{kind}", f"episode_{self.episode_index:06d}"
        for name in (stem, kind):
            if (path := folder / f"{name}{ARRAY_SUFFIX}").is_file():
                return [path]
        for suffix in SUFFIXES[kind]:
            if (folder / f"{stem}_0{suffix}").is_file():
                return [folder / f"{stem}_{frame}{suffix}" for frame in range(self.length)]
        expected = f"{stem}.npy, {kind}.npy or {stem}_0{SUFFIXES[kind][0]}"
        raise broken(folder, kind, "no frames", expected)

    def _array(self, kind: str) -> np.ndarray | None:
        """Map the array of one kind of frames; None if they are images."""
        path = self.files(kind)[0]
        if path.suffix != ARRAY_SUFFIX:
            return None
        array = open_array(path)
        colours = (3,) if kind == "rgb" else ()
        shape = array.shape[:3] if kind == "depth" and array.shape[3:] == (1,) else array.shape
        fits = len(shape) == 3 + len(colours) and shape[3:] == colours and 0 not in shape
        if not fits or shape[0] != self.length or array.dtype not in DTYPES[kind]:
            axes = ", ".join([str(self.length), "rows", "columns", *map(str, colours)])
            expected = f"{np.dtype(DTYPES[kind][0])} of shape ({axes})"
            raise broken(path, kind, f"{array.dtype} of shape {array.shape}", expected)
        return array
