"""Writes small sets of walks as StreamVLN records them."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (16, 12)  # columns, rows


def color_of(frame: int) -> tuple[int, int, int]:
    """All pixels of a frame; each channel has numbers of its own."""
    return (10 * frame, 100 + frame, 200)


def write_walk(folder: Path, name: str, length: int, padded: bool = False) -> dict:
    """Images of one walk, PNG so that colours are exact; returns its entry."""
    rgb = folder / "images" / name / "rgb"
    rgb.mkdir(parents=True)
    for frame in range(length):
        image = np.full((SIZE[1], SIZE[0], 3), color_of(frame), np.uint8)
        Image.fromarray(image).save(rgb / (f"{frame:03d}.png" if padded else f"{frame}.png"))
    actions = [-1, *([1, 2, 3] * length)][:length]
    instructions = [f"Walk through {name}. ", "Gehe zur Tür"]
    return {
        "id": int(name.split("_")[-1]),
        "video": f"images/{name}",
        "instructions": instructions,
        "actions": actions,
    }


def write_set(folder: Path, lengths=(12, 3, 4)) -> Path:
    """A set of walks in two scenes."""
    names = [f"{'abc' if i % 2 else 'xyz'}_r2r_{i:06d}" for i in range(len(lengths))]
    entries = [
        write_walk(folder, name, length) for name, length in zip(names, lengths, strict=True)
    ]
    write_annotations(folder, entries)
    return folder


def write_annotations(folder: Path, entries) -> None:
    (folder / "annotations.json").write_text(json.dumps(entries), encoding="utf-8")


def read_entries(folder: Path) -> list[dict]:
    return json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
