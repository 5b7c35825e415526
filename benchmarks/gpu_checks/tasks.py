"""Check 8: examples a second in training, on GLUE's nine tasks, against transformers.Trainer in three settings."""

import os
import statistics

import in_process
from arms import ARMS
from cells import BATCH_SIZE, Cell

from gluegrid.common.errors import in_one_line

from .materials import cell_of
from .setting import Findings, Setting

TASKS = ("mnli", "cola", "qnli", "sst2", "mrpc", "stsb", "qqp", "rte", "wnli")
TASKS_WITH_BEST_FLAGS = ("cola", "qnli", "mnli")
EXAMPLES = {"a": 512, "b": 2048, "c": 2048, "d": 2048}
EXAMPLES_PRETENDED = 64
SECONDS_TO_COMPILE = 30
AIMS = {"a": 8.0, "c": 1.5}  # times as fast as these arms, on an H100-class card


def measure(setting: Setting, findings: Findings) -> None:
    """Time arms a, b and d on all tasks, in turns, then the best flags on three; as far as the time reaches."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(setting.folder / "inductor")  # kernels are compiled once for all tasks
    rates: dict[str, dict[str, float]] = {}
    cells: dict[str, Cell] = {}
    slowest = 0.0
    for number, task in enumerate(setting.of(TASKS, TASKS[:1])):
        if setting.seconds_left < 2 * slowest:
            findings.note(f"the time was too short for {', '.join(TASKS[number:])}")
            break
        before = setting.seconds_left
        cells[task] = cell_of(setting, task, setting.size("base"), (setting.of(2048, EXAMPLES_PRETENDED), 1))
        order = ["a", "b", "d"][number % 3 :] + ["a", "b", "d"][: number % 3]
        rates[task] = {arm: _rate(setting, arm, cells[task]) for arm in order}
        slowest = max(slowest, before - setting.seconds_left)
        _keep(findings, rates)
    if setting.findings(0).get("figures", {}).get("has_bf16") is False:
        findings.note(f"without bf16, Trainer's best flags are not timed ({ARMS['c']})")
    else:
        _time_best_flags(
            setting, {task: cell for task, cell in cells.items() if task in TASKS_WITH_BEST_FLAGS}, rates, findings
        )
    for ratio, value in _means(rates).items():
        aim = f" ({AIMS[ratio[-1]]:g} times is the aim on an H100)" if ratio[-1] in AIMS else ""
        findings.note(f"{value:.2f} times as fast as {ARMS[ratio[-1]]}{aim}")


def _time_best_flags(setting: Setting, cells: dict[str, Cell], rates: dict, findings: Findings) -> None:
    """Time arm c, which compiles in a training that is not timed."""
    for task, cell in cells.items():
        if setting.seconds_left < SECONDS_TO_COMPILE:
            findings.note(f"the time was too short for Trainer's best flags on {task}")
            return
        try:
            rates[task]["c"] = _rate(setting, "c", cell)
        except Exception as error:  # what is missing to compile, say: no fault of ours
            findings.note(f"Trainer's best flags do not work here: {in_one_line(error)}")
            return
        _keep(findings, rates)


def _rate(setting: Setting, arm: str, cell: Cell) -> float:
    """Return an arm's examples a second in training, after one that is not timed."""
    examples = min(setting.of(EXAMPLES[arm], EXAMPLES_PRETENDED), cell.rows)
    measured = in_process.measure(arm, cell, examples, ["training"])["training"]
    return measured["examples"] / measured["seconds"]


def _keep(findings: Findings, rates: dict[str, dict[str, float]]) -> None:
    findings.figures |= {"examples_per_second": rates, "means": _means(rates), "batch_size": BATCH_SIZE}
    findings.save()


def _means(rates: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return how many times as fast as each other arm ours is, as the geometric mean over the tasks."""
    ratios = {arm: [of_task["d"] / of_task[arm] for of_task in rates.values() if arm in of_task] for arm in "abc"}
    return {f"d/{arm}": statistics.geometric_mean(values) for arm, values in ratios.items() if values}
