"""Check 7: how close a step comes to the GPU's limits, how many rows fit, and how fast a large split is predicted."""

import gc

import floor
import in_process
import torch
from cells import BATCH_SIZE, MAX_SEQ_LENGTH, Cell

from gluegrid.experiment.run import read_run
from gluegrid.training.device import precision_of

from .materials import cell_of, ours_on, random_folder
from .memory import largest_batch
from .setting import Findings, Setting
from .traces import traced

VALUES = {"per_device_train_batch_size": BATCH_SIZE, "max_seq_length": MAX_SEQ_LENGTH}
FLOORS = {
    "floor_seconds": "the time of the GPU's fastest matrix product and copy",
    "floor_seconds_at_real_shapes": "the same with the model's own matrix products",
}
AIMS = {"base": 2.0, "large": 1.5}  # times the floor with matrix products at their real shapes, on an H100-class GPU
SKIPPED, TRACED = (8, 1), (5, 1)  # steps skipped, and traced kernel by kernel; the second number if simulated
SECONDS_OF_TRIALS, SECONDS_PRETENDED = 6, 500
ROWS = 2048
TIMES_OF_LARGE = 8  # times the seconds of base's rows: two trainings, whose steps take 4 times as long
SECONDS_TO_PREDICT = 15  # QQP's validation set, twice; skipped if less time is left
AIM_OF_PREDICTING = 5.0


def measure(setting: Setting, findings: Findings) -> None:
    """Time steps at MNLI's lengths in the best precision of the GPU; look at some of them in detail."""
    findings.figures |= {"steps": {}, "values": VALUES}
    cell = _cell(setting, "base")
    findings.figures["steps"]["base"] = base = _step(setting, cell, "base", findings)
    findings.save()
    _look_closer(setting, cell, findings)
    findings.save()
    _forget()
    _predict(setting, findings)
    findings.save()
    _forget()
    if setting.pretend:
        return  # large would be the same tiny model again
    if TIMES_OF_LARGE * ROWS // BATCH_SIZE * base["seconds"] > setting.seconds_left:
        findings.note("there was not enough time for large")
        return
    findings.figures["steps"]["large"] = _step(setting, _cell(setting, "large"), "large", findings)


def _cell(setting: Setting, size: str) -> Cell:
    return cell_of(setting, "mnli", setting.size(size), (setting.of(ROWS, 3 * BATCH_SIZE), 1))


def _predict(setting: Setting, findings: Findings) -> None:
    """Time the prediction of QQP's validation set."""
    if setting.seconds_left < SECONDS_TO_PREDICT:
        findings.note("there was not enough time to predict QQP's validation set")
        return
    cell = cell_of(setting, "qqp", setting.size("base"), (BATCH_SIZE, setting.of(40_430, 64)))
    findings.figures["qqp"] = measured = in_process.measure("d", cell, BATCH_SIZE, ["evaluation"])["evaluation"]
    findings.note(
        f"base: QQP's validation set ({measured['examples']:,} rows) is predicted in {measured['seconds']:.1f} s"
        f" (goal on an H100: {AIM_OF_PREDICTING:.0f} s)"
    )


def _step(setting: Setting, cell: Cell, size: str, findings: Findings) -> dict:
    """Return the time of a step, those of the floors beneath it, and the peak of GPU memory in a training."""
    peak = None
    if not setting.pretend:
        torch.cuda.reset_peak_memory_stats()
        ours_on(setting, cell).train()
        peak = torch.cuda.max_memory_reserved()
        _forget()
    measured = floor.measure(cell)
    told = [f"{measured['seconds'] / measured[name]:.1f} times {what}" for name, what in FLOORS.items()]
    findings.note(
        f"{size}: a step takes {1e3 * measured['seconds']:.1f} ms: {'; '.join(told)}"
        f" (goal for the last on an H100: {AIMS[size]} times)"
    )
    model = random_folder(setting, setting.size(size)).relative_to(setting.folder)
    about = {"model": str(model), "precision": precision_of(read_run(cell.run_json)), "peak_bytes": peak}
    return measured | about


def _look_closer(setting: Setting, cell: Cell, findings: Findings) -> None:
    """Trace some steps of a warm training, and try how many rows its model holds."""
    _forget()
    skipped, steps = setting.of(*SKIPPED), setting.of(*TRACED)
    ours = ours_on(setting, cell, (skipped + steps) * BATCH_SIZE)
    trace = traced(ours.train, setting.folder / "trace.json", skipped, steps)
    findings.figures["trace"] = seen = trace.figures()
    findings.figures["paths"] = ours.training.compute_paths
    findings.must(not trace.attention_of_cudnn(), f"attention used a cuDNN kernel: {trace.attention_of_cudnn()[:1]}")
    findings.note(
        f"base: a step has {seen['launches']:.0f} launches and {seen['waits']:.0f} waits for the GPU, which is busy"
        f" {seen['busy']:.0%} of the time; computed by {', '.join(ours.training.compute_paths)}"
    )
    rows = cell.read_tokens().split(cell.task.train)
    findings.figures["largest_batch"] = tried = largest_batch(
        ours, rows, setting, setting.of(SECONDS_OF_TRIALS, SECONDS_PRETENDED)
    )
    more = "" if tried["too_many"] else ", perhaps more"
    findings.note(
        f"base: the GPU holds {tried['fits']:,} rows of {tried['tokens_of_a_row']} tokens at once{more}; larger"
        " batches are computed in parts"
    )


def _forget() -> None:
    gc.collect()
    torch.cuda.empty_cache()
