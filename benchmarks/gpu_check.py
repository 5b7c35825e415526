"""`make gpu-check`: check that a GPU does what gluegrid needs, and how fast, before you spend GPU-hours.

Each check runs in a process of its own with a time limit; if one fails or times out, the others still run. Print a line
and update gpu-check.json after each; exit with 0 only if none has failed. docs/gpu.md says how to read the results.
With --pretend, every check's code runs on the CPU, with tiny models and a few rows.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[1] / folder) for folder in ("scripts", "demo"))

from gpu_checks.running import Check, run_all
from gpu_checks.setting import Setting

from gluegrid.common.cli import run_script
from gluegrid.common.errors import DataError

CHECKS = (
    # number, name, limit in seconds, module and function of gpu_checks
    Check(0, "versions, driver and GPU", 25, "machine.look"),
    Check(1, "packed, static and captured as padded", 40, "layouts.compare"),
    Check(2, "fp32 as transformers.Trainer", 35, "against_trainer.fp32"),
    Check(3, "bf16 as transformers.Trainer", 25, "against_trainer.bf16"),
    Check(4, "runs repeated, packed, killed -9 twice", 70, "kills.compare"),
    Check(5, "out of memory", 35, "memory.run_out"),
    Check(6, "two launches, one GPU", 35, "leases.share"),
    Check(7, "a step against the GPU's limits", 60, "steps.measure"),
    Check(8, "nine tasks against transformers.Trainer", 135, "tasks.measure"),
    Check(9, "estimates against what was measured", 5, "estimates.compare"),
)
SECONDS_IN_ALL = 480
SECONDS_PRETENDED = 600  # per check; enough for any processor, to stop only what hangs
PROJECT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("GLUEGRID_SHARED", PROJECT.parent / "shared"))


def main() -> None:
    """Run the requested checks; exit with 1 if one has failed."""
    # Before any library reads them, and not when this module is only imported.
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    options = parse_arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="gluegrid-gpu-check-"))
    try:
        setting = Setting(folder, options.out.resolve(), options.data, options.tokenizer, options.pretend)
        # The others need the result of the first.
        checks = [check for check in CHECKS if not options.only or check.number in (0, *options.only)]
        seconds = SECONDS_PRETENDED * len(checks) if options.pretend else SECONDS_IN_ALL
        all_are_well = run_all(checks, setting, seconds, SECONDS_PRETENDED if options.pretend else None)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    raise SystemExit(0 if all_are_well else 1)


def parse_arguments() -> argparse.Namespace:
    """Return the options. Raise DataError for a folder that does not exist."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--out", type=Path, default=PROJECT / "gpu-check", help="folder for gpu-check.json and the checks' logs")
    add("--data", type=Path, default=SHARED / "glue", help="folder with a folder of parquet files for each task")
    add("--tokenizer", type=Path, default=SHARED / "models" / "minilm-l6-h384", help="folder with a BERT tokenizer")
    add("--only", type=int, nargs="+", choices=[check.number for check in CHECKS], help="numbers of checks")
    add("--pretend", action="store_true", help="run every check's code on the CPU, with tiny models and a few rows")
    options = parser.parse_args()
    for name in ("data", "tokenizer"):
        folder = getattr(options, name)
        if folder == parser.get_default(name) and (options.pretend or not folder.is_dir()):
            setattr(options, name, None)  # made up
        elif not folder.is_dir():
            raise DataError(f"--{name}: there is no folder {folder}; name another, or leave --{name} out")
    return options


if __name__ == "__main__":
    run_script(main)
