"""Every path that the workflow uses, in one place. {Braces} are Snakemake's wildcards, which functions fill in."""

import hashlib
import json
import re
from pathlib import Path, PurePosixPath

MODEL_MANIFEST = "resources/models/{model_key}/manifest.json"
TASK_MANIFEST = "resources/tasks/{task_key}/manifest.json"
TOKENS = "{tokenizer_key}/{examples_key}-{max_seq_length}"
TOKENS_MANIFEST = f"resources/tokens/{TOKENS}/manifest.json"

KERNELS = "kernels"  # a folder of resources/

CELL = "{model}/{task}/{variant}/seed-{seed}"
LONGEST_KEY = 200  # characters; file systems allow names of 255 bytes, and temporary names are longer
LOCAL_PREFIXES = ("/", "./", "../", "~/")


class ExperimentPaths:
    """The paths of one experiment, relative to Snakemake's working folder; `root` is set to build it elsewhere."""

    def __init__(self, experiment: str, root: str | None = None):
        self.root = root or f"results/{experiment}"
        self.runs = f"{self.root}/runs/{CELL}"
        self.run = f"{self.runs}/run.json"
        self.all_results = f"{self.runs}/all_results.json"
        self.run_record = f"{self.runs}/run_record.json"
        self.predictions = f"{self.runs}/predictions_{{split}}.parquet"
        self.results_md = f"{self.root}/results.md"
        self.results_csv = f"{self.root}/results.csv"
        self.results_json = f"{self.root}/results.json"
        self.parity_md = f"{self.root}/parity.md"
        self.parity_json = f"{self.root}/parity.json"
        self.submission_zip = f"{self.root}/submissions/{{model}}/submission.zip"
        self.submission_json = f"{self.root}/submissions/{{model}}/submission.json"
        self.comparisons_md = f"{self.root}/comparisons.md"
        self.comparisons_json = f"{self.root}/comparisons.json"
        self.report_html = f"{self.root}/report.html"
        self.table_tex = f"{self.root}/table.tex"
        self.made_from = f"{self.root}/made_from.jsonl"
        self.heads = f"{self.root}/heads"

    def made_from_runs(self) -> list[str]:
        """Return the paths of files that targets other than `all` make; with {model} where each model has one."""
        reports = [self.parity_md, self.parity_json, self.comparisons_md, self.comparisons_json]
        return [*reports, self.report_html, self.table_tex, self.submission_zip]

    def log(self, rule: str, wildcards: str) -> str:
        """Return the log of a rule's job."""
        return f"{self.root}/logs/{rule}/{wildcards}.log"

    def benchmark(self, rule: str, wildcards: str) -> str:
        """Return Snakemake's benchmark file of a rule's job."""
        return f"{self.root}/benchmarks/{rule}/{wildcards}.tsv"


def state_folder(run: Path) -> Path:
    """Return the private state folder of the cell whose run.json is `run`."""
    return _beside_runs(run, "state")


def heads_of_state(state: Path) -> Path:
    """Return the folder that records the calls of snakemake for the experiment of this state folder."""
    return state.parents[4] / "heads"


def kernels_folder(model: Path) -> Path:
    """Return the cache folder of compiled GPU kernels, from the manifest of any staged model."""
    return model.parents[2] / KERNELS


def trackers_folder(run: Path) -> Path:
    """Return the folder for the trackers of the cell whose run.json is `run`."""
    return _beside_runs(run, "trackers")


def cell_beside(run: Path, task: str, variant: str) -> Path:
    """Return the folder of another task's cell with the same model and seed as the one whose run.json is `run`."""
    return run.parents[3] / task / variant / run.parent.name


def _beside_runs(run: Path, part: str) -> Path:
    cell = run.parent
    runs = cell.parents[3]
    return runs.parent / part / cell.relative_to(runs)


def examples_key(task_key: str, definition: dict) -> str:
    """Return the name of a task's examples: its staged data, and a hash of how they are read.

    It does not contain the task's alias, which other experiments may give to another task.
    """
    digest = hashlib.sha256(json.dumps([task_key, definition], sort_keys=True).encode()).hexdigest()[:8]
    return f"{task_key[: LONGEST_KEY - 15]}-{digest}"  # "-65536", the longest length, follows


def is_local(source: str) -> bool:
    """Tell whether a source is a local path (it starts with './', '../', '/' or '~/') rather than an id on the hub."""
    return source in (".", "..") or source.startswith(LOCAL_PREFIXES)


def resource_key(source: str, revision: str, folder: str = "", layout: dict | None = None) -> str:
    """Return the folder name of a staged resource, as one safe path component.

    Hub ids stay unique with '/' written as '--'. A hash of its path is appended to a local folder's name, since two
    folders may share a name; other ambiguous names get a hash, too. `layout` is what else determines the files of a
    task (task_files.py), or of a model.
    """
    exact = json.dumps([source, revision, folder] + ([layout] if layout else []), sort_keys=True)
    is_ambiguous = "--" in source + folder + revision or (folder and "/" not in source)
    if is_local(source):
        name = PurePosixPath(source).name or "folder"
        digest = hashlib.sha256(source.encode()).hexdigest()[:8]
        source = f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)[:48]}-{digest}"
    parts = [source, folder] if folder else [source]
    key = "--".join(parts).replace("/", "--") + "@" + revision.replace("/", "--")
    if layout or is_ambiguous or len(key) > LONGEST_KEY:
        key = f"{key[: LONGEST_KEY - 9]}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}"
    return key
