"""`make disk`: what it counts, and how it tells."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from clones import copy_of

from gluegrid.operations.disk import DiskSpace, bytes_freed_by_removing, disk_use, short_size


def test_a_file_of_several_names_is_counted_once_and_frees_nothing(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/model").write_bytes(os.urandom(1_000_000))
    (tmp_path / "b").mkdir()
    os.link(tmp_path / "a/model", tmp_path / "b/model")
    (tmp_path / "c").symlink_to(tmp_path / "a")
    space = DiskSpace()
    assert 1_000_000 <= space.of(tmp_path / "a") < 1_100_000
    assert space.of(tmp_path / "b") < 100_000
    assert space.of(tmp_path, tmp_path / "nothing") < 100_000
    assert bytes_freed_by_removing(tmp_path / "a") < 100_000
    (tmp_path / "b/model").unlink()
    assert bytes_freed_by_removing(tmp_path / "a") >= 1_000_000


def test_sizes_are_short():
    assert [short_size(size) for size in (0, 999, 1000, 45_360_000, 999_940_000, 1.2e12)] == [
        *("0", "999", "1.0k", "45.4M", "999.9M", "1.2T"),
    ]


def test_what_was_compiled_for_gpus_is_told(tmp_path):
    kernels = tmp_path / "resources/kernels/torch-2-1234"
    kernels.mkdir(parents=True)
    (kernels / "kernel").write_bytes(os.urandom(1_000_000))
    (tmp_path / "results").mkdir()
    lines = disk_use(tmp_path / "results", tmp_path / "resources", tmp_path / ".snakemake").splitlines()
    (line,) = [line for line in lines if str(kernels.parent) in line]
    assert line.split() == ["1.0M", f"{kernels.parent}:", "kernels", "compiled", "for", "GPUs"]


def test_the_tables_name_each_part_and_who_uses_what(demo, tmp_path, monkeypatch):
    clone = copy_of(demo, tmp_path / "clone")
    monkeypatch.chdir(clone.root)
    cell = "bert-demo-tiny/rte/base/seed-42"
    model = Path(f"results/demo/runs/{cell}/model/model.safetensors")
    second_name = Path(f"results/demo/state/{cell}/last_good_result/model/model.safetensors")
    for path in (model, second_name):
        path.parent.mkdir()
    model.write_bytes(os.urandom(5_000_000))
    os.link(model, second_name)
    shutil.copytree("results/demo/heads", "results/another-experiment-with-a-rather-long-name/heads")
    Path("resources/models/old@main").mkdir()
    make = ["make", "--no-print-directory", "--old-file=.venv/installed", "disk"]
    told = subprocess.run(make, env=clone.full_environment(), capture_output=True, text=True, check=True).stdout
    lines = told.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["Experiment", "Runs", "Models", "State", "Logs", "Heads", "Trackers", "All"]
    assert lines[1].startswith("another-experiment-with-a... ")
    demo_row = lines[2].split()
    assert demo_row[0] == "demo"
    assert demo_row[2] == "5.0M"
    assert demo_row[3].endswith("k")
    by_du = subprocess.run(["du", "-s", "-B1", "results/demo"], capture_output=True, text=True, check=True).stdout
    assert demo_row[-1] == short_size(int(by_du.split()[0]))
    users = dict(re.findall(r"^ *\S+    (\S+)\n +(.*)$", told, re.MULTILINE))
    assert users["old@main"] == "not used by the last plan of any experiment"
    staged = {path.parent for path in Path("resources").glob("*/*/manifest.json")} - {Path("resources/models/old@main")}
    assert len(staged) == 11
    assert {users[path.name] for path in staged} == {"used by another-experiment-with-a-rather-long-name, demo"}
    only = disk_use(Path("results"), Path("resources"), Path(".snakemake"), "demo")
    assert "another-experiment-with-a..." not in only
    assert "old@main" not in only
