"""`make gpu-check` says what it should of checks that go well, fail, hang, skip or die; its code needs no card."""

import json
import os
import subprocess
import sys

import builders
import pytest
from gpu_checks.machine import of_card, warnings, why_unusable
from gpu_checks.traces import Trace
from trainable_cell import is_alive
from waiting import HANG, wait_until

BENCHMARKS = builders.SCRIPTS.parent / "benchmarks"
NUMBERS = list(range(10))
# gpu_check.py as it is called, whose first check may take as long as this machine needs.
PATIENT = f"""
import sys
sys.path[:0] = [{str(BENCHMARKS)!r}]
from dataclasses import replace
import gpu_check
gpu_check.CHECKS = tuple(replace(check, seconds={HANG}) for check in gpu_check.CHECKS)
gpu_check.SECONDS_IN_ALL = 10 * {HANG}
gpu_check.run_script(gpu_check.main)
"""
# Checks that are played, in a module of their own beside the real ones. The limit of what hangs is all that passes.
PLAYED = f"""
import os, signal, subprocess, sys, time, types
from pathlib import Path

sys.path[:0] = [{str(BENCHMARKS)!r}, {str(builders.SCRIPTS)!r}]
from gpu_checks import pretended, running
from gpu_checks.running import Check
from gpu_checks.setting import Setting, SkippedError

folder = Path(sys.argv[1])


def well(setting, findings):
    findings.figures["answer"] = 42
    findings.note("all is well")

def unmet(setting, findings):
    findings.must(True, "this holds")
    findings.must(False, "the losses differ")
    findings.must(False, "TF32 is on")

def raises(setting, findings):
    raise ValueError("the shape is wrong")

def hangs(setting, findings):
    time.sleep({HANG})

def skips(setting, findings):
    raise SkippedError("this GPU does not support bf16")

def dies(setting, findings):
    child = subprocess.Popen(["sleep", "{HANG}"])
    (folder / "child").write_text(str(child.pid))
    findings.figures["before"] = 1
    findings.save()
    os.kill(os.getpid(), signal.SIGKILL)

def useless(setting, findings):
    findings.figures["is_usable"] = False
    findings.must(False, "the driver is too old")


played = types.ModuleType("gpu_checks.played")
vars(played).update({{function.__name__: function for function in (well, unmet, raises, hangs, skips, dies, useless)}})
sys.modules["gpu_checks.played"] = played
limits = {{"hangs": 2}}
checks = [
    Check(number, name, limits.get(name, {HANG}), f"played.{{name}}") for number, name in enumerate(sys.argv[3:])
]
setting = Setting(folder, folder, None, None, pretend=True)
raise SystemExit(not running.run_all(checks, setting, float(sys.argv[2])))
"""


def play(folder, *names, seconds=10 * HANG):
    """Run played checks; return the exit code, what was printed, and the results by the checks' names."""
    folder.mkdir()
    process = builders.python(PLAYED, folder, seconds, *names)
    printed, errors = process.communicate(timeout=HANG)
    assert not errors
    content = json.loads((folder / "gpu-check.json").read_text())
    return process.returncode, printed, {result["name"]: result for result in content["checks"]}


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    folder = tmp_path_factory.mktemp("played") / "out"
    return folder, *play(folder, "unmet", "raises", "hangs", "dies", "skips", "well")


def test_after_checks_that_fail_the_others_go_on(played):
    _, code, printed, results = played
    assert code == 1
    assert {name: result["result"] for name, result in results.items()} == {
        "unmet": "failed",
        "raises": "failed",
        "hangs": "failed",
        "dies": "failed",
        "skips": "skipped",
        "well": "ok",
    }
    assert printed.splitlines()[-1].startswith("1 ok, 4 failed, 1 skipped; ")
    assert results["well"]["figures"] == {"answer": 42}


def test_each_line_says_why(played):
    _, _, printed, results = played
    whys = {name: result["why"] for name, result in results.items()}
    assert whys == {
        "unmet": "the losses differ; TF32 is on",
        "raises": "ValueError: the shape is wrong (check-1.log has more)",
        "hangs": "took longer than 2 s",
        "dies": "its process was killed by SIGKILL",
        "skips": "this GPU does not support bf16",
        "well": None,
    }
    lines = {line.split()[1]: line for line in printed.splitlines() if line[0].isdigit()}
    assert all(why in lines[name] for name, why in whys.items() if why)
    assert "all is well" in printed


def test_the_log_of_a_check_has_its_traceback(played):
    assert "in raises\nValueError: the shape is wrong" in (played[0] / "check-1.log").read_text()


def test_figures_of_a_killed_check_stay_and_what_it_has_started_ends(played):
    folder, _, _, results = played
    assert results["dies"]["figures"] == {"before": 1}
    child = int((folder / "child").read_text())
    assert wait_until(lambda: not is_alive(child))


def test_all_well_is_exit_code_0(tmp_path):
    code, printed, results = play(tmp_path / "out", "well", "skips")
    assert (code, [result["result"] for result in results.values()]) == (0, ["ok", "skipped"])
    assert printed.splitlines()[-1].startswith("1 ok, 1 skipped; ")


def test_without_a_card_that_can_be_used_nothing_else_is_tried(tmp_path):
    code, _, results = play(tmp_path / "out", "useless", "dies")
    assert (code, results["dies"]["result"]) == (1, "skipped")
    assert results["dies"]["why"] == "no GPU can be used here; the first check says why"


def test_what_the_time_of_all_does_not_reach_is_skipped(tmp_path):
    code, _, results = play(tmp_path / "out", "well", "well", seconds=0)
    assert code == 0
    assert results["well"]["why"] == "the total time limit of all checks is over"


@pytest.fixture(scope="module")
def pretended(tmp_path_factory, pytestconfig):
    """What `make gpu-check PRETEND=1` says, and its JSON."""
    folder = tmp_path_factory.mktemp("gpu-check")
    command = ["make", "--old-file=.venv/installed", "gpu-check", "PRETEND=1", f"OUT={folder}"]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "MAKE", "MFLAGS"))
    }
    done = subprocess.run(
        command, cwd=pytestconfig.rootpath, env=environment, capture_output=True, text=True, timeout=len(NUMBERS) * HANG
    )
    logs = "".join(path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("*.log")))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    return done.stdout, json.loads((folder / "gpu-check.json").read_text())


def test_every_check_is_ok_in_a_pretence(pretended):
    printed, content = pretended
    assert {check["number"]: (check["result"], check["why"]) for check in content["checks"]} == dict.fromkeys(
        NUMBERS, ("ok", None)
    )
    assert content["pretended"]
    assert [int(line.split()[0]) for line in printed.splitlines() if line[:1].isdigit() and "; " not in line] == NUMBERS


def test_checks_have_done_what_they_are_for(pretended):
    figures = [check["figures"] for check in pretended[1]["checks"]]
    assert figures[0]["is_usable"]
    assert figures[0]["packages"]["torch"] is not None
    assert figures[1]["fp32"]["graphs"]["paths"] == figures[1]["bf16"]["graphs"]["paths"] == ["cuda_graphs"]
    assert "static, longest 128" in figures[1]["bf16"]
    assert {task: figures[2][task]["steps"] for task in ("sst2", "stsb", "mnli")} == dict.fromkeys(
        ("sst2", "stsb", "mnli"), 2
    )
    assert figures[4]["fp32"]["times_continued"] == 2
    assert figures[5]["forward"]["micro_batch_rows"] == figures[5]["backward"]["micro_batch_rows"] == 8
    assert figures[6]["card_of_the_second"] == figures[6]["cards"][0]
    assert figures[7]["largest_batch"] == {
        "fits": 96,
        "tokens_of_a_row": figures[7]["largest_batch"]["tokens_of_a_row"],
        "too_many": 104,
    }
    assert set(figures[8]["examples_per_second"]["mnli"]) == set("abcd")
    assert figures[9]["base"]["expected_bytes"] > 0


def test_on_a_machine_without_a_card_the_first_check_fails_and_the_others_are_skipped(tmp_path):
    """The checks are no forks here, but processes started as they are for a card."""
    command = [sys.executable, "-c", PATIENT, "--only", "2", "9", "--out", tmp_path]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=HANG)
    content = json.loads((tmp_path / "gpu-check.json").read_text())
    assert done.returncode == 1, done.stdout + done.stderr
    results = {check["number"]: (check["result"], check["why"]) for check in content["checks"]}
    assert results.keys() == {0, 2, 9}
    assert results[2] == results[9] == ("skipped", "no GPU can be used here; the first check says why")
    assert results[0][0] == "failed"
    assert "torch" in results[0][1]
    assert not content["pretended"]


@pytest.mark.parametrize(
    ("of_torch", "of_driver", "words"),
    [
        ("13.0", "13.0", None),
        ("13.0", "13.2", None),
        ("12.8", "12.4", None),  # minor versions go together
        ("13.0", "12.8", "the driver 570.1 supports CUDA up to 12.8, but the installed torch is built for CUDA 13.0"),
        ("13.0", None, "no NVIDIA driver is loaded here"),
        (None, "13.0", "the installed torch is built for CPUs only"),
    ],
)
def test_a_card_that_torch_cannot_use_is_told_in_words(of_torch, of_driver, words):
    why = why_unusable(of_torch, of_driver, ["570.1"])
    assert why is None if words is None else why.startswith(words)


def told(**changes):
    card = {"memory.used": "4", "mig.mode.current": "[N/A]"}
    figures = {"has_bf16": True, "visible": ["GPU-1"], "cards": [card], "processes": []}
    return warnings(figures | {"cuda_of_driver": "13.0", "cuda_of_torch": "13.0"} | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"has_bf16": False}, "not support bf16"),
        ({"processes": [{"pid": "1", "used_memory": "500"}]}, "others use this GPU: 1 processes"),
        ({"cards": [{"memory.used": "9000", "mig.mode.current": "[N/A]"}]}, "9000 MiB"),
        ({"cards": [{"memory.used": "4", "mig.mode.current": "Enabled"}]}, "MIG"),
        ({"visible": ["GPU-1", "GPU-2"]}, "2 GPUs are visible here; the first"),
        ({"cuda_of_driver": "12.4", "cuda_of_torch": "12.8"}, "torch.compile"),
    ],
)
def test_what_a_user_must_know_of_a_card_is_told(changes, words):
    (warning,) = told(**changes)
    assert words in warning


@pytest.mark.parametrize(
    ("visible", "expected"), [(["GPU-2", "GPU-1"], ["GPU-2"]), (["MIG-7"], ["GPU-1", "GPU-2"]), ([], [])]
)
def test_of_several_cards_the_one_that_is_checked_is_told_of(visible, expected):
    rows = [{"uuid": "GPU-1"}, {"uuid": "GPU-2"}]
    assert [row["uuid"] for row in of_card(rows, "uuid", visible)] == expected


def test_of_a_card_as_it_should_be_nothing_is_told():
    assert told() == []


def test_a_trace_is_counted_by_step():
    events = [
        ("cuda_runtime", "cudaLaunchKernel", 0, 5),
        ("cuda_runtime", "cudaLaunchKernelExC", 5, 5),
        ("cuda_driver", "cuLaunchKernelEx", 10, 5),
        ("cuda_runtime", "cudaGraphLaunch", 15, 5),
        ("cuda_runtime", "cudaMemcpyAsync", 20, 5),
        ("cuda_runtime", "cudaStreamSynchronize", 25, 50),
        ("cuda_runtime", "cudaEventRecord", 80, 1),
        ("kernel", "flash_fwd_kernel<cutlass>", 10, 20),
        ("kernel", "sm90_xmma_gemm", 20, 20),
        ("gpu_memcpy", "Memcpy HtoD", 80, 10),
        ("cpu_op", "aten::mm", 0, 100),
    ]
    names = ("cat", "name", "ts", "dur")
    trace = Trace(2, [dict(zip(names, event, strict=True)) for event in events])
    assert trace.figures() == {
        "launches": 2.5,
        "waits": 0.5,
        "operations": 1.5,
        "busy": 40 / 80,
        "kernels_of_attention": ["flash_fwd_kernel<cutlass>"],
    }
    assert trace.attention_of_cudnn() == []


def test_attention_of_cudnn_is_known_by_its_kernels():
    name = "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7"
    others = ["flash_fwd_kernel", "cudnn::ops::nchwToNhwcKernel"]
    trace = Trace(1, [{"cat": "kernel", "name": each, "ts": 0, "dur": 1} for each in (name, *others)])
    assert trace.attention_of_cudnn() == [name]


IMPORT_ALL = f"""
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0].startswith("snakemake"):
            raise ImportError(name + " is not there")

sys.meta_path.insert(0, Blocked())
sys.path[:0] = [{str(BENCHMARKS)!r}, {str(builders.SCRIPTS)!r}, {str(BENCHMARKS.with_name("demo"))!r}]
import gpu_check, gpu_checks, train
for module in pkgutil.iter_modules(gpu_checks.__path__):
    importlib.import_module("gpu_checks." + module.name)
import accelerate_launch, gluegrid.training.run_cell
accelerate_launch.load_launch()
print(*(name for name in sys.modules if name.startswith("gpu_checks.")))
"""


def test_all_of_it_can_be_imported_without_snakemake():
    process = builders.python(IMPORT_ALL)
    printed, errors = process.communicate(timeout=HANG)
    assert process.returncode == 0, errors
    assert {"gpu_checks.layouts", "gpu_checks.estimates", "gpu_checks.running"} <= {*printed.split()}
