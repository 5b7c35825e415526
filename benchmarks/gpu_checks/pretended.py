"""What stands for a card on a machine without one: its nvidia-smi, its captured graphs, its memory that gives out."""

import os
from pathlib import Path

CARD = "GPU-00000000-1111-2222-3333-444444444444"
NVIDIA_SMI = f"""#!/bin/sh
case "$*" in
-L) echo "GPU 0: Pretended Card (UUID: {CARD})" ;;
*--query-compute-apps*) ;;
*--query-gpu=utilization.gpu*) echo 50 ;;
*--query-gpu=driver_version*) echo 580.0 ;;
*--query-gpu=*) echo "Pretended Card, {CARD}, 580.0, 81920, 4, 0, [N/A]" ;;
*) echo "| NVIDIA-SMI 580.0   Driver Version: 580.0   CUDA Version: 13.0 |" ;;
esac
"""


def put_nvidia_smi_first(folder: Path) -> None:
    """Let programs that this process starts find a stand-in for nvidia-smi, with one card that nobody uses."""
    folder.mkdir(parents=True)
    (folder / "nvidia-smi").write_text(NVIDIA_SMI, encoding="utf-8")
    (folder / "nvidia-smi").chmod(0o755)
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"


def graphs():
    """Return what stands for CUDA graphs (benchmarks/pretended_graphs.py)."""
    from pretended_graphs import PretendedGraphs

    return PretendedGraphs()
