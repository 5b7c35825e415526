"""Values of the experiment file reach no shell, no path and no page as anything but text: a real run of odd ones."""

import re
import shutil

import pytest
import yaml
from clones import Clone, clone_into

from gluegrid.common.files import read_json

pytestmark = pytest.mark.long

ODD = 'we\'ird $(touch hacked1) "x"; touch hacked2 & `touch hacked3` | > hacked4 {wildcards.model} {params} {0} %s 中é'
DISPLAYED = "<script>alert(1)</script> | `x` $(touch hacked5) {wildcards} [a](javascript:b) **c**"


def test_odd_values_are_only_text(demo: Clone, tmp_path):
    clone = clone_into(tmp_path / "clone")
    generated = demo.root / "demo/generated"
    shutil.copytree(generated / "models/bert-demo-tiny", clone.root / ODD / "mo'del {0}")
    shutil.copytree(generated / "glue/rte", clone.root / ODD / "gl$ue" / "rte")
    task = {"source": f"./{ODD}/gl$ue", "display_name": DISPLAYED, "metric_label": "a|b\\"}
    config = {
        "experiment": "odd",
        "models": {"m": {"source": f"./{ODD}/mo'del {{0}}"}},
        "tasks": {"rte": task},
        **{"device": "cpu", "threads": 1, "max_train_samples": 32, "num_train_epochs": 1, "max_seq_length": 16},
    }
    (clone.root / "odd.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    done = clone.snakemake("--profile", "profiles/local", "--configfile", "odd.yaml")
    assert done.returncode == 0, done.stdout
    assert not list(clone.root.rglob("hacked*"))
    folder = clone.root / "results/odd/runs/m/rte/base/seed-42"
    assert read_json(folder / "run.json")["model"]["source"] == f"./{ODD}/mo'del {{0}}"
    assert read_json(folder / "all_results.json")["train_samples"] == 32
    page = (clone.root / "results/odd/results.md").read_text(encoding="utf-8")
    assert r"\<script\>alert(1)\</script\> \| \`x\` \$(touch hacked5) {wild" in page
    assert not re.search(r"(?<!\\)[<>*]", page.replace("runs/<model>/<task>/<variant>/seed-<seed>/", ""))
    staged = [path.name for kind in ("models", "tasks") for path in (clone.root / "resources" / kind).iterdir()]
    assert all(
        set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@-") for name in staged
    )
