"""Processor seconds of tests, with those of all processes that they start: by folder, by file, and
of the longest tests. Wall time says less of a suite whose tests wait, or share their cores.

    OMP_NUM_THREADS=1 python -m pytest -q -p benchmarks.test_time tests/models
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

NUM_LONGEST = 20
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SECONDS: Counter[str] = Counter()
"""Test -> processor seconds of its setup, its call and its teardown."""


def processor_seconds(process: str = "self") -> float:
    """Of a process, of its children that have ended, and of those that run, however deep."""
    seconds = 0.0
    with suppress(OSError):  # it has ended meanwhile
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        seconds = sum(map(int, fields[11:15])) / TICKS_PER_S
        for task in Path(f"/proc/{process}/task").glob("*/children"):
            seconds += sum(map(processor_seconds, task.read_text().split()))
    return seconds


def _measured(item: Any) -> Iterator[None]:
    begun = processor_seconds()
    yield
    SECONDS[item.nodeid] += processor_seconds() - begun


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_setup(item: Any) -> Iterator[None]:
    """What a test's fixtures cost is the cost of the first test that asks for them."""
    yield from _measured(item)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_call(item: Any) -> Iterator[None]:
    """The test itself."""
    yield from _measured(item)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: Any) -> Iterator[None]:
    """What it leaves to be cleared away."""
    yield from _measured(item)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the three tables; what is in none is imports and collection."""
    folders: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for test, seconds in SECONDS.items():
        path = Path(test.split("::")[0])
        files[str(path)] += seconds
        folders["/".join(path.parts[:2])] += seconds
    print_table = terminalreporter.write_line
    for name, table in (("folder", folders), ("file", files), ("test", SECONDS)):
        print_table(f"\n| {name} | processor seconds |\n|---|---|")
        for row, seconds in table.most_common(None if name == "folder" else NUM_LONGEST):
            print_table(f"| {row} | {seconds:.1f} |")
    print_table(f"\nin all {processor_seconds():.0f}, of tests {sum(SECONDS.values()):.0f}")
