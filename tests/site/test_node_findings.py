"""What a node's report means: card, driver and torch, clocks, disks; and the quotas of the login node."""

import copy
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from gluegrid.site import cards, node_findings, node_report, quotas
from gluegrid.site.cards import advice_for, build_for, driver_runs, torch_build
from gluegrid.site.quotas import Quota, quotas_in
from gluegrid.site.reporting_job import Answer

FINE = {
    "node": "node7",
    "has_python": True,
    "python": platform.python_version(),
    "seen": {"/project/results/.marker": True},
    "clock": 0.0,
    "given": "0",
    "cards": {"error": None, "cards": [{"name": "NVIDIA L40S", "memory_mb": "46068", "driver": "580.95.05"}]},
    "torch": {
        "error": None,
        "version": "2.13.0+cu130",
        "is_available": True,
        "count": 1,
        "capability": [8, 9],
        "built_for": ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"],
    },
    "network": {"error": "timed out", "status": None, "is_json": False},
    "scratch": [{"path": "/tmp", "name": "/tmp", "free": 10**11, "kind": "xfs", "is_local": True}],
    "shm": 10**10,
    "sbatch": None,
}


@pytest.fixture(autouse=True)
def _torch_for_cuda_13(monkeypatch):
    monkeypatch.setattr(node_findings, "torch_build", lambda: ("2.13.0", "13.0"))


def findings(wants_card: bool = True, behind: float = 0.0, seconds: float = 1.0, **changes) -> list:
    """Return what is found of a node that is fine but for some changes; of a key's part, as key__part."""
    report = copy.deepcopy(FINE)
    for name, value in changes.items():
        key, _, part = name.partition("__")
        if part:
            report[key][part] = value
        else:
            report[key] = value
    return [*node_findings.findings(Answer("1", report, behind, seconds), wants_card)]


def card(**changes: str) -> list[dict]:
    return [FINE["cards"]["cards"][0] | changes]


def test_a_node_on_which_all_is_well():
    assert {finding.mark for finding in findings()} == {"ok"}
    told = [finding.what for finding in findings()]
    assert "NVIDIA L40S, 48.3 GB, driver 580.95.05" in told
    assert "local scratch: /tmp 100.0 GB (xfs); set `scratch: /tmp` in the profile to use it" in told


@pytest.mark.parametrize(
    ("changes", "mark", "said", "advice"),
    [
        ({"has_python": False}, "FAULT", "node7 does not have .venv/bin/python of this clone", "a disk that nodes see"),
        ({"python": "3.6.8"}, "FAULT", ".venv/bin/python is 3.6.8 on the node", "a disk that nodes see"),
        (
            {"seen": {"/home/a/results/.m": False}},
            "FAULT",
            "the node does not see this machine's /home/a/results",
            "a disk that nodes see",
        ),
        ({"seconds": 50.0}, "note", "are seen here only after 50 s", "latency-wait"),
        ({"behind": 5.0}, "note", "the clocks of this machine and the shared disk differ by 5 s", "set the clocks"),
        (
            {"clock": -5.0, "behind": 1.0},
            "note",
            "the clocks of the node and this machine differ by 6 s",
            "set the clocks",
        ),
        ({"clock": 400.0}, "FAULT", "the clocks of the node and the shared disk differ by 400 s", "set the clocks"),
        (
            {"cards": {"error": "nvidia-smi: No such file", "cards": []}, "torch__is_available": False},
            "FAULT",
            "SLURM gave the job a GPU (CUDA_VISIBLE_DEVICES=0), but none is visible",
            "check the node's driver",
        ),
        (
            {"cards": {"error": "No devices were found", "cards": []}, "given": None, "torch__is_available": False},
            "FAULT",
            "SLURM did not set CUDA_VISIBLE_DEVICES; No devices were found",
            "gres.conf",
        ),
        (
            {"cards__cards": card(driver="550.54.15")},
            "FAULT",
            "torch 2.13.0 is for CUDA 13.0, which needs driver 580.65.06 or newer; here it is 550.54.15",
            "install torch==2.13.0+cu126 (for CUDA 12.6",
        ),
        (
            {"cards__cards": card(driver="470.82.01")},
            "FAULT",
            "needs driver 580.65.06 or newer; here it is 470.82.01",
            "no build of torch 2.13.0 fits: ask the site for driver 580 or newer",
        ),
        (
            {"torch__capability": [7, 0]},
            "FAULT",
            "torch 2.13.0 has no code for this GPU (compute capability 7.0)",
            "install torch==2.13.0+cu126",
        ),
        ({"torch__is_available": False, "torch__capability": None}, "FAULT", "sees no GPU there", "ask the site"),
        (
            {"torch__error": "ImportError: libcudart.so.13"},
            "FAULT",
            "torch fails there: ImportError",
            "install torch==",
        ),
        ({"given": None, "torch__count": 4}, "FAULT", "a job for one GPU sees 4", "ConstrainDevices"),
        ({"scratch": []}, "note", "too little local scratch (none)", "leave `scratch` out"),
        ({"shm": 64 * 2**20}, "note", "/dev/shm: 67.1 MB free", "`gpus` at 1"),
        ({"sbatch": "sbatch: none"}, "note", "a job may not submit jobs: sbatch: none", "login node"),
    ],
)
def test_what_is_not_well_is_told_with_what_to_do(changes, mark, said, advice):
    (finding,) = [finding for finding in findings(**changes) if finding.mark != "ok"]
    assert (finding.mark, said in finding.what, advice in finding.advice) == (mark, True, True), finding


def test_a_build_without_cuda_is_a_fault_on_a_card_and_none_where_no_card_is_wanted(monkeypatch):
    monkeypatch.setattr(node_findings, "torch_build", lambda: ("2.13.0+cpu", None))
    (finding,) = [finding for finding in findings(torch__is_available=False) if finding.mark != "ok"]
    assert "torch 2.13.0+cpu is built without CUDA" in finding.what
    assert "torch==2.13.0+cu130" in finding.advice
    without = {"error": "nvidia-smi: No such file or directory", "cards": []}
    assert {finding.mark for finding in findings(wants_card=False, cards=without)} == {"ok"}


def test_a_card_of_another_maker_is_seen_by_torch_alone():
    without = {"error": "nvidia-smi: No such file or directory", "cards": []}
    found = findings(cards=without, torch__name="AMD Instinct MI250X", torch__version="2.13.0+rocm6.4")
    assert {finding.mark for finding in found} == {"ok"}
    assert "torch 2.13.0+rocm6.4 computes on AMD Instinct MI250X" in [finding.what for finding in found]


@pytest.mark.parametrize(
    ("built_for", "capability", "has_code"),
    [
        (["sm_75", "sm_80"], (8, 9), True),
        (["sm_90"], (8, 9), False),
        (["sm_80"], (9, 0), False),
        (["sm_90", "compute_90"], (12, 0), True),
        (["sm_100", "sm_120"], (12, 0), True),
        (["sm_90a"], (9, 0), True),
        (["sm_70"], (6, 1), False),
        (["gfx90a"], (9, 0), False),
        ([], (9, 0), True),
    ],
)
def test_a_build_has_code_for_a_card(built_for, capability, has_code):
    assert node_findings._has_code_for(capability, built_for) is has_code


@pytest.mark.parametrize(
    ("driver", "capability", "suffix"),
    [
        ("580.65.06", (8, 0), "+cu130"),
        ("595.10", (12, 0), "+cu130"),
        ("580.65.05", (8, 0), "+cu126"),
        ("525.60.13", (7, 0), "+cu126"),
        ("580.95.05", (6, 1), "+cu126"),
        ("570.00", (12, 0), None),
        ("525.60.12", (8, 0), None),
        ("580.95.05", None, "+cu130"),
        ("what?", (8, 0), None),
    ],
)
def test_the_build_for_a_driver_and_a_card(driver, capability, suffix):
    build = build_for(driver, capability)
    assert (build and build.suffix) == suffix


def test_a_cuda_that_is_not_known_is_no_verdict():
    assert driver_runs("580.95.05", "14.1") is None
    assert driver_runs("580.95.05", "12.6") is True


def test_an_older_card_may_also_be_helped_by_another_build_alone():
    assert "driver 580 or newer" in advice_for("550.54.15", (8, 0), "2.13.0+cu130")


@pytest.mark.parametrize(
    ("text", "cuda"),
    [
        ("cuda: Optional[str] = '13.0'\n", "13.0"),
        ("cuda = '12.6'\n", "12.6"),
        ("cuda: Optional[str] = None\nrocm = '6.4'\n", None),
    ],
)
def test_the_build_is_read_from_torchs_files(text, cuda, tmp_path, monkeypatch):
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError", encoding="utf-8")
    (package / "version.py").write_text(text, encoding="utf-8")
    spec = type("Spec", (), {"origin": str(package / "__init__.py")})
    monkeypatch.setattr(cards.importlib.util, "find_spec", lambda _: spec)
    monkeypatch.setattr(cards.metadata, "version", lambda _: "2.13.0")
    assert torch_build() == ("2.13.0", cuda)


def test_looking_at_the_build_imports_no_torch(project):
    code = (
        "import sys; from gluegrid.site.cards import torch_build; print(torch_build() is None, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project / "scripts", capture_output=True, text=True)
    assert done.stdout == "False False\n"


def test_what_is_sent_to_a_node_imports_nothing_of_ours():
    source = Path(node_report.__file__).read_text(encoding="utf-8")
    assert "import gluegrid" not in source
    assert "from gluegrid" not in source
    assert "END_OF_THE_REPORT" not in source


QUOTA = """Disk quotas for user alice (uid 1000):
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
fileserver:/home/with/a/long/name
                 9500000  10000000 11000000 0     1000       0       0 0
/dev/sda1        12000000*  10000000 13000000 1764900000     99*     90     100 1764900000
"""
LUSTRE = "     /scratch  [1048576]  0  0  -  950000  1000000  1100000 -\n     /scratch/wide 5 0 31457280 - 5 0 0 -\n"


def test_quotas_of_both_programs():
    assert quotas_in(QUOTA) == [
        Quota("fileserver:/home/with/a/long/name", "kB", 9500000, 10000000),
        Quota("/dev/sda1", "kB", 12000000, 10000000),
        Quota("/dev/sda1", "files", 99, 90),
    ]
    assert quotas_in(LUSTRE) == [
        Quota("/scratch", "files", 950000, 1000000),
        Quota("/scratch/wide", "kB", 5, 31457280),
    ]
    assert quotas_in("Disk quotas for user alice (uid 1000): none\nWelcome | to all\n") == []
    marks = [quota.finding().mark for quota in quotas_in(QUOTA + LUSTRE)]
    assert marks == ["note", "FAULT", "FAULT", "note", "ok"]


def test_a_quota_program_that_fails_says_what_it_can(tmp_path, monkeypatch):
    program = tmp_path / "quota"
    program.write_text(f"#!/bin/sh\n# A stub.\ncat <<'END'\n{QUOTA}END\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert len([*quotas.quota_findings([], "alice")]) == 3
