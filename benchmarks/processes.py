"""Time whole processes, started as users start them: wall-clock and CPU seconds from call to exit."""

import ast
import json
import os
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from cells import MAX_SEQ_LENGTH, Cell, write_run

from gluegrid.common.errors import TrainingError
from gluegrid.common.files import read_json

PROJECT = Path(__file__).resolve().parents[1]
SCRIPTS = PROJECT / "scripts"
TRAIN_RULE = PROJECT / "rules" / "train.smk"


def measure(arm: str, cell: Cell, examples: int, folder: Path, device: str, threads: int) -> dict:
    """Train and evaluate a cell on so many examples with `accelerate launch`; return the seconds by part.

    (a) tokenizes in the same process. (d) finds the tokens, as in an experiment; tokenizing is timed separately. Raise
    TrainingError if a process fails.
    """
    limits = {"max_train_samples": examples, "max_eval_samples": examples}
    run_json = write_run(folder, cell.task, threads, device, **limits)
    if arm == "d":
        command, results = _ours(cell, run_json), run_json.with_name("all_results.json")
    else:
        command, results = _theirs(cell, run_json, folder), folder / "all_results.json"
    whole, of_processors = timed(command, threads)
    content = read_json(results)
    training, evaluation = content["train_runtime"], content["eval_runtime"]
    tokenising = content.get("tokenise_runtime", 0.0)
    seconds = {
        "whole process": whole,
        "of all processors": of_processors,
        "training": training,
        "evaluation": evaluation,
        "start-up and the rest": whole - training - evaluation - tokenising,
    }
    if arm == "d":
        tokenising, _ = timed(_tokenising(cell, folder), threads)
        whole += tokenising
    seconds |= {"tokenising": tokenising, "whole process, tokenising included": whole}
    return {"command": command, "examples": content["train_samples"], "seconds": seconds}


def timed(command: str, threads: int) -> tuple[float, float]:
    """Run a command in bash; return its wall-clock and CPU seconds. Raise TrainingError if it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ACCELERATE_", "SLURM_"))}
    environment |= {
        "GLUEGRID_SCRIPTS": str(SCRIPTS),
        "PYTHONPATH": str(SCRIPTS),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
    }
    before, started = _seconds_of_processors(), time.perf_counter()
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        raise TrainingError(f"{command}: exit code {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return seconds, _seconds_of_processors() - before


def _seconds_of_processors() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _tokenising(cell: Cell, folder: Path) -> str:
    """Return the command that tokenizes a cell's task again."""
    options = {
        "tokenizer": cell.model,
        "task": cell.data,
        "definition": json.dumps(vars(cell.task)),
        "max-seq-length": MAX_SEQ_LENGTH,
        "manifest": folder / "tokens" / "manifest.json",
    }
    return _command([sys.executable, SCRIPTS / "tokenize_task.py"], options)


def _command(words: list, options: dict[str, object]) -> str:
    return shlex.join(map(str, [*words, *(f"--{name}={value}" for name, value in options.items())]))


def _theirs(cell: Cell, run_json: Path, folder: Path) -> str:
    launch = ["accelerate", "launch", "--config_file", SCRIPTS / "accelerate.yaml"]
    script = PROJECT / "benchmarks" / "run_glue_process.py"
    options = {"run": run_json, "model": cell.model.parent, "data": cell.data.parent}
    options |= {"cache": cell.folder / "datasets", "output": folder}
    return _command([*launch, script], options)


class _Quoted(str):
    """A value that Snakemake's format `:q` would quote."""

    def __format__(self, how: str) -> str:
        return shlex.quote(self) if how == "q" else str(self)


def _ours(cell: Cell, run_json: Path) -> str:
    """Return the shell command of the rule `train`, read from its file."""
    lines = TRAIN_RULE.read_text(encoding="utf-8").rpartition("    shell:\n")[2]
    return ast.literal_eval(f"({lines})").format(
        input=_quoted(run=run_json, model=cell.model, task=cell.data, tokens=cell.tokens),
        output=_quoted(results=run_json.with_name("all_results.json"), record=run_json.with_name("run_record.json")),
        resources=SimpleNamespace(nodes=1, gpu=1),
        log=_Quoted("/dev/stderr"),  # shown if the process fails
    )


def _quoted(**paths: Path) -> SimpleNamespace:
    return SimpleNamespace(**{name: _Quoted(path) for name, path in paths.items()})
