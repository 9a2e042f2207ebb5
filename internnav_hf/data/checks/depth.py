"""Checks that depth is in the expected unit.

A camera of known height and pitch sees the floor at known distances, in the lower part of its view:
h / (sin p + y cos p) for the ray at y = (v - cy) / fy. If much of a scene's depth lies at one
multiple of that, the unit is known. Also, and if no camera is known, medians must be those of rooms
or streets. Values that are not finite, or 0, are unknown and not counted. An episode is judged
alone if it is off by more than stairs and tables are; all of a scene together, by less.

Decoding an image takes as long as everything else that is read of an episode. So images of three
episodes are decoded first, in a large scene one for every sixteen episodes, five at most. Only if
one of them does not clearly show the floor where it must be, more images of more episodes are
decoded and judged.

A unit set by an option is checked too: a wrong one cannot hide errors of the data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

import numpy as np

from internnav_hf.data.readers.errors import Key, broken, problems_of

NUM_PROBES = 5  # images of a scene that is in doubt
FEW_WALKS = 3  # minimum number of episodes to look at
WALKS_A_PROBE = 16  # one image for so many episodes, while images are clear
MEDIAN_M = (0.2, 20.0)
BOTTOM_M = 8.0  # floor before the feet, if no camera is known
BOTTOM_PART = 0.1  # share of the rows
FARTHEST_FLOOR_M = 8.0  # beyond it a degree of pitch is metres
LIES_TOGETHER = 0.1  # tolerance of the logarithm of depth / floor
FLOOR_SHARE = 0.25  # share of known pixels where floor may be
RIGHT_SHARE = 0.1  # at the right distance: enough to be content
RATIO = (0.4, 2.5)
RATIO_ALONE = (0.15, 7.0)  # of a single episode, which may look down a stair, or at a table
MEDIAN_ALONE_M = (0.03, 200.0)
FEWEST_PIXELS = 100
ENOUGH_PIXELS = 2000  # of all images, thinned; with fewer known ones all pixels are looked at
FEWEST_ROWS = 100  # and columns used of an image; smaller images are used whole
SCALES = (1, 100, 256, 1000, 4000, 5000, 10_000, 65_535)
"""Known units per metre of depth images."""
NEAR_M = 1.2  # a recording whose farthest pixel is nearer shows no path
FARTHER_SHARE = 0.005  # of the pixels; they may be mistakes


@dataclass(frozen=True)
class FloorView:
    """`slope` (fy / rows) and `middle` (cy / rows) in rows of the image, whatever its size."""

    height_m: float
    pitch: float
    slope: float
    middle: float

    def floor_m(self, num_rows: int) -> np.ndarray:
        """(rows,) depth of the floor along the optical axis; inf at and above the horizon."""
        v = (np.arange(num_rows) + 0.5) / num_rows
        down = np.sin(self.pitch) + (v - self.middle) / self.slope * np.cos(self.pitch)
        with np.errstate(divide="ignore"):
            return np.where(down > 1e-6, self.height_m / down, np.inf)


@dataclass(frozen=True, eq=False)
class Probe(Generic[Key]):
    """An image (rows, columns) of an episode (`walk`), its file, and camera, if known. Whole
    numbers have `units_per_m`, other numbers are metres.
    """

    walk: Key
    path: Path
    pixels: np.ndarray
    view: FloorView | None
    units_per_m: float = 1.0

    @property
    def image(self) -> np.ndarray:
        """Return metres."""
        return self._metres(self.pixels)

    @property
    def thinned(self) -> np.ndarray:
        """Return metres of some pixels; few of a large image are converted."""
        return self._metres(_thinned(self.pixels))

    def _metres(self, pixels: np.ndarray) -> np.ndarray:
        if pixels.dtype.kind == "f":
            return pixels
        return pixels.astype(np.float32) / np.float32(self.units_per_m)


def probed_frames(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Choose (episode, frame) of up to `NUM_PROBES`, spread over all; of few, several of each."""
    if len(lengths) <= NUM_PROBES:
        counts = [len(part) for part in np.array_split(np.arange(NUM_PROBES), len(lengths) or 1)]
        return [
            (walk, int(frame))
            for walk, (length, count) in enumerate(zip(lengths, counts, strict=False))
            for frame in np.unique(((np.arange(count) + 0.5) / count * length).astype(int))
        ]
    ends = np.cumsum(lengths)
    chosen = np.unique(np.linspace(0, ends[-1] - 1, NUM_PROBES).astype(int))
    walks = np.searchsorted(ends, chosen, side="right")
    return [(int(w), int(f - ends[w] + lengths[w])) for w, f in zip(walks, chosen, strict=True)]


def first_probed(places: Sequence[tuple[int, int]], num_walks: int) -> list[tuple[int, int]]:
    """Choose those of `probed_frames` to try first: at most one per episode, spread over all."""
    one_each = list(dict(reversed(places)).items())[::-1]
    number = min(max(FEW_WALKS, 1 + num_walks // WALKS_A_PROBE), len(one_each))
    return [one_each[(2 * n + 1) * len(one_each) // (2 * number)] for n in range(number)]


def depth_problems(
    walks: Sequence[Key],
    lengths: Sequence[int],
    views: Sequence[FloorView | None],
    read: Callable[[Key, int], tuple[Path, np.ndarray]],
    where: Path | str,
    units_per_m: float,
    median_m: tuple[float, float] = MEDIAN_M,
) -> dict[Key, str]:
    """Return problems of depth by episode: of those whose images cannot be read or have another
    unit than the others', or of all. `read` returns file and image of a frame, in metres or, if
    whole numbers, in units.
    """
    unread: dict[Key, str] = {}
    probes: list[Probe[Key]] = []

    def probe(places: Sequence[tuple[int, int]]) -> None:
        for number, frame in places:
            try:
                seen = read(walks[number], frame)
                probes.append(Probe(walks[number], *seen, views[number], units_per_m))
            except ValueError as error:
                unread.setdefault(walks[number], str(error))

    places = probed_frames(lengths)
    first = first_probed(places, len(walks))
    probe(first)
    if not unread and all(shows_its_floor(probe, median_m) for probe in probes):
        return {}
    probe([place for place in places if place not in first])
    alone = odd_walks(probes, units_per_m)
    rest = [probe for probe in probes if probe.walk not in alone] or probes
    try:
        if rest:
            check_depth(*_images_and_views(rest), where, units_per_m, median_m)
    except ValueError as error:
        return dict.fromkeys(walks, str(error)) | unread
    return alone | unread


def shows_its_floor(probe: Probe, median_m: tuple[float, float]) -> bool:
    """Return whether one image leaves no doubt: the share of pixels at the floor is one that would
    suffice to accept another unit, and the median is one of rooms.
    """
    if probe.view is None:
        return False
    image = probe.thinned
    pixels = known(image)
    logs = _logs_of_floor(image, probe.view)
    if min(len(logs), len(pixels)) < FEWEST_PIXELS or pixels.min() == pixels.max():
        return False
    low, high = _median_limits([probe.view], median_m)
    is_usual = low <= np.median(pixels) <= high
    return bool(is_usual and np.mean(np.abs(logs) < 2 * LIES_TOGETHER) >= FLOOR_SHARE)


def odd_walks(probes: Sequence[Probe[Key]], units_per_m: float) -> dict[Key, str]:
    """Return problems of episodes whose own images surely have another unit."""

    def check(walk: Key) -> None:
        mine = [probe for probe in probes if probe.walk == walk]
        check_depth(*_images_and_views(mine), mine[0].path, units_per_m, alone=True)

    return problems_of(dict.fromkeys(probe.walk for probe in probes), check)


def _images_and_views(
    probes: Sequence[Probe],
) -> tuple[list[np.ndarray], list[FloorView] | None]:
    views = [probe.view for probe in probes if probe.view is not None]
    return [probe.image for probe in probes], views if len(views) == len(probes) else None


def known(depth: np.ndarray) -> np.ndarray:
    """Return the known pixels (N,)."""
    return depth[np.isfinite(depth) & (depth > 0)]


def check_depth(
    images: Sequence[np.ndarray],
    views: Sequence[FloorView] | None,
    where: Path | str,
    units_per_m: float,
    median_m: tuple[float, float] = MEDIAN_M,
    alone: bool = False,
) -> None:
    """Raise ValueError if images (rows, columns), in metres if their files have `units_per_m`,
    cannot be so; `views` has the camera of each. Images of one episode `alone` have wide limits.
    """
    thin, together = _seen(images)
    number = f"{len(images)} images" if len(images) > 1 else "an image"
    what = f"{number}, read with {units_per_m:g} units a metre"
    if not len(together):
        if alone:
            return
        raise broken(where, "depth", f"nothing but 0 or no number in {what}", "depth")
    if not alone and len(images) > 1 and together.min() == together.max():
        raise broken(where, "depth", f"{together[0]:.4g} m everywhere in {what}", "depth")
    times = floor_multiple(thin, views, RATIO_ALONE if alone else RATIO) if views else None
    if views and times:
        found = f"the floor {times:.3g} times as far away as it is, in {what}"
        raise broken(where, "depth", found, _another(views[0], units_per_m * times))
    limits_m = MEDIAN_ALONE_M if alone else _median_limits(views, median_m)
    _check_median(together, limits_m, where, what)
    if views is None and not alone:
        _check_bottom(thin, where, what)


def _median_limits(
    views: Sequence[FloorView] | None, median_m: tuple[float, float]
) -> tuple[float, float]:
    """Return limits of the median, lower if a camera looks at floor nearer than a metre."""
    nearest = (view.height_m / max(np.sin(view.pitch), 1e-6) for view in views or ())
    return median_m[0] * min([1.0, *nearest]), median_m[1]


def _seen(images: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Return images, thinned if that leaves enough, and their known pixels (N,)."""
    thin = [_thinned(image) for image in images]
    together = np.concatenate([known(image) for image in thin])
    if len(together) >= ENOUGH_PIXELS and together.min() < together.max():
        return thin, together
    return list(images), np.concatenate([known(image) for image in images])


def _thinned(image: np.ndarray) -> np.ndarray:
    """Some 100 rows and columns, or more: as many pixels as a share of them takes to be known."""
    rows, columns = (max(1, size // FEWEST_ROWS) for size in image.shape)
    return image[rows // 2 :: rows, columns // 2 :: columns]


def _another(view: FloorView, units_per_m: float) -> str:
    off, close = min((abs(np.log(units_per_m / scale)), scale) for scale in SCALES)
    unit = f"{close} units a metre" if off < 2 * LIES_TOGETHER else "another unit"
    pitch_deg = np.degrees(view.pitch)
    return f"{unit}, or another camera than one {view.height_m:.3g} m high, {pitch_deg:.0f}° down"


def _check_median(
    together: np.ndarray, limits_m: tuple[float, float], where: Path | str, what: str
) -> None:
    median = float(np.median(together))
    low, high = limits_m
    if not low <= median <= high:
        found = f"a median of {median:.3g} m in {what}"
        raise broken(where, "depth", found, f"{low:.2g} to {high:g} m: is it in another unit?")


def _check_bottom(images: Sequence[np.ndarray], where: Path | str, what: str) -> None:
    """Check the distance of the floor before the feet."""
    rows = [image[-max(1, int(BOTTOM_PART * len(image))) :] for image in images]
    before = np.concatenate([known(part) for part in rows])
    if len(before) and np.median(before) > BOTTOM_M:
        found = f"a median of {np.median(before):.3g} m at the lower edge of {what}"
        expected = f"floor nearer than {BOTTOM_M:g} m: is it in another unit?"
        raise broken(where, "depth", found, expected)


def floor_multiple(
    images: Sequence[np.ndarray],
    views: Sequence[FloorView],
    ratio: tuple[float, float] = RATIO,
) -> float | None:
    """Return how many times too far the floor is; None if it is inside of `ratio`, or not
    seen.
    """
    logs = np.concatenate([_logs_of_floor(*seen) for seen in zip(images, views, strict=True)])
    if len(logs) < FEWEST_PIXELS or np.mean(np.abs(logs) < 2 * LIES_TOGETHER) >= RIGHT_SHARE:
        return None
    low = logs.min()
    counts = np.bincount(((logs - low) / LIES_TOGETHER).astype(int), minlength=2)
    pairs = counts[:-1] + counts[1:]
    most = int(pairs.argmax())
    times = float(np.exp(low + (most + 1) * LIES_TOGETHER))
    is_floor = pairs[most] >= FLOOR_SHARE * len(logs)
    return times if is_floor and not ratio[0] <= times <= ratio[1] else None


def _logs_of_floor(image: np.ndarray, view: FloorView) -> np.ndarray:
    """Return (N,) logarithms of depth / floor, of known pixels where floor may be."""
    floor_m = view.floor_m(len(image))
    rows = floor_m <= FARTHEST_FLOOR_M
    return np.log(known(image[rows] / floor_m[rows, None]))


def check_farthest(metres: np.ndarray, where: Path | str, unit_m: float) -> None:
    """Check pixels (N,) of many frames, in units of `unit_m`: something is farther than an arm's
    length.
    """
    # the quantile, which takes ten times as long, is then no less
    if np.count_nonzero(metres >= NEAR_M) > 1 + 2 * FARTHER_SHARE * len(metres):
        return
    farthest = float(np.quantile(metres, 1 - FARTHER_SHARE))
    if farthest < NEAR_M:
        found = f"nothing farther than {farthest:.3g} m, read with {unit_m:g} m for 1"
        raise broken(where, "depth", found, "what is seen on a way: another unit is meant")
