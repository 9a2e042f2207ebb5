"""Checks of a robot's observations and instructions, for every policy, before they are used.

Each function returns the input of the models, or raises one ValueError that names the place
(`where`: which policy, which robot), the key, what was found (kind, shape, numbers) and what to do;
no picture is printed. Nothing is changed, so that the corrected call gives the same answer as
without the error.

    colours     uint8 (H, W, 3), or a PIL image, rotated by its EXIF; palettes become RGB
    depth       metres (H, W), floats; 0, NaN and infinity where unknown
    pose        x, y in metres, yaw in radians
    text        words

Numbers are checked only in every few rows and columns, so that a check costs microseconds.

Legend: H, W height and width of a view.
"""

import difflib
import functools
import numbers
import reprlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from internnav_hf.data.readers.images import upright_rgb

Frame = Image.Image | np.ndarray
"""RGB; an array is (H, W, 3) uint8"""

LARGEST_MEDIAN_DEPTH_M = 100.0  # no walkable place has a deeper view; millimetres exceed it
LARGE_MEDIAN_DEPTH_M = 20.0  # only outdoors
LARGEST_NEGATIVE_SHARE = 0.01  # a resize may overshoot, a sensor may mark invalid pixels
LONGEST_INSTRUCTION = 20_000  # characters; R2R and RxR have a few hundred
LARGEST_STEP_M = 3.0  # from one view to the next
LIKE_ANOTHER_KEY = 0.75
SAMPLES_PER_SIDE = 64
NO_ACTION, NUM_ACTIONS = -1, 4
EXPECTED_COLOURS = "expected RGB, uint8 (H, W, 3) or a PIL image"


def checked_batch(where: str, kind: type, episodes: Sequence, **others: Sequence) -> None:
    """The episodes, checked: of `kind`, no duplicates, as many as there are of `others`."""
    check_lists(where, episodes=episodes, **others)
    lengths = {"episodes": len(episodes), **{name: len(other) for name, other in others.items()}}
    if len(set(lengths.values())) > 1:
        told = [f"{length} {name}" for name, length in lengths.items()]
        raise ValueError(f"{where}: {', '.join(told[:-1])} and {told[-1]} do not match.")
    for episode in episodes:
        if episode is None:
            raise ValueError(f"{where}: no episode has begun: call reset(instruction) first.")
        if not isinstance(episode, kind):
            raise ValueError(
                f"{where}: episode: found {described(episode)}, expected {kind.__name__}."
            )
    if len({id(episode) for episode in episodes}) < len(episodes):
        raise ValueError(f"{where}: found one episode twice, expected one for each robot.")


def check_lists(where: str, **given: Any) -> None:
    """Raise ValueError if one of `given` is neither a list nor an array of several."""
    for name, value in given.items():
        is_several = isinstance(value, Sequence | np.ndarray | torch.Tensor)
        if not is_several or isinstance(value, str | bytes):
            raise ValueError(
                f"{where}: {name}: found {described(value)}, expected a list, one for each robot."
            )


def check_parts(policy: str, model: Any, kinds: Collection[str], processor: Any) -> None:
    """Raise ValueError for a model whose `model_type` is not in `kinds`, or without processor."""
    found = getattr(getattr(model, "config", None), "model_type", None)
    if found not in kinds:
        found = repr(found) if found else described(model)
        raise ValueError(f"{policy}: model: found {found}, expected {' or '.join(kinds)}.")
    if processor is None:
        raise ValueError(f"{policy}: processor: found None, expected that of the model.")


def place_of(where: str, row: int, count: int) -> str:
    """Name of the robot whose observation it is, for messages."""
    return f"{where}: observation" + (f" {row + 1} of {count}" if count > 1 else "")


def checked_keys(
    observation: Any, where: str, needed: Collection[str], known: Collection[str]
) -> Mapping[str, Any]:
    """`value`, checked: a mapping with the `needed` keys, and none that resembles another of the
    `known` ones. Other keys are ignored.
    """
    if not isinstance(observation, Mapping):
        found = described(observation)
        raise ValueError(f"{where}: found {found}, expected a dict with {_listed(needed)}.")
    absent = [name for name in known if observation.get(name) is None]
    strangers = [key for key in observation if key not in known]
    for name in absent if strangers else ():
        like = [key for key in strangers if _is_like(str(key), name)]
        if like:
            raise ValueError(f"{where}: found no {name!r}, but {like[0]!r}: did you mean {name!r}?")
    missing = [name for name in needed if name in absent]
    if missing:
        keys = "it is None" if missing[0] in observation else f"it has {_listed(observation)}"
        raise ValueError(f"{where}: found no {missing[0]!r}; {keys}.")
    return observation


def checked_picture(value: Any, where: str) -> Frame:
    """Colours as an upright RGB image, or as a uint8 array (H, W, 3); a tensor becomes an array."""
    if isinstance(value, Image.Image):
        return _checked_image(value, where)
    value = _as_array(value)
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{where}: found {described(value)}, {EXPECTED_COLOURS}.")
    if value.dtype != np.uint8 or value.ndim != 3 or value.shape[-1] != 3 or not value.size:
        hint = _colour_hint(value)
        raise ValueError(f"{where}: found {described(value)}, {EXPECTED_COLOURS}{hint}.")
    return value


def picture_doubts(frame: Frame) -> Iterator[tuple[str, str]]:
    """Suspicious values of a checked array of colours: a kind, and a message."""
    if isinstance(frame, np.ndarray) and sampled(frame).max() <= 1:
        found = "found nothing brighter than 1 of 255"
        yield "dark", f"{found}: is the lens covered, or was 0 to 1 cast to uint8?"


def as_image(frame: Frame) -> Image.Image:
    """A checked picture as a PIL image."""
    return frame if isinstance(frame, Image.Image) else Image.fromarray(frame)


def size_of(frame: Frame) -> tuple[int, int]:
    """(width, height) of a checked picture."""
    return frame.size if isinstance(frame, Image.Image) else (frame.shape[1], frame.shape[0])


def checked_depth(
    value: Any, where: str, view: Frame | None = None, view_key: str = "rgb"
) -> np.ndarray:
    """Depth (H, W) in metres, of the aspect ratio of `view`; ValueError if its numbers show another
    unit. Non-finite and a few negative numbers count as unknown later on.
    """
    value, expected = _as_array(value), "expected metres, float32 (H, W)"
    if isinstance(value, Image.Image):
        value = _decoded(value, where, expected)
    if not isinstance(value, np.ndarray) or not value.size:
        raise ValueError(f"{where}: found {described(value)}, {expected}.")
    if value.ndim != 2:
        shape = "" if view is None else f" of {view_key!r}, {size_of(view)[::-1]}"
        hint = f": pass depth{_one(value.shape)}" if value.ndim == 3 and 1 in value.shape else ""
        raise ValueError(
            f"{where}: found {value.shape}, expected the shape{shape or ' (H, W)'}{hint}."
        )
    if value.dtype.kind != "f":
        hint = ": divide millimetres by 1000" if value.dtype.kind in "iu" else ""
        raise ValueError(f"{where}: found {described(value)}, {expected}{hint}.")
    if view is not None:
        columns, rows = size_of(view)
        if abs(value.shape[0] * columns / (value.shape[1] * rows) - 1) > 0.02:
            raise ValueError(
                f"{where}: found {value.shape}, expected the shape of {view_key!r}, "
                f"{(rows, columns)}, or as high for its width."
            )
    _check_metres(sampled(value), where)
    return value


def _check_metres(seen: np.ndarray, where: str) -> None:
    known = seen[np.isfinite(seen) & (seen != 0)]
    if not known.size:
        return
    negative = float((known < 0).sum()) / seen.size
    if negative > LARGEST_NEGATIVE_SHARE:
        raise ValueError(
            f"{where}: found {negative:.0%} negative numbers, down to {known.min():.3g}, expected "
            "metres ahead of the camera, 0 where unknown."
        )
    if np.median(known) > LARGEST_MEDIAN_DEPTH_M:
        raise ValueError(
            f"{where}: found a median of {np.median(known):.0f}, expected metres: divide "
            "millimetres by 1000."
        )


def depth_doubts(depth: np.ndarray) -> Iterator[tuple[str, str]]:
    """Suspicious but possible values of a checked depth: a kind, and a message."""
    seen = sampled(depth)
    known = seen[np.isfinite(seen) & (seen > 0)]
    if not known.size:
        found = "found no distance at all (0, NaN or infinity everywhere)"
        yield "empty", f"{found}: does the sensor work?"
    elif np.median(known) > LARGE_MEDIAN_DEPTH_M:
        found = f"found a median of {np.median(known):.0f}, expected metres"
        yield "far", f"{found}: is it an open place, or are these centimetres?"


def farthest_depth(depth: np.ndarray) -> float:
    """The largest known depth of a checked one, 0 if none is known."""
    seen = sampled(depth)
    return float(np.max(seen, where=np.isfinite(seen), initial=0.0))


def checked_pose(value: Any, where: str) -> np.ndarray:
    """(3,) x, y, yaw; float64."""
    return _checked_numbers(value, 3, where, "x, y, yaw: metres, metres, radians")


def pose_doubts(pose: np.ndarray, before: np.ndarray | None) -> Iterator[tuple[str, str]]:
    """Suspicious values of a checked pose that follows `before`: a kind, and a message."""
    if abs(pose[2]) > 2 * np.pi:
        yield "yaw", f"found a yaw of {pose[2]:.4g}, more than a turn: is it in radians?"
    moved = 0.0 if before is None else float(np.hypot(*(pose - before)[:2]))
    if moved > LARGEST_STEP_M:
        yield "step", f"found {moved:.4g} m since the last view: are x and y in metres?"


def checked_action(value: Any, where: str) -> int:
    """The robot's last action, a number of VLN-CE, or -1."""
    is_number = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_number or value not in range(NO_ACTION, NUM_ACTIONS):
        expected = f"expected {NO_ACTION} to {NUM_ACTIONS - 1}"
        shown = reprlib.repr(value) if is_number else described(value)
        raise ValueError(f"{where}: found {shown}, {expected}.")
    return int(value)


def checked_place(value: Any, where: str) -> tuple[float, float]:
    """Two finite numbers: metres of a point, or a pixel (u, v)."""
    first, second = _checked_numbers(value, 2, where, "two finite numbers").tolist()
    return first, second


def checked_instruction(text: Any, where: str) -> str:
    """Text that contains a word and is not longer than an instruction can be."""
    if not isinstance(text, str):
        raise ValueError(
            f"{where}: instruction: found {described(text)}, expected text: a str that says where "
            "to go."
        )
    if len(text) > LONGEST_INSTRUCTION:
        raise ValueError(
            f"{where}: instruction: found {len(text):,} characters, expected at most "
            f"{LONGEST_INSTRUCTION:,}."
        )
    if not any(character.isalnum() for character in text):
        raise ValueError(
            f"{where}: instruction: found {reprlib.repr(text)}, expected words: where to go."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = ascii(text[error.start])
        raise ValueError(f"{where}: instruction: found {found}, half a character.") from error
    return text


def described(value: Any) -> str:
    """A few words about `value` for messages: never the content of a picture."""
    if isinstance(value, Image.Image):
        return f"a PIL image of mode {value.mode}, {value.size[0]}x{value.size[1]}"
    value = _as_array(value)
    if isinstance(value, torch.Tensor):
        return f"a tensor on {value.device}, {value.layout} of {value.dtype}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}{_range_of(value)}"
    if isinstance(value, str | bytes | numbers.Number | None):
        return f"{type(value).__name__} {reprlib.repr(value)}" if value is not None else "None"
    return f"a {type(value).__name__}"


def sampled(array: np.ndarray) -> np.ndarray:
    """Some rows and columns of (H, W, ...)."""
    rows, columns = (max(1, side // SAMPLES_PER_SIDE) for side in array.shape[:2])
    return array[::rows, ::columns]


def _checked_image(image: Image.Image, where: str) -> Image.Image:
    if not all(image.size):
        raise ValueError(f"{where}: found {described(image)}, {EXPECTED_COLOURS}.")
    try:
        image.load()
        return upright_rgb(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{where}: found {described(image)} ({error}), {EXPECTED_COLOURS}."
        ) from error


def _colour_hint(value: np.ndarray) -> str:
    """Hint for a message: how to convert `value` to colours."""
    shape = value.shape
    if not value.size:
        return ""
    if value.ndim == 4:
        return ": pass one view, rgb[0]" if shape[0] == 1 else ": pass one view for each robot"
    if value.ndim == 2 or (value.ndim == 3 and shape[-1] == 1):
        return ": grey is not what the model knows"
    if value.ndim == 3 and shape[-1] == 4:
        return ": leave alpha out, rgb[..., :3]"
    if value.ndim == 3 and shape[0] in (1, 3, 4) and shape[-1] != 3:
        return ": channels last, rgb.transpose(1, 2, 0)"
    if value.dtype.kind == "f":
        seen = sampled(value)
        if not np.isfinite(seen).all():
            return ": not every number is one (NaN or infinity)"
        if seen.min() >= 0 and seen.max() <= 1:
            return ": pass (rgb * 255).round().astype('uint8')"
        if seen.min() >= 0 and seen.max() <= 255:
            return ": pass rgb.round().astype('uint8')"
    return ""


def _as_array(value: Any) -> Any:
    """A tensor of plain numbers, on any device, as an array; anything else is unchanged."""
    if not isinstance(value, torch.Tensor):
        return value
    try:
        tensor = value.detach().cpu()
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    except (TypeError, RuntimeError):  # sparse, on no device, or a dtype that NumPy lacks
        return value


def _decoded(image: Image.Image, where: str, expected: str) -> np.ndarray:
    try:
        return np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        found = f"{described(image)} ({error})"
        raise ValueError(f"{where}: found {found}, {expected}.") from error


def _checked_numbers(value: Any, count: int, where: str, expected: str) -> np.ndarray:
    """(count,) finite numbers."""
    value, found = _as_array(value), None
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes):
        found = _as_numbers(value)
    if found is None or found.shape != (count,) or not np.isfinite(found).all():
        shown = described(value) if found is None or found.size > 3 else reprlib.repr(tuple(value))
        raise ValueError(f"{where}: found {shown}, expected {expected}.")
    return found


def _as_numbers(value: Any) -> np.ndarray | None:
    """`value` as float64; None if it is not an array of real numbers."""
    try:
        return np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        return None


def _range_of(array: np.ndarray) -> str:
    """Range of a sample of the numbers in `array`."""
    if array.dtype.kind not in "fiu" or not array.size or array.dtype == np.uint8:
        return ""
    seen = sampled(array) if array.ndim > 1 else array.reshape(-1)[:SAMPLES_PER_SIDE]
    known = seen[np.isfinite(seen)]
    return f", {known.min():.4g} to {known.max():.4g}" if known.size else ", no finite number"


@functools.lru_cache(1024)
def _is_like(key: str, name: str) -> bool:
    ratio = difflib.SequenceMatcher(None, key.lower(), name).ratio()
    return ratio >= (LIKE_ANOTHER_KEY if len(name) > 4 else 0.6)


def _listed(names: Iterable[Any]) -> str:
    shown = [reprlib.repr(name) for name in names]
    return ", ".join(shown[:12]) + (", ..." if len(shown) > 12 else "") if shown else "no key"


def _one(shape: tuple[int, ...]) -> str:
    """The index that removes the axis of length 1."""
    return "[..., 0]" if shape[-1] == 1 else "[0]"
