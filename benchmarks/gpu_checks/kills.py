"""Check 4: a cell gives the same result when trained again, in a pack, and when killed twice with kill -9."""

import dataclasses

import numpy
import pyarrow.parquet
from cells import Cell

from gluegrid.common.errors import TrainingError
from gluegrid.common.files import read_json, sha256
from gluegrid.experiment.run import MODEL

from .launching import checkpoints_of, result_of, start_pack, start_training, wait_for
from .materials import cell_of, with_values
from .setting import Findings, Setting

KILLS = 2
RUNS = ("first", "second", "packed", "killed")
SECONDS_BETWEEN_CHECKPOINTS = 0.1


def compare(setting: Setting, findings: Findings) -> None:
    """Train the same cell four times in each precision, all at once, and compare the results.

    They start without a launcher, which would lease the GPU to only one of them. The pack has a cell of each precision.
    """
    has_bf16 = setting.findings(0).get("figures", {}).get("has_bf16") is not False
    precisions = setting.of(("fp32", "bf16") if has_bf16 else ("fp32",), ("fp32",))
    rows = setting.of((2048, 256), (256, 32))
    cell = cell_of(setting, "mrpc", setting.size("mini"), rows)
    values = {"num_train_epochs": setting.of(10, 20), "save_model": "last"}
    runs = {
        (precision, name): with_values(setting, cell, precision=precision, **values)
        for precision in precisions
        for name in RUNS
    }
    alone = ("first", "second")
    others = {key: start_training(setting, each) for key, each in runs.items() if key[1] in alone}
    pack = start_pack(setting, [runs[precision, "packed"] for precision in precisions])
    for precision in precisions:
        killed_at = train_and_kill(setting, runs[precision, "killed"])
        findings.figures[precision] = {"killed_after": killed_at}
    for key, process in others.items():
        wait_for(result_of(runs[key]).exists, "its result", process)
        process.join()
    pack.join()
    findings.must(pack.exitcode == 0, "the pack failed: check-4-pack.log and the logs that it names say why")
    for precision in precisions:
        _compare(precision, [Outcome.read(runs[precision, name]) for name in RUNS], findings)


def train_and_kill(setting: Setting, cell: Cell) -> list[str]:
    """Train a cell to its end; kill the first attempts with kill -9, each after its first new checkpoint.

    Return the checkpoints after which it was killed.
    """
    killed_at = []
    for _ in range(KILLS):
        before = checkpoints_of(cell)
        process = start_training(setting, cell, SECONDS_BETWEEN_CHECKPOINTS)
        wait_for(lambda known=before: checkpoints_of(cell) - known, "a checkpoint", process)
        killed_at.append(max(checkpoints_of(cell)))
        process.kill()
        process.join()
        if result_of(cell).exists():
            raise TrainingError("a training was over before it could be killed; it needs more epochs")
    process = start_training(setting, cell)
    wait_for(result_of(cell).exists, "its result", process)
    process.join()
    return killed_at


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of a run: hash of weights, mean loss, logits, resumptions, and whether its bits are repeatable."""

    weights: str
    loss: float
    logits: numpy.ndarray
    times_continued: int
    is_repeatable: bool

    @classmethod
    def read(cls, cell: Cell) -> "Outcome":
        """Read what a cell's training has published."""
        folder = cell.run_json.parent
        record = read_json(folder / "run_record.json")
        predictions = pyarrow.parquet.read_table(folder / f"predictions_{cell.validation}.parquet")
        return cls(
            weights=sha256(folder / MODEL / "model.safetensors"),
            loss=read_json(result_of(cell))["train_loss"],
            logits=numpy.stack(predictions.column("logits").to_numpy()),
            times_continued=len(record["continued"]),
            is_repeatable=record.get("deterministic", True),
        )

    def differs_from(self, other: "Outcome") -> float:
        """Return the largest difference of loss and logits; 0 only if all, including weights, are the same bits."""
        difference = max(abs(self.loss - other.loss), float(numpy.abs(self.logits - other.logits).max()))
        return difference or (0.0 if self.weights == other.weights else numpy.finfo(float).tiny)


def _compare(precision: str, outcomes: list[Outcome], findings: Findings) -> None:
    first, second, packed, killed = outcomes
    repeated, in_pack, after_kills = (first.differs_from(other) for other in (second, packed, killed))
    continued, promised = killed.times_continued, all(outcome.is_repeatable for outcome in outcomes)
    figures = {"repeated": repeated, "in_a_pack": in_pack, "after_kills": after_kills}
    figures |= {"times_continued": continued, "promised": promised}
    findings.figures[precision] |= figures
    findings.must(continued == KILLS, f"{precision}: the killed run resumed {continued} times instead of {KILLS}")
    if promised:
        findings.must(repeated == 0, f"{precision}: two runs of the same cell differ by {repeated:.1e}")
        findings.must(in_pack == 0, f"{precision}: a cell in a pack differs from one alone by {in_pack:.1e}")
        findings.must(after_kills == 0, f"{precision}: the killed run differs from another by {after_kills:.1e}")
    else:
        findings.note(
            f"{precision}: this GPU lacks some deterministic kernels; two runs of a cell differ by"
            f" {repeated:.1e}, one in a pack by {in_pack:.1e}, the killed one by {after_kills:.1e}"
        )
