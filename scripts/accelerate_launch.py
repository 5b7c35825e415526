"""`accelerate launch`, with its arguments: accelerate's own program, without its other commands, imported quickly.

Here the cell's environment is made; on a machine of several GPUs, its GPUs are leased.
"""

import sys
from collections.abc import Callable

from gluegrid.common.cli import quick_imports, run_script
from gluegrid.execution.cell_gpus import lease_gpus_of_cell
from gluegrid.execution.environment import make_environment_of_cell
from gluegrid.execution.scratch import note_scratch


def main() -> None:
    """Launch what the command line says."""
    note_scratch()
    make_environment_of_cell()
    lease_gpus_of_cell(sys.argv[1:])
    load_launch()()


def load_launch() -> Callable[[], None]:
    """Return accelerate's program. It is imported only here, after the lease, whose descriptors it has to hand on."""
    with quick_imports():
        from accelerate.commands.launch import main as launch
    return launch


if __name__ == "__main__":
    run_script(main)
