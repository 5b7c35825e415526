"""The modules that plan and report load nothing heavy, so that `snakemake -n` answers at once."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parents[1] / "scripts" / "gluegrid"
HEAVY_MODULES = {
    *("adapters", "saved_model", "trackers"),
    *("comparison_report", "comparison_tables", "comparisons", "entrants", "standings"),
    *("paired_bootstrap", "resampled_metrics"),
    *("conversion", "table_files"),
    *("checkpoint", "columns", "data", "device", "encoder", "examples", "finetuning", "hub", "hub_cache", "model"),
    *("micro_batches", "model_tokenizer", "parquet_files", "progress", "safekeeping", "scoring", "tokens", "training"),
    *(
        "holdout",
        "cell_training",
        "device_memory",
        "epochs",
        "forward_pass",
        "optimizer",
        "packing",
        "prediction",
        "processes",
        "random_states",
        "weights",
    ),
    *("glue_predictions", "glue_submission"),
}
HEAVY_PACKAGES = {
    *(
        "accelerate",
        "datasets",
        "evaluate",
        "huggingface_hub",
        "matplotlib",
        "peft",
        "numpy",
        "pandas",
        "pyarrow",
        "scipy",
        "sklearn",
    ),
    *("tokenizers", "torch", "transformers"),
}
OF_SNAKEMAKE = {
    "interruption": {"psutil", "snakemake", "snakemake_interface_executor_plugins"},
    "snakemake_patches": {"snakemake"},
    "workflow": {"snakemake", "snakemake_interface_executor_plugins"},
    "slurm_plugin": {"snakemake_interface_executor_plugins"},
}
LIGHT_PACKAGES = {"gluegrid", "jsonschema", "tabulate", "yaml"} | sys.stdlib_module_names
LIGHT = sorted(path for path in LIBRARY.glob("*.py") if path.stem not in HEAVY_MODULES)
OF_THE_WORKFLOW = (
    "report_inputs",
    *("workflow", "head", "records", "report", "estimates", "experiment", "tasks", "paths", "files"),
    *("slurm_plugin", "submission", "code_copy", "snakemake_patches", "recipes", "run_files", "quick_planning"),
    *("errors", "glue_choice", "split_files", "interruption", "cell"),
)


def imports_of(tree: ast.AST, everywhere: bool) -> set[str]:
    """Return the full names of what is imported, inside functions only when `everywhere`."""
    names: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif everywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            names |= imports_of(node, everywhere)
    return names


def packages_and_modules(path: Path, everywhere: bool = False) -> tuple[set[str], set[str]]:
    """Return the packages that a module imports, and which modules of gluegrid."""
    names = imports_of(ast.parse(path.read_text(encoding="utf-8")), everywhere)
    own = {name.split(".")[1] for name in names if name.startswith("gluegrid.")}
    return {name.split(".")[0] for name in names}, own


def test_what_the_workflow_imports_loads_nothing_heavy():
    program = f"import sys\nfrom gluegrid import {', '.join(OF_THE_WORKFLOW)}\nprint(*sys.modules)"
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, cwd=LIBRARY.parent, capture_output=True, text=True, check=True).stdout.split()
    assert "gluegrid.experiment.experiment" in loaded
    assert not HEAVY_PACKAGES & set(loaded)


def test_the_workflow_imports_only_what_is_checked_here(project):
    sources = [project / "Snakefile", *(project / "rules").glob("*.smk")]
    lines = [line for source in sources for line in source.read_text().splitlines() if "gluegrid" in line]
    imported = {line.split()[1].removeprefix("gluegrid.") for line in lines if line.startswith("from gluegrid.")}
    imported |= {name for line in lines if line.startswith("from gluegrid import ") for name in line.split()[3:]}
    assert imported <= {*OF_THE_WORKFLOW}


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_a_light_module_imports_only_light_ones(path):
    packages, modules = packages_and_modules(path)
    assert packages <= LIGHT_PACKAGES | OF_SNAKEMAKE.get(path.stem, set())
    assert not modules & HEAVY_MODULES


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_a_light_module_does_not_reach_for_heavy_ones_later_either(path):
    packages, modules = packages_and_modules(path, everywhere=True)
    # Only fetching uses the hub's library, and only once it fetches.
    of_the_hub = {"hub"} if path.stem == "repositories" else set()
    # Only a result that has a reference is compared with it.
    of_verdicts = {"scipy"} if path.stem == "tolerance" else set()
    assert packages <= LIGHT_PACKAGES | OF_SNAKEMAKE.get(path.stem, set()) | of_verdicts
    assert not modules & (HEAVY_MODULES - of_the_hub)


def test_reading_a_tokenizer_loads_transformers_only_when_it_is_called():
    packages, modules = packages_and_modules(LIBRARY / "model_tokenizer.py")
    assert packages <= LIGHT_PACKAGES
    assert not modules & HEAVY_MODULES


def test_every_heavy_module_exists():
    assert {path.stem for path in LIBRARY.glob("*.py")} >= HEAVY_MODULES


def test_the_package_itself_imports_nothing():
    assert packages_and_modules(LIBRARY / "__init__.py", everywhere=True) == (set(), set())


def test_peft_is_imported_only_when_adapters_are_asked_for():
    within, _ = packages_and_modules(LIBRARY / "adapters.py", everywhere=True)
    at_once, _ = packages_and_modules(LIBRARY / "adapters.py")
    assert "peft" in within - at_once
    users = [path for path in LIBRARY.glob("*.py") if "peft" in packages_and_modules(path, everywhere=True)[0]]
    assert [path.stem for path in users] == ["adapters"]
