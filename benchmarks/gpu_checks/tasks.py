"""Check 8: training examples per second on GLUE's nine tasks, against transformers.Trainer in three settings."""

import os
import statistics
from functools import partial

from arms import ARMS, Ours, Theirs
from cells import BATCH_SIZE
from in_process import forget_earlier_settings, steady_steps

from gluegrid.common.errors import DataError, in_one_line

from .materials import cell_of
from .setting import Findings, Setting

TASKS_WITH_BEST_FLAGS = ("mnli", "cola", "qnli")
TASKS = (*TASKS_WITH_BEST_FLAGS, "sst2", "mrpc", "stsb", "qqp", "rte", "wnli")
ROWS = {"a": 512, "b": 1024, "c": 1024, "d": 1024}  # of which the second half is timed
EPOCHS = {"a": 1, "b": 1, "c": 1, "d": 8}  # so that the fastest arm is not timed for too short
ROWS_PRETENDED = 64
MOST_TRAININGS = 3  # until one compiles nothing while it is timed
SECONDS_TO_COMPILE = 30
AIMS = {"a": 8.0, "c": 1.5}  # times as fast as these arms, on an H100-class GPU

Rates = dict[str, dict[str, float]]  # examples per second, by task and arm


def measure(setting: Setting, findings: Findings) -> None:
    """Time arms a, b and d on all tasks, in turns, and the best flags on three of them, as far as time permits."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(setting.folder / "inductor")  # kernels are compiled once for all tasks
    rates: Rates = {}
    slowest = 0.0
    for number, task in enumerate(setting.of(TASKS, TASKS[:1])):
        if setting.seconds_left < 2 * slowest:
            findings.note(f"there was not enough time for {', '.join(TASKS[number:])}")
            break
        before = setting.seconds_left
        arms = ["a", "b", "d"]
        rates[task] = {}
        for arm in arms[number % 3 :] + arms[: number % 3]:
            rates[task][arm] = _rate(setting, arm, task)
            _keep(findings, rates)
        slowest = max(slowest, before - setting.seconds_left)
        if task in TASKS_WITH_BEST_FLAGS:
            _time_best_flags(setting, task, rates, findings)
    for ratio, value in _means(rates).items():
        aim = f" (goal on an H100: {AIMS[ratio[-1]]:g} times)" if ratio[-1] in AIMS else ""
        findings.note(f"{value:.2f} times as fast as {ARMS[ratio[-1]]}{aim}")


def _time_best_flags(setting: Setting, task: str, rates: Rates, findings: Findings) -> None:
    """Time arm c; if it cannot compile, that is no failure of ours."""
    if setting.findings(0).get("figures", {}).get("has_bf16") is False:
        findings.note(f"{task}: without bf16, Trainer's best flags are not timed")
    elif setting.seconds_left < SECONDS_TO_COMPILE:
        findings.note(f"{task}: there was not enough time for Trainer's best flags")
    else:
        try:
            rates[task]["c"] = _rate(setting, "c", task)
        except Exception as error:
            findings.note(f"{task}: Trainer's best flags do not work here: {in_one_line(error)}")
        _keep(findings, rates)


def _rate(setting: Setting, arm: str, task: str) -> float:
    """Return an arm's examples per second in the second half of a training. Raise DataError if it keeps compiling."""
    cell = cell_of(setting, task, setting.size("base"), (setting.of(ROWS[arm], ROWS_PRETENDED), 1))
    forget_earlier_settings()
    epochs = setting.of(EPOCHS[arm], 1)
    make = Ours if arm == "d" else partial(Theirs, arm)
    trainee = make(cell, cell.rows, epochs)
    for _ in range(MOST_TRAININGS):
        with steady_steps(cell.rows // BATCH_SIZE * epochs) as steady:
            trainee.train()
        if not steady.have_compiled:
            return steady.steps * BATCH_SIZE / steady.seconds
    raise DataError(f"torch.compile still compiles in training {MOST_TRAININGS} on the same examples")


def _keep(findings: Findings, rates: Rates) -> None:
    findings.figures |= {"examples_per_second": rates, "means": _means(rates), "batch_size": BATCH_SIZE}
    findings.save()


def _means(rates: Rates) -> dict[str, float]:
    """Return how many times as fast as each other arm ours is: the geometric mean over the tasks."""
    ratios = {
        arm: [of_task["d"] / of_task[arm] for of_task in rates.values() if {arm, "d"} <= of_task.keys()]
        for arm in "abc"
    }
    return {f"d/{arm}": statistics.geometric_mean(values) for arm, values in ratios.items() if values}
