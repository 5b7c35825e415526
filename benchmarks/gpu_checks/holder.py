"""Note its process id and its GPUs, wait until it may go on, and train if it is told to: what check 6 launches.

    holder.py --run RUN_JSON NOTES GO [JSON file of the arguments for train.py]

The launcher reads RUN_JSON to know what to lease.
"""

import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path

TRAIN = Path(__file__).resolve().parents[2] / "scripts" / "train.py"


def main() -> None:
    """Do what the module's docstring says."""
    notes, go, *arguments = sys.argv[3:]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    noted = {"pid": os.getpid(), "cards": os.environ.get("CUDA_VISIBLE_DEVICES")}
    Path(f"{notes}.new").write_text(json.dumps(noted), encoding="utf-8")
    Path(f"{notes}.new").rename(notes)
    while not Path(go).exists():
        time.sleep(0.05)
    if arguments:
        sys.argv = [str(TRAIN), *json.loads(Path(arguments[0]).read_text(encoding="utf-8"))]
        sys.path.insert(0, str(TRAIN.parent))
        runpy.run_path(str(TRAIN), run_name="__main__")


if __name__ == "__main__":
    main()
