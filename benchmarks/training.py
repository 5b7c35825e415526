"""Training, evaluation and whole processes: transformers.Trainer as run_glue.py uses it, against ours.

Arms take turns with the same weights and examples; each figure is the median of several turns.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))

import report
from sizes import SIZES

from gluegrid.common.cli import run_script
from gluegrid.common.errors import DataError

TASKS = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
PARTS = tuple(report.HEADINGS)
EXAMPLES = {"cpu": 512, "cuda": 8192}
SHARED = Path(os.environ.get("GLUEGRID_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def main() -> None:
    """Measure, and print a Markdown table."""
    # Before any library reads them.
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    # As ours sets it, since a process reads it only once, whichever arm comes first.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    options = parse_arguments()
    from turns import measure_all  # takes seconds to import

    with tempfile.TemporaryDirectory(prefix="gluegrid-benchmark-") as folder:
        result = measure_all(options, Path(folder))
    print(report.markdown(result["tables"]))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    """Return the options, with dependent defaults filled in. Raise DataError for a folder that does not exist."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, default=SHARED / "glue", help="folder with a folder of parquet files for each task")
    add("--model", type=Path, default=SHARED / "models" / "minilm-l6-h384", help="folder of the model to fine-tune")
    add("--random-model", choices=SIZES, help="a BERT of this size with random weights instead")
    add("--tokenizer", type=Path, help="folder with the tokenizer of a random model (default: the model's)")
    add("--tasks", nargs="+", choices=TASKS, default=TASKS, help="tasks of training and evaluation")
    add("--process-tasks", nargs="+", choices=TASKS, default=["mrpc"], help="tasks of whole processes")
    add("--examples", type=int, help="training examples of each turn (default: 512 on a CPU, 8192 on a GPU)")
    add("--eval-examples", type=int, help="most examples to evaluate (default: the number of training examples)")
    add("--repeats", type=int, default=3, help="turns of each arm")
    add("--device", choices=EXAMPLES, default="cpu", help="device to train on")
    add("--threads", type=int, default=os.cpu_count(), help="CPU threads of all arms")
    add("--arms", nargs="+", choices="abcd", default=list("abcd"), help="arms to compare")
    add("--parts", nargs="+", choices=PARTS, help="parts to measure (default: all, but steps only on a GPU)")
    add("--step-sizes", nargs="+", choices=SIZES, default=["base", "large"], help="random models whose steps are timed")
    add("--json", type=Path, help="file to write with the table, all measurements, machine and versions")
    options = parser.parse_args()
    options.examples = options.examples or EXAMPLES[options.device]
    options.eval_examples = options.eval_examples or options.examples
    options.tokenizer = options.tokenizer or options.model
    for name in ("data", "model", "tokenizer"):
        if not getattr(options, name).is_dir():
            raise DataError(f"--{name}: there is no folder {getattr(options, name)}; name another")
    if options.parts is None:
        options.parts = [part for part in PARTS if part != "steps" or options.device == "cuda"]
    return options


if __name__ == "__main__":
    run_script(main)
