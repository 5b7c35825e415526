"""Run `accelerate launch` with its usual arguments, importing only what it needs.

First, set up the cell's environment and, on a machine without a scheduler, lease its GPUs.
"""

import sys
from collections.abc import Callable

from gluegrid.common.cli import quick_imports, run_script
from gluegrid.execution.cell_gpus import lease_gpus_of_cell
from gluegrid.execution.environment import make_environment_of_cell
from gluegrid.execution.scratch import note_scratch


def main() -> None:
    """Launch the script on the command line."""
    note_scratch()
    make_environment_of_cell()
    lease_gpus_of_cell(sys.argv[1:])
    load_launch()()


def load_launch() -> Callable[[], None]:
    """Return accelerate's main function, imported only after the lease, whose descriptors it must pass on."""
    with quick_imports():
        from accelerate.commands.launch import main as launch
    return launch


if __name__ == "__main__":
    run_script(main)
