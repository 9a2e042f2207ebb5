"""How the package handles damaged data: a small set of each format, with one change, goes through
all that users do with data.

    python -m benchmarks.fuzz_data --out docs/benchmarks/data_faults.md
    python -m benchmarks.fuzz_data --only vln_pe --words "rgb: a pipe"

Each case runs in its own process with limited memory and time: `check_dataset.py` with and without
`--verify-images`, the data set in strict mode and with broken episodes allowed, every item, a
batch. Expected: an error that names the file, or the episode left out by name, with all items of
the other episodes unchanged; harmless changes have no effect.
"""

import contextlib
import hashlib
import io
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.mutations import Mutation, all_mutations
from internnav_hf.command_line import LineParser
from internnav_hf.data import NavDPCollator, NavDPDataset, System2Dataset, VLNCollator, VLNDataset
from internnav_hf.data.readers.images import open_depth, open_image
from internnav_hf.data.rows import frame_file
from internnav_hf.data.tables import row_of
from internnav_hf.models.system2.dialogue import AnswerKind
from internnav_hf.models.vln.processor import VLNProcessor, word_tokenizer
from scripts import check_dataset

MEMORY_BYTES, SECONDS = 6 * 2**30, 60  # of address space; torch alone takes three
NAME = "r2r_125cm_0_30"
WORDS = ["go", "walk", "past", "the", "turn", "left", "right", "stop", "at", "chair", "table"]
SIZES = ["--scenes", "2", "--episodes", "3", "--seed", "0", "--workers", "1"]
SIZES += ["--width", "64", "--height", "48", "--num-rooms", "1", "1"]
VERDICTS = ("named", "passed", "SILENT", "CRASHED", "LOST", "REFUSED")
MEANINGS = {
    "named": "an error or a warning names it, and every other item is as before",
    "passed": "harmless, and nothing changed",
    "SILENT": "harmful, and accepted",
    "CRASHED": "an error that is no ValueError, or names no file; too much memory or time",
    "LOST": "items of untouched episodes are gone or changed",
    "REFUSED": "harmless, and refused",
}


def main() -> None:
    """Run all cases and write the table."""
    parser = LineParser(__doc__)
    parser.add_argument("--out", type=Path, help="markdown file to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="run the cases of one format only")
    parser.add_argument("--words", default="", help="run cases with these words in their name only")
    options = parser.parse_args()
    cases = [case for case in all_mutations(options.seed) if options.words in case.name]
    cases = [case for case in cases if options.only in (None, case.kind)]
    torch.set_num_threads(1)
    began, found = time.time(), []
    with tempfile.TemporaryDirectory() as folder:
        sets = {kind: DamagedSet(kind, Path(folder)) for kind in {case.kind for case in cases}}
        for case in cases:
            verdict, message = sets[case.kind].judge(case)
            found.append((case, verdict, message))
            if verdict.isupper() or options.words:
                print(f"{case.kind} | {case.name}: {verdict}: {message}", flush=True)
    counts = Counter(verdict for _, verdict, _ in found)
    print(f"{len(found)} cases in {time.time() - began:.0f} s: {dict(counts)}")
    if options.out:
        options.out.write_text(table(found, options.seed), encoding="utf-8")


class DamagedSet:
    """A set of one format, of which copies are damaged."""

    def __init__(self, kind: str, folder: Path):
        self.kind, self.place = kind, folder / kind
        self.whole = folder / f"{kind}-whole"
        words = ["scripts/make_dataset.py", "--format", kind, "--out", str(self.whole), *SIZES]
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        for path in self.whole.glob("*val_unseen"):
            shutil.rmtree(path)
        self.scenes = sorted(path.parent for path in self.whole.rglob("data") if path.is_dir())
        self.items, errors = items_of(kind, self.whole, folder / f"{kind}-cache", 0.0)
        assert not errors, errors

    def judge(self, case: Mutation) -> tuple[str, str]:
        """The verdict, and the message behind it."""
        shutil.rmtree(self.place, ignore_errors=True)
        root = self.place / self.whole.name
        shutil.copytree(self.whole, root, symlinks=True)
        case.damage(root / self.scenes[0].relative_to(self.whole))
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            self._in_child(case, root, writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            answer = stream.read().decode("utf-8", "replace")
        _, status = os.waitpid(child, 0)
        if not answer:
            return "CRASHED", f"the process ended with {os.waitstatus_to_exitcode(status)}"
        verdict, _, message = answer.partition("\n")
        return verdict, message

    def _in_child(self, case: Mutation, root: Path, writer: int) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        signal.alarm(SECONDS)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # progress bars
        try:
            verdict = self._verdict(case, root)
        except BaseException as error:  # noqa: BLE001  (whatever it is, it is the result)
            verdict = "CRASHED", f"{type(error).__name__}: {error}"
        message = " ".join(verdict[1].replace(str(root), "...").split())[:300]
        os.write(writer, f"{verdict[0]}\n{message}".encode("utf-8", "backslashreplace"))
        os._exit(0)

    def _verdict(self, case: Mutation, root: Path) -> tuple[str, str]:
        checks = [checked(root, *options) for options in ((), ("--verify-images",))]
        cache = root.parent / "cache"
        strict = attempted(lambda: items_of(self.kind, root, cache, 0.0))
        lenient = attempted(lambda: items_of(self.kind, root, cache, 0.9))
        texts = (strict.message, lenient.message, *(text for _, text in checks))
        messages = [text for text in texts if text]
        unnamed = [text for text in messages if not names_a_place(text, root)]
        if unnamed:
            return "CRASHED", unnamed[0]
        if case.harmless:
            there = strict.items is not None and strict.items.keys() == self.items.keys()
            is_same = there and not self._changed(case, strict.items, case.touched)
            if not is_same or any(code for code, _ in checks):
                return "REFUSED", (messages or ["items differ"])[0]
            return "passed", ""
        if lenient.items is None:
            return "LOST", f"all are refused: {lenient.message}"
        if lenient.items is not None:
            lost = self._changed(case, lenient.items, case.touched)
            if lost:
                return "LOST", f"{len(lost)} of {len(self.items)} episodes, first {lost[0]}"
        if not lenient.message and strict.items is not None:
            return "SILENT", "the data set opens and nothing is said"
        if not any(code for code, _ in checks):
            return "SILENT", f"check_dataset.py finds nothing; training reports: {messages[0]}"
        return "named", messages[0]

    def _changed(self, case: Mutation, items: dict, touched: tuple[int, ...]) -> list:
        """Changed episodes, without those of the first scene that may change."""
        scene = str(self.scenes[0].relative_to(self.whole))
        mine = {(scene, number) for number in touched}
        return [key for key in self.items if key not in mine and items.get(key) != self.items[key]]


def attempted(open_items) -> SimpleNamespace:
    """`items`, or None; `message` has the warnings, or the error."""
    records: list[logging.LogRecord] = []
    handler = SimpleNamespace(level=0, handle=records.append)
    logger = logging.getLogger("internnav_hf")
    logger.handlers = [handler]
    try:
        items, errors = open_items()
        warned = [record.getMessage() for record in records if record.levelno >= logging.WARNING]
        return SimpleNamespace(items=items, message="\n".join([*warned, *errors]))
    except ValueError as error:
        return SimpleNamespace(items=None, message=str(error))


def checked(root: Path, *options: str) -> tuple[int, str]:
    """Exit code of `check_dataset.py`, and the first complaint."""
    out = io.StringIO()
    words = ["check_dataset", str(root), *options]
    with patch.object(sys, "argv", words), contextlib.redirect_stdout(out):
        try:
            code = check_dataset.main()
        except SystemExit as error:
            code = 1
            out.write(f"broken: {error}")
    lines = [line for line in out.getvalue().splitlines() if "broken: " in line]
    return code, (lines or out.getvalue().splitlines() or [""])[0] if code else ""


def names_a_place(text: str, root: Path) -> bool:
    """True if an error names a scene or a path."""
    return any(scene in text for scene in ("scene_", str(root), "sc\\udce9ne"))


def items_of(kind: str, root: Path, cache: Path, fraction: float) -> tuple[dict, list[str]]:
    """A digest of all items by (scene, episode), and errors that name what cannot be read."""
    items, errors = READERS[kind](root, {"cache_dir": cache, "max_broken_fraction": fraction})
    digests = {}
    for key, values in items.items():
        try:
            digests[key] = [value() for value in values]
        except ValueError as error:
            errors.append(str(error))
    return digests, errors


def digest_of(*values: object) -> str:
    """A hash of arrays, images, and the `repr` of other values."""
    content = hashlib.sha256()
    for value in values:
        is_array = hasattr(value, "shape") or hasattr(value, "tobytes")
        content.update(np.asarray(value).tobytes() if is_array else repr(value).encode())
    return content.hexdigest()


def system2_items(root: Path, options: dict) -> tuple[dict, list[str]]:
    """Some decisions, which do not depend on a sample's index, and every image."""
    dataset, items = System2Dataset(root, NAME, needs_depth=True, **options), defaultdict(list)
    rows = dataset.episodes.to_pylist()
    for row in rows:
        scene = root / "r2r" / row["scene"]

        def pictures(row=row, scene=scene):
            folders = sorted(scene.glob("videos/chunk-000/observation.images.[rd]*"))
            names = [f"episode_{row['episode_index']:06d}_{f}" for f in range(row["length"])]
            rgb = [open_image(f / f"{n}.jpg") for f in folders if ".rgb." in f.name for n in names]
            depth = [f / f"{n}.png" for f in folders if ".depth." in f.name for n in names]
            return digest_of(row, *rgb, *map(open_depth, depth))

        items[f"r2r/{row['scene']}", row["episode_index"]].append(pictures)
    for index, sample in enumerate(dataset.samples.to_pylist()):
        row = rows[sample["episode"]]
        if sample["frame_index"] % 8 or sample["answer_class"] == AnswerKind.STOP:
            continue

        def decision(index=index):
            found = dataset.decision(index)
            dataset[index]
            images = [*found.pop("history"), found.pop("image"), found.pop("look_down")]
            return digest_of(found, *images)

        items[f"r2r/{row['scene']}", row["episode_index"]].append(decision)
    return items, []


def navdp_items(root: Path, options: dict) -> tuple[dict, list[str]]:
    """Rows, poses and images, as random draws depend on a sample's index."""
    dataset = NavDPDataset(root, samples_per_episode=1, image_size=28, **options)
    items, errors = defaultdict(list), []
    for episode in range(dataset.episodes.num_rows):
        row = row_of(dataset.episodes, episode)
        unit = root / row["unit"]

        def walk(episode=episode, row=row, unit=unit):
            NavDPCollator()([dataset[episode]])
            files = [[unit / frame_file(row[k], n) for n in row["frames"]] for k in FILES]
            images = [*map(open_image, files[0]), *map(open_depth, files[1])]
            return digest_of(row, *images)

        items[row["unit"], row["episode_index"]].append(walk)
    return items, errors


def walk_items(root: Path, options: dict) -> tuple[dict, list[str]]:
    """Samples of Seq2Seq and CMA."""
    processor = VLNProcessor(word_tokenizer(WORDS), image_size=16, depth_size=16)
    dataset = VLNDataset(root, processor, **options)
    items, errors = defaultdict(list), []
    rows = dataset.episodes.select(["unit", "episode_index"]).to_pylist()
    for index in range(len(dataset)):
        row = rows[dataset._sample_episode[index]]

        def sample(index=index):
            item = dataset[index]
            VLNCollator()([item])
            return digest_of(dataset.text(index), *(item[key] for key in sorted(item)))

        items[row["unit"], row["episode_index"]].append(sample)
    return items, errors


FILES = ("rgb_file", "depth_file")
READERS = {"vln_ce": system2_items, "vln_n1": navdp_items, "vln_pe": walk_items}


def table(found: list[tuple[Mutation, str, str]], seed: int) -> str:
    """Write the counts, then every case."""
    counts = Counter((case.kind, verdict) for case, verdict, _ in found)
    kinds = sorted({case.kind for case, _, _ in found})
    lines = [
        "# What is made of damaged data",
        "",
        f"{len(found)} sets, one thing damaged in each, by `python -m benchmarks.fuzz_data --seed"
        f" {seed} --out docs/benchmarks/data_faults.md`. Capitals are faults.",
        "",
        f"| verdict | {' | '.join(kinds)} | what it means |",
        f"|---|{'---|' * len(kinds)}---|",
    ]
    for verdict in VERDICTS:
        numbers = " | ".join(str(counts[kind, verdict]) for kind in kinds)
        lines.append(f"| {verdict} | {numbers} | {MEANINGS[verdict]} |")
    lines += ["", "| format | what is damaged | verdict | in what words |", "|---|---|---|---|"]
    for case, verdict, message in found:
        name, words = _in_a_cell(case.name), _in_a_cell(message[:160])
        lines.append(f"| {case.kind} | `{name}` | {verdict} | {f'`{words}`' if words else ''} |")
    return "\n".join(lines) + "\n"


def _in_a_cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'")


if __name__ == "__main__":
    main()
