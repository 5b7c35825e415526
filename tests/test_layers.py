"""The house: packages in their order, the libraries that each may import, and nothing heavy where a plan is made."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parents[1] / "scripts" / "gluegrid"
TORCH = {"accelerate", "datasets", "evaluate", "numpy", "peft", "pyarrow", "safetensors", "scipy", "sklearn"}
TORCH |= {"tokenizers", "torch", "transformers"}
# Bottom first: a package imports only from itself and from those above it in this list, and only these libraries.
PACKAGES = {
    "common": set(),
    "experiment": {"jsonschema", "yaml"},
    "execution": set(),
    "models": TORCH,
    "staging": {"huggingface_hub", "pyarrow", "tokenizers", "yaml"},
    "training": TORCH - {"scipy", "sklearn"} | {"yaml"},
    "results": {"tabulate", "wcwidth"},
    "analysis": {"numpy", "pyarrow", "scipy"},
    "operations": set(),
    "site": set(),
    "report": {"jinja2", "markupsafe", "matplotlib", "scipy"},
    "verification": {"jsonschema", "numpy"},
    "sharing": set(),
    "workflow": {
        "psutil",
        "snakemake",
        "snakemake_interface_executor_plugins",
        "snakemake_interface_logger_plugins",
        "wcwidth",
    },
}
LIGHT = {"common", "experiment", "execution", "results", "operations", "site", "sharing", "workflow"}
ONLY_WHEN_CALLED = {
    # What is known of metrics and kinds of tasks is asked when a plan is made, too; formulas are called on a device.
    "experiment.metrics": {"numpy", "scipy", "sklearn"},
    "experiment.task_kinds": {"scipy"},
    # The authorities that the hub's client trusts, where they are at hand: this module runs alone on a node, too.
    "site.node_report": {"certifi"},
    # Only a result that has a reference is compared with it.
    "results.parity": {"scipy"},
}
# What is heavy and imported where it is called: local data are looked at as long as they are not staged.
HEAVY_WHEN_CALLED = {"operations.local_data": {"staging.local_data"}}
HEAVY_LIBRARIES = TORCH | {"huggingface_hub", "matplotlib", "pandas"}


def name_of(path: Path) -> str:
    """Return a module's name inside the library, as 'common.files'."""
    return ".".join(path.relative_to(LIBRARY).with_suffix("").parts)


MODULES = {name_of(path): path for path in sorted(LIBRARY.rglob("*.py")) if path.name != "__init__.py"}


def imports_of(tree: ast.AST, everywhere: bool = True) -> Iterator[str]:
    """Yield the full names of what is imported, inside functions only when `everywhere`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif everywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports_of(node, everywhere)


@functools.cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@functools.cache
def own_and_others(module: str, everywhere: bool = True) -> tuple[set[str], set[str]]:
    """Return which modules of the library a module imports, and which packages of others that are not Python's own."""
    names = set(imports_of(tree_of(module), everywhere))
    own = {name.removeprefix("gluegrid.") for name in names if name.startswith("gluegrid.")}
    modules = {".".join(name.split(".")[:2]) for name in own} - {"__version__"}
    return modules, {name.split(".")[0] for name in names} - {"gluegrid"} - sys.stdlib_module_names


def package_of(module: str) -> str:
    return module.split(".")[0]


def test_the_library_has_these_packages_and_no_module_beside_them():
    assert {path.name for path in LIBRARY.iterdir() if path.name != "__pycache__"} == {*PACKAGES, "__init__.py"}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_packages_above_its_own(module):
    order = list(PACKAGES)
    reachable = {*order[: order.index(package_of(module)) + 1]}
    assert {package_of(other) for other in own_and_others(module)[0]} <= reachable


def test_no_modules_import_one_another_in_a_circle():
    try:
        TopologicalSorter({module: own_and_others(module)[0] for module in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_the_libraries_of_its_package(module):
    allowed = PACKAGES[package_of(module)]
    assert own_and_others(module, everywhere=False)[1] <= allowed
    assert own_and_others(module)[1] <= allowed | ONLY_WHEN_CALLED.get(module, set())


@pytest.mark.parametrize("module", [module for module in MODULES if package_of(module) in LIGHT])
def test_a_light_module_imports_no_heavy_package(module):
    # What verification declares of the shapes of files is plain Python.
    heavy = {other for other in own_and_others(module)[0] if package_of(other) not in LIGHT}
    assert heavy <= {"verification.file_shapes"} | HEAVY_WHEN_CALLED.get(module, set())
    assert not HEAVY_WHEN_CALLED.get(module, set()) & own_and_others(module, everywhere=False)[0]


def test_what_the_workflow_imports_loads_nothing_heavy():
    light = ", ".join(f"gluegrid.{module}" for module in MODULES if package_of(module) in LIGHT)
    command = [sys.executable, "-c", f"import sys, {light}\nprint(*sys.modules)"]
    loaded = subprocess.run(command, cwd=LIBRARY.parent, capture_output=True, text=True, check=True).stdout.split()
    assert "gluegrid.workflow.hooks" in loaded
    assert not HEAVY_LIBRARIES & set(loaded)


def test_the_workflow_imports_only_light_packages(project):
    sources = [project / "Snakefile", *(project / "rules").glob("*.smk")]
    lines = [line for source in sources for line in source.read_text().splitlines()]
    imported = {line.split()[1].split(".")[1] for line in lines if line.startswith("from gluegrid.")}
    assert imported
    assert imported <= LIGHT


def test_reading_a_tokenizer_loads_transformers_only_when_it_is_called():
    assert "transformers" not in own_and_others("models.tokenizer", everywhere=False)[1]


def test_peft_is_imported_only_when_adapters_are_asked_for():
    assert "peft" in own_and_others("models.lora")[1] - own_and_others("models.lora", everywhere=False)[1]
    assert [module for module in MODULES if "peft" in own_and_others(module)[1]] == ["models.lora"]


@pytest.mark.parametrize("package", ["", *PACKAGES])
def test_a_package_itself_imports_nothing(package):
    tree = ast.parse((LIBRARY / package / "__init__.py").read_text(encoding="utf-8"))
    assert not [*imports_of(tree)]
