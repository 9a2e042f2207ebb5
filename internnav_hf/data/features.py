"""Features of frozen encoders for each episode, computed once and kept on disk.

    FOLDER/5c0f61d2e1f0a7b3-float16/encoder.json              whose features these are
    FOLDER/5c0f61d2e1f0a7b3-float16/1f/1fc09a...safetensors   rgb_features, depth_features (T, ...)

The folder is named after the encoders' weights and settings, the file after the episode's frame
files (their places, times and some bytes): other weights, another image size or changed frames
never find old features. Files appear whole, so that a killed run goes on where it was, and several
processes may fill one folder.

Differs from the published LMDB cache: one file per episode, read only as far as it is used, and
shared by all instructions of an episode. Legend: T frames of an episode.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from huggingface_hub.constants import HF_HOME
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from internnav_hf.data.readers.errors import broken
from internnav_hf.files import remove_stale, write_atomic
from internnav_hf.signals import quiet_worker

logger = logging.getLogger(__name__)

DEFAULT_CACHE = Path(HF_HOME) / "internnav_hf" / "features"
KINDS = ("rgb", "depth")
DTYPES = ("float16", "float32")
_ENCODER_FILE = "encoder.json"
_KEY_FILES, _KEY_BYTES = 4, 4096  # files read for a key, and bytes of each
_DIGEST_CHARACTERS = 16  # in a folder's name; the whole digest is compared

Encoder = Callable[[Tensor], Tensor]
"""Encoder of frames (F, ...) to features (F, ...)."""


class FrameSource(Protocol):
    """Episodes with frames to encode; `VLNDataset` is one. Episodes are counted from 0."""

    @property
    def feature_keys(self) -> Sequence[str]:
        """`frames_key` of each episode."""
        ...

    def read_frames(self, episode: int) -> Mapping[str, np.ndarray]:
        """All frames as the model takes them: rgb (T, 3, S, S) uint8, depth (T, D, D) float32 m."""
        ...


class FeatureStore:
    """Features in `folder` of the encoders with this digest, by the key of an episode."""

    def __init__(self, folder: str | Path, encoder_digest: str, dtype: str = "float16") -> None:
        self.folder, self.encoder_digest, self.dtype = Path(folder), encoder_digest, dtype
        if dtype not in DTYPES:
            raise ValueError(f"A feature store's dtype is one of {', '.join(DTYPES)}: {dtype!r}.")
        ours = {"encoder_digest": encoder_digest, "dtype": dtype}
        path = self.folder / _ENCODER_FILE
        if not path.exists():
            write_atomic(path, lambda part: part.write_text(json.dumps(ours, indent=2) + "\n"))
        theirs = json.loads(path.read_text())
        for name, value in ours.items():
            if theirs.get(name) != value:
                raise broken(path, name, theirs.get(name), f"{value}, of the encoders in use")

    @classmethod
    def below(
        cls, folder: str | Path, encoder_digest: str, dtype: str = "float16"
    ) -> "FeatureStore":
        """Return the store of these encoders below a folder that also has those of others."""
        name = f"{encoder_digest[:_DIGEST_CHARACTERS]}-{dtype}"
        return cls(Path(folder) / name, encoder_digest, dtype)

    def path(self, key: str) -> Path:
        """Return the path of an episode's file."""
        return self.folder / key[:2] / f"{key}.safetensors"

    def __contains__(self, key: str) -> bool:
        return self.path(key).is_file()

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Return the keys without features, each once."""
        return [key for key in dict.fromkeys(keys) if key not in self]

    def read(self, key: str, num_frames: int | None = None) -> dict[str, np.ndarray]:
        """`rgb_features` and `depth_features` (T, ...) of the first frames, in the store's dtype.

        ValueError if the file is missing, broken, of another encoder or too short.
        """
        path = self.path(key)
        if not path.is_file():
            raise broken(path, "features", "no file", "an episode that cache_features has encoded")
        try:
            with safe_open(path, "np") as file:
                digest = (file.metadata() or {}).get("encoder_digest")
                if digest != self.encoder_digest:
                    expected = f"{self.encoder_digest}, of the encoders in use"
                    raise broken(path, "encoder_digest", digest, expected)
                names = file.keys()
                return {name: _first(file.get_slice(name), num_frames, path) for name in names}
        except SafetensorError as error:
            raise broken(path, "features", error, "a whole safetensors file") from error

    def write(self, key: str, features: Mapping[str, np.ndarray]) -> None:
        """Write a file atomically. ValueError if the dtype cannot hold a number."""
        path, arrays = self.path(key), {}
        for name, values in features.items():
            with np.errstate(over="ignore"):
                arrays[name] = np.ascontiguousarray(values, dtype=self.dtype)
            if not np.isfinite(arrays[name]).all():
                largest = f"values up to {np.abs(values).max():g}"
                raise broken(path, name, largest, f"finite ones within {self.dtype}'s range")
        metadata = {"encoder_digest": self.encoder_digest}
        write_atomic(path, lambda part: save_file(arrays, part, metadata=metadata))


def cache_features(
    source: FrameSource,
    store: FeatureStore,
    encode_rgb: Encoder,
    encode_depth: Encoder,
    batch_size: int = 64,
    device: str | torch.device = "cpu",
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
) -> int:
    """Encode the episodes that `store` lacks; returns their number.

    Process `rank` of `world_size` takes its share; all are there when all processes are done.
    `batch_size` counts frames.
    """
    encoders = dict(zip(KINDS, (encode_rgb, encode_depth), strict=True))
    row_of_key = {key: row for row, key in enumerate(source.feature_keys)}
    keys = store.missing(sorted(row_of_key)[rank::world_size])
    if rank == 0:
        for folder in store.folder.glob("[0-9a-f][0-9a-f]"):
            remove_stale(folder)
    frames = _Frames(source, [row_of_key[key] for key in keys])
    # An episode's frames are large: each process reads one ahead.
    ahead = 1 if num_workers else None
    loader = DataLoader(
        frames,
        None,
        num_workers=num_workers,
        prefetch_factor=ahead,
        worker_init_fn=quiet_worker,
    )
    progress = tqdm(total=len(keys), unit="episode", desc="features", disable=rank > 0 or not keys)
    for key, views in zip(keys, loader, strict=True):
        features = {
            f"{kind}_features": _encode(encode, views[kind], batch_size, device)
            for kind, encode in encoders.items()
        }
        if key not in store:  # another run may have been faster
            store.write(key, features)
        progress.update()
    progress.close()
    if keys:
        logger.info("%s: features of %d episodes added", store.folder, len(keys))
    return len(keys)


class _Frames(Dataset):
    """Frames of some episodes, for processes that read ahead of the encoders."""

    def __init__(self, source: FrameSource, rows: Sequence[int]) -> None:
        self._source, self._rows = source, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        views = self._source.read_frames(self._rows[index])
        return {kind: torch.from_numpy(np.ascontiguousarray(views[kind])) for kind in KINDS}


@torch.inference_mode()
def _encode(
    encode: Encoder, frames: Tensor, batch_size: int, device: str | torch.device
) -> np.ndarray:
    parts = [encode(part.to(device)).float().cpu() for part in frames.split(batch_size)]
    return torch.cat(parts).numpy()


def encoder_digest(weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> str:
    """Return a hexadecimal digest of the encoders' names, shapes, types and numbers, and of the
    preprocessing of frames (JSON values: sizes, mean, deviation, resize, mode of batch norm ...).
    """
    content = hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode())
    for name in sorted(weights):
        values = weights[name].detach().cpu().contiguous()
        content.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        content.update(values.reshape(-1).view(torch.uint8).numpy())
    return content.hexdigest()


def frames_key(files: Iterable[Path], root: Path) -> str:
    """Return a key of an episode's frame files: paths below `root`, sizes, modification times, and
    bytes from the middle of some; in archives of two datasets the rest may be the same.
    """
    content, files = hashlib.sha256(), list(files)
    above = root.as_posix().rstrip("/") + "/"
    for file in files:
        stat = os.stat(file)
        place = file.as_posix().removeprefix(above)
        content.update(f"{place} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    for number in np.unique(np.linspace(0, len(files) - 1, _KEY_FILES).astype(int)):
        with files[number].open("rb") as file:
            file.seek(max(0, files[number].stat().st_size // 2 - _KEY_BYTES // 2))
            content.update(file.read(_KEY_BYTES))
    return content.hexdigest()[:32]


def _first(values: Any, num_frames: int | None, path: Path) -> np.ndarray:
    """Return the first frames of a tensor that is still in its file."""
    length = values.get_shape()[0]
    if num_frames is not None and num_frames > length:
        raise broken(path, "features", f"{length} frames", f"{num_frames} or more")
    return values[: length if num_frames is None else num_frames]
