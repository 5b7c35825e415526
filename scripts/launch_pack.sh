#!/usr/bin/env bash
# Train a pack of cells: what the shell of rules/train.smk is to one cell.
#
#     launch_pack.sh PACK LOG CPUS
#
# PACK is the file that names the cells, LOG that of the process which starts them, CPUS what a job of SLURM's has for
# them. The shell ignores the signals that ask a job to end: the script saves the work first, and SLURM kills what is
# left when the shell has ended. In a job of its own it starts a step, as Snakemake does for a cell: signals reach steps.
set -uo pipefail
trap '' TERM INT USR1

if [[ ${GLUEGRID_EXECUTOR-} == slurm && $# == 3 ]]; then
    srun --ntasks=1 --nodes=1 --cpus-per-task="$3" --cpu-bind=quiet bash "${BASH_SOURCE[0]}" "$@" in-step
    exit
fi

export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_EVALUATE_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1
scripts=${BASH_SOURCE[0]%/*}
bash "$scripts/launch.sh" 1 1 "$scripts/train_pack.py" --pack "$1" >> "$2" 2>&1
