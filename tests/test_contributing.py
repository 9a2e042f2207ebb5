"""CONTRIBUTING.md is executed: each worked addition is made in a copy of the tree, where the
contract suites and the rules of the house then pass for it.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.processes import run
from tests.warm import Program

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
LINKED = "tests/golden/"  # large, and only read
HOUSE = ("tests/test_repository.py", "tests/test_catalog.py")
RULES = "ruff_is or layers or cycles or readable or field_is_read or module_has or among_the_cases"
CATALOG, CASES, README = "internnav_hf/catalog.py", "tests/tiny/cases.py", "README.md"


class Addition(NamedTuple):
    """What is called `name`: at least `least` tests of it pass, some in each of `suites`. `num_new`
    files are new, `edits` are edited.
    """

    heading: str
    name: str
    num_new: int
    suites: tuple[str, ...]
    edits: tuple[str, ...] = (CATALOG, CASES, README)
    least: int = 20

    @property
    def word(self) -> str:
        """A pattern of all its names: as file, as model, in the catalog."""
        return f"(?i:{self.name}|{self.name.replace('_', '')})"


MODELS = ("tests/models/test_contract.py",)
SUITES = ("contract", "retries", "loading", "policy")
POLICIES = tuple(f"tests/policies/test_{suite}.py" for suite in SUITES)
ADDITIONS = (
    Addition("Add a dataset format", "my_logs", 2, (), ("internnav_hf/data/__init__.py",), 2),
    Addition("Add an action expert", "my_expert", 5, MODELS),
    Addition("Add a goal-reaching model", "my_planner", 6, MODELS + POLICIES),
    Addition("Add an instruction-following model", "my_follower", 6, MODELS + POLICIES),
)


class Change(NamedTuple):
    """One block of the page: `lines` are those of the diff below the one that names the file."""

    path: str
    is_new: bool
    lines: list[str]


def changes(heading: str) -> list[Change]:
    """The diffs of a section of the page."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = []
    for block in re.findall(r"^```diff\n(.*?)^```$", section, re.DOTALL | re.MULTILINE):
        first, *lines = block.splitlines()
        sign, path = re.fullmatch(r"([+ ])# (\S+)", first).groups()
        found.append(Change(path, sign == "+", lines))
    return found


def apply(change: Change, root: Path) -> None:
    """Write the new file, or replace each hunk where its text stands, which must be one place."""
    path = root / change.path
    if change.is_new:
        assert not path.exists(), f"{change.path} is there already"
        assert all(line.startswith("+") for line in change.lines), change.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line[1:]}\n" for line in change.lines))
        return
    text = path.read_text()
    for hunk in "\n".join(change.lines).split("\n@@\n"):
        lines = [line or " " for line in hunk.split("\n")]
        before, after = (
            "".join(f"{line[1:]}\n" for line in lines if line[0] in kept) for kept in (" -", " +")
        )
        assert f"\n{text}".count(f"\n{before}") == 1, f"{change.path} has not one\n{before}"
        text = f"\n{text}".replace(f"\n{before}", f"\n{after}")[1:]
    path.write_text(text)


def copy_tree(root: Path) -> None:
    """What git knows of or would take, as a repository of its own."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(LINKED):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes((ROOT / name).read_bytes())
            (root / name).chmod((ROOT / name).stat().st_mode)
    (root / LINKED).symlink_to(ROOT / LINKED)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)


def passing(root: Path) -> list[str]:
    """The tests that pass in a copy of the tree with all additions."""
    copy_tree(root)
    by_name = sorted(ADDITIONS, key=lambda addition: addition.name)  # as imports are sorted
    made = [change for addition in by_name for change in changes(addition.heading)]
    for change in made:
        apply(change, root)
    files = [*HOUSE, *MODELS, *POLICIES, *filter(is_test, (change.path for change in made))]
    words = [word for each in ADDITIONS for word in (each.name, each.name.replace("_", ""))]
    chosen = " or ".join([*words, "registered", RULES])
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *files, "-k", chosen]
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    done = run(command, cwd=root, env=environment, start=Program)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return re.findall(r"^(tests/.+) PASSED", done.stdout, re.MULTILINE)


def is_test(path: str) -> bool:
    return Path(path).name.startswith("test_")


@pytest.mark.parametrize("addition", ADDITIONS, ids=lambda addition: addition.name)
def test_a_worked_addition_is_what_the_page_says(addition):
    made = changes(addition.heading)
    assert tuple(change.path for change in made if not change.is_new) == addition.edits
    assert sum(change.is_new for change in made) == addition.num_new
    text = "\n".join(line for change in made for line in (change.path, *change.lines))
    for other in ADDITIONS:  # it leans on no other
        assert bool(re.search(other.word, text)) == (other is addition), other.name
    assert own_tests(addition), "an addition has a test of its own"


def own_tests(addition: Addition) -> list[str]:
    return [change.path for change in changes(addition.heading) if is_test(change.path)]


@pytest.mark.slow
def test_worked_additions_pass_the_contract_suites_and_keep_the_rules_of_the_house(tmp_path):
    """All in one copy of the tree, which imports everything once."""
    passed = passing(tmp_path)
    for addition in ADDITIONS:
        named = [test for test in passed if re.search(addition.word, test)]
        for file in (*own_tests(addition), *addition.suites):
            assert any(test.startswith(f"{file}::") for test in named), file
        assert len(named) >= addition.least, addition.name
    for rule in RULES.split(" or "):
        assert any(rule in test for test in passed), rule
