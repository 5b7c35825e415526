"""Packed or alone: the same bits."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest
from builders import SCRIPTS
from clones import Clone, copy_of

LOCAL = ("--profile", "profiles/local", "--configfile", "demo/config.yaml", "--cores", "2", "--resources", "gpu=2")
ALONE = ("--set-resources", "train:pack_minutes=0")
# A regression and a classification, the last of their packs: whatever those before have left would be in them.
CELLS = ("bert-demo-small/wnli", "bert-demo-tiny/stsb")
TIMES = ("runtime", "per_second")
# What of a fork could not touch CUDA any more, were it touched before.
WITHOUT_CUDA = """
import sys
sys.path.insert(0, {scripts!r})
import torch
calls = []
torch.cuda._lazy_init = lambda: calls.append("CUDA was begun")
import train_pack
from gluegrid.execution.packs import read_pack
from pathlib import Path
train_pack.import_libraries(read_pack(Path(sys.argv[1])).cells[0])
assert "sklearn.metrics" in sys.modules and "transformers.models.bert.modeling_bert" in sys.modules
print(calls)
"""


@pytest.mark.long
def test_a_cell_of_a_pack_has_the_numbers_of_one_alone(demo: Clone, tmp_path: Path):
    clone = copy_of(demo, tmp_path / "clone")
    packed = {cell: clone.root / "results/demo/runs" / cell / "base/seed-42" for cell in CELLS}
    before = {cell: tmp_path / cell.replace("/", "-") for cell in CELLS}
    for cell, folder in packed.items():
        shutil.copytree(folder, before[cell])
        shutil.rmtree(folder)
    shutil.rmtree(clone.root / "results/demo/state")
    done = clone.snakemake(*LOCAL, *ALONE)
    assert done.returncode == 0, done.stdout
    for cell, folder in packed.items():
        alone, was = (json.loads((path / "run_record.json").read_text()) for path in (folder, before[cell]))
        assert "pack" in was["job"]
        assert "pack" not in alone["job"]
        for key in ("run_sha256", "predictions_sha256", "model_files", "tokens_files", "versions", "precision"):
            assert alone[key] == was[key], key
        alone, was = (json.loads((path / "all_results.json").read_text()) for path in (folder, before[cell]))
        assert alone.keys() == was.keys()
        assert {key: alone[key] for key in alone if not key.endswith(TIMES)} == {
            key: was[key] for key in was if not key.endswith(TIMES)
        }
        for file in folder.glob("predictions_*.parquet"):
            assert pyarrow.parquet.read_table(file).equals(pyarrow.parquet.read_table(before[cell] / file.name))


def test_nothing_of_cuda_is_touched_before_the_first_fork(demo: Clone):
    pack = next(iter((demo.root / "results/demo/heads").glob("*.packs/*.json")))
    program = [sys.executable, "-c", WITHOUT_CUDA.format(scripts=str(SCRIPTS)), str(pack)]
    done = subprocess.run(program, cwd=demo.root, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
