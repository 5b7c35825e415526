#!/usr/bin/env bash
# Train a pack of cells, as the shell command in rules/train.smk does for one cell.
#
#     launch_pack.sh PACK LOG CPUS
#
# PACK is the file that lists the cells, LOG the log of the process that starts them, CPUS the number of CPUs of their
# SLURM job. The shell ignores the signals that ask a job to end: the script has to save its work first, and SLURM kills
# the rest when the shell ends. In its own SLURM job, it starts a step, as Snakemake does for a cell, since SLURM sends
# signals to steps.
set -uo pipefail
trap '' TERM INT USR1

if [[ ${GLUEGRID_EXECUTOR-} == slurm && $# == 3 ]]; then
    srun --ntasks=1 --nodes=1 --cpus-per-task="$3" --cpu-bind=quiet bash "${BASH_SOURCE[0]}" "$@" in-step
    exit
fi

export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_EVALUATE_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1
scripts=${BASH_SOURCE[0]%/*}
bash "$scripts/launch.sh" 1 1 "$scripts/train_pack.py" --pack "$1" >> "$2" 2>&1
