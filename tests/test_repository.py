"""The house keeps its own rules: layers, sizes, words, goldens. Every rule is also shown to bite.

Lint rules (no print, no blind except, no leftovers, docstrings on public things) are ruff's, set
in pyproject.toml; the rest is read from the source here.
"""

import ast
import dataclasses
import fnmatch
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest
import tomllib
from transformers import TrainingArguments

ROOT = Path(__file__).parents[1]
PACKAGE = "internnav_hf"

# Who may import whom, by the first part of a module's name in the package. A dot names one module.
LAYERS: dict[str, set[str]] = {
    name: set() for name in ("camera", "catalog", "field_files", "files", "geometry", "signals")
}
LAYERS |= {"trajectory": {"geometry"}, "command_line": {"files", "signals"}}
LAYERS["weights"] = {"field_files", "files", "weights"}
LAYERS["publishing"] = {"catalog", "weights", "publishing"}
LAYERS["models"] = {"catalog", "field_files", "weights", "publishing", "models"}
LAYERS["data"] = {"camera", "files", "geometry", "signals", "trajectory", "data"}
LAYERS["data"] |= {"models.system2.dialogue", "models.navdp.letterbox", "weights.pickled_data"}
LAYERS["data"] |= {f"models.planners.{n}" for n in ("semantics", "training_settings", "views")}
LAYERS["data"] |= {"models.ddppo.views"}
LAYERS["sim"] = {"camera", "files", "geometry", "trajectory", "data", "sim"}
LAYERS["sim"] |= {"models.planners.semantics", "models.ddppo.views"}
BELOW = {*LAYERS} - {"sim"}
LAYERS["arguments"] = BELOW - {"data"} | {"arguments"}
LAYERS["policies"] = BELOW | {"policies"}
LAYERS["training"] = BELOW | {"sim", "arguments", "policies", "training"}
LAYERS["trainer"] = {"training"}  # an alias
LAYERS["evaluation"] = LAYERS["training"] | {"evaluation"}
# Public names come through the package itself; nothing inside may import from there.
FRONT = {PACKAGE}
# These come with an extra; only there may they be imported at the top of a module.
WITH_SIM_EXTRA = ("sim", "evaluation")
IMPORT_NAMES = {"pillow": "PIL", "scikit-image": "skimage", "pyyaml": "yaml"}


class Import(NamedTuple):
    """`target` as written and made absolute; `at_top` means it runs when the module is imported."""

    target: str
    at_top: bool
    relative: bool


def tracked(pattern: str) -> list[Path]:
    """Files that git knows of or would take, by glob on the whole path."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    ).stdout
    paths = (ROOT / name for name in sorted(names.splitlines()) if fnmatch.fnmatch(name, pattern))
    return [path for path in paths if path.is_file()]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def read_imports(source: str, package: str) -> list[Import]:
    """All imports in `source`, a module of `package`, also those inside functions."""
    found = []

    def visit(node: ast.AST, at_top: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, at_top, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
            relative = node.level > 0
            found.extend(Import(f"{base}.{alias.name}", at_top, relative) for alias in node.names)
        type_checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            visit(child, at_top and not function and not type_checking)

    visit(ast.parse(source), True)
    return found


def module_of(target: str, modules: Iterable[str]) -> str | None:
    """The module of ours that an import of `target` reaches: `a.b.name` is `a.b` or `a.b.name`."""
    parent = target.rpartition(".")[0]
    return next((name for name in (target, parent) if name in modules), None)


def layer_violations(
    module: str, imports: Iterable[Import], modules: Iterable[str]
) -> Iterator[str]:
    if module in FRONT:
        return
    layer = module.split(".")[1]
    if layer not in LAYERS:
        yield f"{module} belongs to no layer; add it to LAYERS"
        return
    for entry in imports:
        target = module_of(entry.target, modules)
        if target is None:
            if entry.target.split(".")[0] in {"recipes", "scripts", "benchmarks", "tests"}:
                yield f"{module} imports {entry.target}"
            continue
        inside = target.split(".", 1)[1] if "." in target else ""
        if inside not in LAYERS[layer] and inside.split(".")[0] not in LAYERS[layer]:
            yield f"{module} imports {target}"


def import_cycle(graph: dict[str, set[str]]) -> list[str]:
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return error.args[1]
    return []


def declared_fields(tree: ast.Module, class_name: str = "*") -> Iterator[str]:
    """Names of the annotated fields of the classes in `tree` that look like configurations."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and fnmatch.fnmatch(node.name, class_name):
            for entry in node.body:
                if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name):
                    yield entry.target.id


def read_names(tree: ast.Module) -> set[str]:
    """Attributes that are read in `tree`."""
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return {node.attr for node in nodes if isinstance(node.ctx, ast.Load)}


# Pieces, so that this file does not find itself.
FORBIDDEN_CODE = re.compile(
    "|".join(
        ["Not" + "ImplementedError", r"pytest\.mark\.(skip|x" + "fail)", r"pytest\.sk" + r"ip\("]
    )
)
MACHINE_PATH = re.compile(
    r"(?<![\w.>}$])/(" + "|".join(["work", "root", "opt", "farm", r"home/\w+"]) + ")/"
)


def third_party(imports: Iterable[Import]) -> set[str]:
    names = {entry.target.split(".")[0] for entry in imports}
    return names - sys.stdlib_module_names - {PACKAGE}


def requirements(names: Iterable[str]) -> set[str]:
    """Import names of requirement strings such as `pillow>=10`."""
    plain = (re.split(r"[<>=!~\[; ]", name)[0].lower() for name in names)
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in plain}


SOURCES = {module_name(path): path for path in tracked(f"{PACKAGE}/*.py")}
TREES = {name: ast.parse(path.read_text(), str(path)) for name, path in SOURCES.items()}
IMPORTS = {
    name: read_imports(
        path.read_text(), name if path.name == "__init__.py" else name.rpartition(".")[0]
    )
    for name, path in SOURCES.items()
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


# ---------------------------------------------------------------------------- rules on the source


def test_ruff_is_content():
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout


def test_layers():
    found = [
        line
        for name, imports in IMPORTS.items()
        for line in layer_violations(name, imports, SOURCES)
    ]
    assert not found


def test_benchmarks_do_not_know_each_other():
    rooms = {room: f"{PACKAGE}.evaluation.{room}" for room in ("vln", "visual_navigation")}
    rooms["open_loop"] = f"{PACKAGE}.evaluation.open_loop"
    forbidden = {
        rooms["vln"]: (rooms["visual_navigation"],),
        rooms["visual_navigation"]: (rooms["vln"], rooms["open_loop"]),
        rooms["open_loop"]: (rooms["vln"], rooms["visual_navigation"]),
        f"{PACKAGE}.evaluation": tuple(rooms.values()),
    }
    found = [
        f"{module} imports {entry.target}"
        for module, imports in IMPORTS.items()
        for entry in imports
        if entry.target.startswith(forbidden.get(module.rpartition(".")[0], ("nothing",)))
    ]
    assert not found


def test_no_import_cycles():
    graph = {
        name: {module_of(entry.target, SOURCES) for entry in imports} - {None, name}
        for name, imports in IMPORTS.items()
    }
    assert not import_cycle(graph)


def test_recipes_do_not_import_recipes():
    for path in tracked("recipes/*.py"):
        targets = {entry.target.split(".")[0] for entry in read_imports(path.read_text(), "")}
        assert not targets & {"recipes", "scripts", *(p.stem for p in tracked("recipes/*.py"))}, (
            path
        )


def test_only_the_simulator_needs_an_extra():
    needed = requirements(PROJECT["dependencies"])
    for name, imports in IMPORTS.items():
        if not name.startswith(tuple(f"{PACKAGE}.{layer}" for layer in WITH_SIM_EXTRA)):
            missing = third_party(entry for entry in imports if entry.at_top) - needed
            assert not missing, f"{name} imports {missing} at its top"


def test_every_third_party_import_is_declared():
    extras = [name for extra in PROJECT["optional-dependencies"].values() for name in extra]
    known = requirements([*PROJECT["dependencies"], *extras])
    for name, imports in IMPORTS.items():
        assert third_party(imports) <= known, name


@pytest.mark.parametrize(("pattern", "limit"), [(f"{PACKAGE}/*.py", 400), ("recipes/*.py", 170)])
def test_files_stay_readable(pattern, limit):
    lengths = {str(path): len(path.read_text().splitlines()) for path in tracked(pattern)}
    assert not {name: length for name, length in lengths.items() if length > limit}


def test_no_unfinished_code_or_skipped_tests():
    found = {
        f"{path.name}: {match.group()}"
        for path in tracked("*.py")
        for match in FORBIDDEN_CODE.finditer(path.read_text())
    }
    assert not found


def test_no_machine_paths():
    found = []
    for path in tracked("*"):
        data = path.read_bytes()
        if b"\0" not in data:
            matches = MACHINE_PATH.finditer(data.decode())
            found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in matches]
    assert not found


def test_every_config_field_is_read():
    recipes = {str(path): ast.parse(path.read_text()) for path in tracked("recipes/*.py")}
    read = set().union(*map(read_names, [*TREES.values(), *recipes.values()]))
    # What transformers' Trainer declares, it reads.
    read |= {field.name for field in dataclasses.fields(TrainingArguments)}
    declared = {
        f"{name}.{field}": field
        for trees, pattern in ((TREES, "*Config"), (TREES, "*Arguments"), (recipes, "*"))
        for name, tree in trees.items()
        for field in declared_fields(tree, pattern)
    }
    assert not {name for name, field in declared.items() if field not in read}


def test_every_module_has_a_test():
    """`data/index.py` is tested by `tests/data/test_index.py`, or by a test file that imports it,
    or, if it is a part of another module, by the tests of that one."""
    paths = tracked("tests/*.py")
    imported = {
        module_of(entry.target, SOURCES)
        for path in paths
        for entry in read_imports(path.read_text(), "")
    }
    mirrors = {path.relative_to(ROOT / "tests") for path in paths}
    tested = {
        name
        for name, path in SOURCES.items()
        if name in imported
        or path.relative_to(ROOT / PACKAGE).with_name(f"test_{path.name}") in mirrors
    }
    parts = {module_of(entry.target, SOURCES) for name in tested for entry in IMPORTS[name]}
    untested = {*SOURCES} - tested - parts - {f"{PACKAGE}.trainer"}  # an alias
    assert not [name for name in untested if SOURCES[name].name != "__init__.py"]


def test_goldens_stay_small():
    assert sum(path.stat().st_size for path in tracked("tests/golden/*")) < 60_000_000


def test_only_scripts_are_executable():
    executable = [path for path in tracked("*") if path.stat().st_mode & 0o111]
    assert executable
    assert not [path for path in executable if not path.read_bytes().startswith(b"#!")]


def test_constraints_pin_every_direct_dependency():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = requirements(line for line in lines if not line.startswith("#"))
    direct = requirements([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]])
    assert direct - {PACKAGE} <= pinned
    assert not [line for line in lines if "+" in line or "@" in line or "nvidia" in line]


# ------------------------------------------------------------------------- each rule can say "no"


@pytest.mark.parametrize(
    ("rule", "snippet"),
    [
        ("T201", "print('done')"),
        ("E722", "try:\n    pass\nexcept:\n    pass"),
        ("BLE001", "try:\n    pass\nexcept Exception:\n    pass"),
        ("FIX002", "# TO" + "DO: later"),
        ("FIX001", "# FIX" + "ME: later"),
        ("ERA001", "# x = 1 + y"),
        ("D100", "x = 1"),
        ("D101", '"""A module."""\n\n\nclass Thing:\n    pass'),
        ("D103", '"""A module."""\n\n\ndef thing():\n    pass'),
        ("E501", f"x = '{'y' * 100}'"),
    ],
)
def test_ruff_rule_bites(rule, snippet):
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise"]
    command += ["--stdin-filename", f"{PACKAGE}/snippet.py", "-"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        input=snippet + "\n",
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert rule in done.stdout


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("camera", "from internnav_hf.geometry import Action"),
        ("models.system2.model", "from internnav_hf.data import Episode"),
        ("data.tasks.system2", "from internnav_hf.models.system2 import model"),
        (
            "data.tasks.system2",
            "def f():\n    from ...models.system2.model import System2Model",
        ),
        ("sim.env", "from ..policies import System2Policy"),
        ("policies", "import internnav_hf.evaluation"),
        ("policies", "from scripts import evaluate"),
        ("training.trainer", "from internnav_hf.evaluation import agents"),
        ("evaluation.agents", "from internnav_hf import System2Model"),
        ("stranger", ""),
    ],
)
def test_layer_rule_bites(module, source):
    names = {f"{PACKAGE}.{layer}" for layer in LAYERS} | {PACKAGE}
    names |= {f"{PACKAGE}.models.system2.{name}" for name in ("model", "dialogue")}
    name = f"{PACKAGE}.{module}"
    imports = read_imports(source, name.rpartition(".")[0])
    assert list(layer_violations(name, imports, names))
    text = "from internnav_hf.models.system2.dialogue import Answer"
    allowed = read_imports(text, f"{PACKAGE}.data.tasks")
    assert not list(layer_violations(f"{PACKAGE}.data.tasks.system2", allowed, names))


def test_cycle_rule_bites():
    assert import_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert not import_cycle({"a": {"b", "c"}, "b": {"c"}})


def test_import_reader_knows_what_runs_at_import_time():
    source = "if TYPE_CHECKING:\n    import a\ndef f():\n    import b\nif x:\n    import c"
    assert {i.target for i in read_imports(source, "") if i.at_top} == {"c"}
    assert third_party([Import("skimage.graph", True, False), Import("os.path", True, False)]) == {
        "skimage"
    }
    assert requirements(["scikit-image>=0.24", "internnav-hf[sim]"]) == {"skimage", "internnav_hf"}


def test_text_rules_bite():
    assert FORBIDDEN_CODE.search("raise Not" + "ImplementedError")
    assert FORBIDDEN_CODE.search("@pytest.mark.sk" + "ip")
    for text in (
        "open('/wo" + "rk/data')",
        "cd /ro" + "ot/x",
        "PATH=/op" + "t/bin",
        "/ho" + "me/ann/x",
    ):
        assert MACHINE_PATH.search(text), text
    for text in ("data_root/r2r", "the home/office", "frame/work/x", "https://a.org/work/x"):
        assert not MACHINE_PATH.search(text), text


def test_field_rule_bites():
    tree = ast.parse(
        "class C:\n    used: int = 0\n    unused: int = 1\nprint(c.used)\nc.unused = 2"
    )
    assert set(declared_fields(tree)) - read_names(tree) == {"unused"}
