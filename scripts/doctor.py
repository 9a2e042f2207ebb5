"""Check this machine for internnav_hf, and print a report to paste into a question.

    python scripts/doctor.py
    python scripts/doctor.py --skip-training > report.md

The report lists versions and the project's bounds, devices, extras, models, caches, disks,
environment variables, the load, and a training run of two steps. No secret is printed, and the home
directory appears as `~`. The exit code is 1 if anything essential fails; the line then explains
what to do. Packages are imported in separate processes, so a broken one is only a line.
"""

import argparse
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, NoReturn

PACKAGE = "internnav-hf"
OLDEST_PYTHON = (3, 10)
INSTALL = "pip install -e . in the project's folder"
IMPORT_NAMES = {"pillow": "PIL", "pyyaml": "yaml", "scikit-image": "skimage"}
EXTRAS = {
    "sim": "the simulator, make_dataset.py, evaluate.py and its report",
    "deepspeed": "ZeRO-2 and ZeRO-3",
    "lora": "--lora_rank",
    "vision": "torchvision's image backend",
    "flash": "--attn_implementation flash_attention_2",
}
SETTINGS = """
HF_HOME HF_HUB_CACHE HF_HUB_OFFLINE TRANSFORMERS_OFFLINE HF_ENDPOINT HF_TOKEN WANDB_API_KEY
OMP_NUM_THREADS GOMP_SPINCOUNT OMP_WAIT_POLICY MKL_NUM_THREADS TOKENIZERS_PARALLELISM
CUDA_VISIBLE_DEVICES CUDA_HOME PYTORCH_CUDA_ALLOC_CONF PYTORCH_ALLOC_CONF NCCL_DEBUG
NCCL_P2P_DISABLE NCCL_IB_DISABLE NCCL_SOCKET_IFNAME MASTER_ADDR WORLD_SIZE RANK LOCAL_RANK
SLURM_JOB_ID ACCELERATE_USE_DEEPSPEED PYTHONPATH LD_LIBRARY_PATH TMPDIR
http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY
"""
OF_A_LAUNCH = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
SECRET = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD)$")
LEAST_FREE_GB = 10  # on a disk
GIB = 1024**3
PYTHON = [sys.executable, "-W", "ignore", "-c"]


class Line(NamedTuple):
    """A line of the report. `lacks`: this part is not usable; `fails`: nothing is usable. `advice`
    is what to do.
    """

    what: str
    found: str
    advice: str = ""
    fails: bool = False
    lacks: bool = False


def main() -> int:
    """Print the report; returns the exit code."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = _Parser(description=__doc__, formatter_class=formatter, allow_abbrev=False)
    parser.add_argument("--skip-training", action="store_true", help="leave out the last section")
    options = parser.parse_args()
    sections = {
        "Versions": versions,
        "Devices": devices,
        "Extras": extras,
        "Models": models,
        "Caches and disks": places,
        "Settings": settings,
        "Load": load,
    }
    if not options.skip_training:
        sections["A training of two steps"] = training
    failed = []
    print(f"# {PACKAGE} on {platform.platform()}")
    for title, check in sections.items():
        print(f"\n## {title}\n\n| | found | |\n|---|---|---|")
        for line in check():
            failed += [line] if line.fails else []
            advice = f"**FAILS**: {line.advice}" if line.fails else line.advice
            cells = map(cell, (line.what, line.found, advice))
            print(f"| {' | '.join(cells)} |", flush=True)
    names = "; ".join(line.what for line in failed)
    print(f"\n{len(failed)} lines FAIL: {names}" if failed else "\nNothing essential fails.")
    return 1 if failed else 0


class _Parser(argparse.ArgumentParser):
    """The package's own parser is not used: the package may be what is broken."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"doctor: {message} (--help lists the options)\n")


def cell(text: str) -> str:
    """`text` as a cell of a Markdown table: one line, `~` for the home directory, no tokens."""
    home = str(Path.home())
    text = re.sub(rf"{re.escape(home)}(?=/|$|[:\s'\"])", "~", text) if len(home) > 1 else text
    text = re.sub(r"hf_\w{8,}", "hf_***", text)
    return " ".join(text.split()).replace("|", "\\|")[:500]


def versions() -> Iterator[Line]:
    """Python and the required packages, with the project's bounds."""
    old = sys.version_info[:2] < OLDEST_PYTHON
    advice = "needs 3.10 or newer: make PYTHON=python3.12 env" if old else ""
    yield Line("python", platform.python_version(), advice, old)
    needed = requirements("")
    if not needed:
        yield Line(PACKAGE, "not installed", INSTALL, True)
        return
    spec = importlib.util.find_spec("internnav_hf")
    folder = Path(spec.origin).parent if spec and spec.origin else "nowhere"
    yield Line(PACKAGE, metadata.version(PACKAGE), f"in {folder}")
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        yield from pool.map(lambda each: package(each, True), needed)


def requirements(extra: str) -> list:
    """Requirements of the installed project, or of one extra; none if it is not installed."""
    try:
        from packaging.requirements import Requirement

        listed = [Requirement(text) for text in metadata.requires(PACKAGE) or []]
    except ImportError:  # PackageNotFoundError is one
        return []
    wanted = (entry for entry in listed if ("extra" in str(entry.marker or "")) == bool(extra))
    given = {"extra": extra}
    return [entry for entry in wanted if not entry.marker or entry.marker.evaluate(given)]


def package(needed, essential: bool) -> Line:
    """Check that a package is installed, new enough, and can be imported."""
    install = f"pip install '{needed.name}{needed.specifier}'"
    try:
        version = metadata.version(needed.name)
    except metadata.PackageNotFoundError:
        return Line(needed.name, "not installed", install, essential, True)
    if not needed.specifier.contains(version, prereleases=True):
        return Line(needed.name, version, f"needs {needed.specifier}: {install}", essential, True)
    name = IMPORT_NAMES.get(needed.name.lower(), needed.name.replace("-", "_"))
    code, _, errors = run([*PYTHON, f"import {name}"])
    if code:
        problem = (errors.strip().splitlines() or [f"exit code {code}"])[-1]
        advice = f"cannot be imported: reinstall it, {install} --force-reinstall"
        return Line(needed.name, f"{version}: {problem}", advice, essential, True)
    return Line(needed.name, version, f"needs {needed.specifier}")


def run(command: list[str], timeout: float = 120.0, **changes: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a program; -1 if it hangs or does not exist."""
    launched = {name for name in os.environ if name.startswith("ACCELERATE_")} | OF_A_LAUNCH
    kept = {name: value for name, value in os.environ.items() if name not in launched}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=kept | changes,
            stdin=subprocess.DEVNULL, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return -1, "", f"no end after {timeout:g} s"
    except OSError as error:
        return -1, "", str(error)
    return done.returncode, done.stdout, done.stderr


def ask(program: str, *options: str, **changes: str) -> tuple[dict, str]:
    """What a Python program prints last, as JSON, and the error if it fails: its last line."""
    code, output, errors = run([*PYTHON, program, *options], **changes)
    if code:
        return {}, (errors.strip().splitlines() or [f"exit code {code}"])[-1]
    return json.loads(output.strip().splitlines()[-1]), ""


def extras() -> Iterator[Line]:
    """The installed packages of each extra, and what the missing ones are for."""
    for name, purpose in EXTRAS.items():
        lines = [package(needed, False) for needed in requirements(name)]
        missing = [f"{line.what} ({line.found})" for line in lines if line.lacks]
        there = [f"{line.what} {line.found}" for line in lines if not line.lacks]
        without = f"lacks {', '.join(missing)}; pip install '{PACKAGE}[{name}]' gives {purpose}"
        yield Line(name, ", ".join(there) or "nothing", without if missing else purpose)


DEVICES = """
import json, torch
found = {"cuda": torch.version.cuda, "hip": torch.version.hip, "threads": torch.get_num_threads()}
found["gpus"] = [
    {"name": (p := torch.cuda.get_device_properties(i)).name, "memory": p.total_memory,
     "capability": f"{p.major}.{p.minor}"} for i in range(torch.cuda.device_count())
]
found["bf16"] = bool(found["gpus"]) and torch.cuda.is_bf16_supported()
found["mps"] = torch.backends.mps.is_available()
print(json.dumps(found))
"""


def devices() -> Iterator[Line]:
    """Cores, memory, GPUs."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limit = read("/sys/fs/cgroup/cpu.max").split()
    has_quota = len(limit) == 2 and limit[0].isdigit()
    quota = f", a quota of {int(limit[0]) / int(limit[1]):g}" if has_quota else ""
    yield Line("CPU cores", f"{usable} usable of {os.cpu_count()}{quota}")
    yield memory()
    found, problem = ask(DEVICES)
    if problem:
        yield Line("torch's devices", problem, "see the line of torch above", True)
        return
    build = f"ROCm {found['hip']}" if found["hip"] else "for the CPU"
    build = f"CUDA {found['cuda']}" if found["cuda"] else build
    yield Line("torch's build", build, f"{found['threads']} threads")
    for gpu in found["gpus"]:
        about = f"{gpu['memory'] / GIB:.0f} GiB, compute capability {gpu['capability']}"
        half = "bfloat16" if found["bf16"] else "no bfloat16: --bf16 false"
        yield Line("GPU", f"{gpu['name']}, {about}", half)
    if not found["gpus"]:
        yield Line("GPU", "MPS" if found["mps"] else "none visible to torch", no_gpu_advice())


def no_gpu_advice() -> str:
    """Advice if torch finds no GPU: a GPU that the driver lists needs another build of torch."""
    code, output, _ = run(["nvidia-smi", "-L"], timeout=30)
    if code or not output.strip():
        return "training runs on the CPU, in float32"
    number = len(output.strip().splitlines())
    return f"nvidia-smi lists {number}: install a CUDA build of torch, see CUDA_VISIBLE_DEVICES"


def memory() -> Line:
    """Memory of the machine and limit of the container."""
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB", read("/proc/meminfo"), re.MULTILINE))
    if "MemTotal" not in found:
        return Line("memory", "not known here")
    total, free = (int(found.get(name, 0)) * 1024 / GIB for name in ("MemTotal", "MemAvailable"))
    limit = read("/sys/fs/cgroup/memory.max").strip()
    of_container = f", a limit of {int(limit) / GIB:.1f} GiB" if limit.isdigit() else ""
    return Line("memory", f"{free:.1f} GiB free of {total:.1f}{of_container}")


def read(path: str) -> str:
    """The content of a system file; empty if it cannot be read."""
    with suppress(OSError):
        return Path(path).read_text(errors="replace")
    return ""


def load() -> Iterator[Line]:
    """How busy the cores are: other programs slow down training on the CPU."""
    before = cpu_times()
    time.sleep(0.5)
    work, idle = (after - earlier for after, earlier in zip(cpu_times(), before, strict=True))
    cores = os.cpu_count() or 1
    busy = cores * work / max(work + idle, 1)
    advice = "other programs compute here: see 'A busy machine' in docs/benchmarks/cpu.md"
    yield Line("busy cores", f"{busy:.1f} of {cores}", advice if busy > cores / 4 else "")
    if hasattr(os, "getloadavg"):
        numbers = ", ".join(f"{value:.1f}" for value in os.getloadavg())
        yield Line("processes that want a core (1, 5, 15 min)", numbers)


def cpu_times() -> tuple[int, int]:
    """Ticks of work and of idle time, over all cores."""
    first = (read("/proc/stat").splitlines() or [""])[0].split()[1:9]
    times = [int(value) for value in first] or [0] * 8
    return sum(times) - times[3] - times[4], times[3] + times[4]


PLACES = """
import json
from huggingface_hub.constants import HF_HUB_CACHE
from internnav_hf.data.index import DEFAULT_CACHE
print(json.dumps({"Hugging Face's cache": HF_HUB_CACHE, "cache of indices": str(DEFAULT_CACHE)}))
"""


def places() -> Iterator[Line]:
    """The folders for caches and temporary files: existing, writable, with enough space."""
    found, problem = ask(PLACES)
    if problem:
        yield Line("caches", problem, INSTALL, True)
    found |= {"temporary files": tempfile.gettempdir(), "this folder": os.getcwd()}
    for what, folder in found.items():
        yield place(what, Path(folder), what in ("cache of indices", "temporary files"))
    shared = Path("/dev/shm")
    if shared.is_dir():
        usage = shutil.disk_usage(shared)
        small = usage.total < GIB
        advice = "workers of the data loader need it: docker run --shm-size 8g" if small else ""
        yield Line("shared memory", f"{usage.free / GIB:.1f} GiB free", advice)


def place(what: str, folder: Path, essential: bool) -> Line:
    """Check one folder, or the place where it would be created."""
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    free = shutil.disk_usage(there).free / GIB
    size = f", {size_of(folder)} in it" if what.endswith(("cache", "indices")) else ""
    found = f"{folder}{'' if there == folder else ' (not created)'}{size}, {free:.1f} GiB free"
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"can be written")
    except OSError as error:
        advice = f"cannot be written ({error.strerror}): choose another by HF_HOME, TMPDIR or chmod"
        return Line(what, found, advice, essential)
    return Line(what, found, "little space" if free < LEAST_FREE_GB else "")


def size_of(folder: Path, longest_s: float = 5.0) -> str:
    """Size of all files in a folder; "more than" if counting takes too long."""
    total, end = 0, time.monotonic() + longest_s
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # deleted in the meantime
                total += os.lstat(os.path.join(path, name)).st_size
        if time.monotonic() > end:
            return f"more than {total / GIB:.1f} GiB"
    return f"{total / GIB:.1f} GiB"


def settings() -> Iterator[Line]:
    """The relevant environment variables that are set."""
    names = [name for name in SETTINGS.split() if name in os.environ]
    for name in names:
        yield Line(name, display_value(name, os.environ[name]))
    if not names:
        yield Line("none", "no relevant variable is set")


def display_value(name: str, value: str) -> str:
    """The value of a variable; secrets only as "set", addresses without user and password."""
    if SECRET.search(name):
        return "set" if value else "empty"
    return re.sub(r"(^|//)[^/@\s]+@", r"\1***@", value) or "empty"


MODELS = """
import json
from transformers import AutoConfig, AutoModel
from internnav_hf.catalog import FAMILIES
found = {}
for family in FAMILIES:
    config = family.load("config")
    same = type(AutoConfig.for_model(config.model_type)) is config
    name = AutoModel._model_mapping[config]._resolve().__name__ if same else "?"
    found[config.model_type] = name, family.licence
print(json.dumps(found))
"""


def models() -> Iterator[Line]:
    """Check that the Auto classes find our models and that their code can be imported."""
    found, problem = ask(MODELS)
    if problem:
        yield Line("Auto classes", problem, INSTALL, True)
    for model_type, (name, licence) in found.items():
        text = f"{name}, released weights: {licence or 'none'}"
        yield Line(model_type, text, "registered by another package" if name == "?" else "")


TRAINING = """
import json, sys
from internnav_hf.training.trial import train_two_steps
print(json.dumps(train_two_steps(sys.argv[1])))
"""


def training() -> Iterator[Line]:
    """Train a small action expert for two steps, save and load it, in a separate process."""
    start = time.monotonic()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    alone = {"CUDA_VISIBLE_DEVICES": visible, "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        found, problem = ask(TRAINING, folder, **alone)
    took = f"{time.monotonic() - start:.1f} s with start and imports"
    if problem:
        advice = "see the failures above; if there are none, ask with this report"
        yield Line("training", problem, advice, True)
        return
    yield Line("device", found["device"], took)
    yield Line("steps", ", ".join(f"{1000 * seconds:.0f} ms" for seconds in found["step_s"]))
    finite = all(abs(loss) < 1e6 for loss in found["losses"])
    advice = "" if finite else "not finite: a GPU, or a build of torch, that computes wrongly"
    yield Line("losses", ", ".join(f"{x:.4f}" for x in found["losses"]), advice, not finite)
    advice = "" if found["equal"] else "safetensors or the disk changes weights"
    words = "yes" if found["equal"] else "no"
    yield Line("saved and loaded, equal", words, advice, not found["equal"])


if __name__ == "__main__":
    sys.exit(main())
