"""Check 1: packed, static and captured batches give the same results as padded ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy
import torch
from cells import BATCH_SIZE, Cell
from in_process import forget_earlier_settings

from gluegrid.experiment.run import read_run
from gluegrid.models.deterministic_kernels import deterministic_or_else
from gluegrid.training.cell_trainer import CellTraining
from gluegrid.training.forward_pass import CUDA_GRAPHS, ForwardPass
from gluegrid.training.step_graphs import Capture, run_again

from .materials import cell_of
from .pretended import graphs
from .setting import Findings, Setting
from .traces import traced

LONGEST = 128
MOST_DIFFERENCE = {"fp32": 1e-5, "bf16": 5e-2}  # of a norm, relative
LEAST_COSINE = {"fp32": 0.999999, "bf16": 0.999}
STEPS = 12, 4  # the second if simulated
SKIPPED, TRACED = (6, 1), (4, 1)  # steps that are skipped, and traced kernel by kernel


def compare(setting: Setting, findings: Findings) -> None:
    """Compare logits and gradients, then the losses of some steps with dropout, with CUDA graphs and without."""
    has_bf16 = setting.findings(0).get("figures", {}).get("has_bf16") is not False
    for precision in ("fp32", "bf16") if has_bf16 else ("fp32",):
        cell = cell_of(setting, "mnli", setting.size("base"), (setting.of(*STEPS) * BATCH_SIZE, 1), precision=precision)
        findings.figures[precision] = _compare_layouts(_training(cell), precision, findings)
        findings.save()
        findings.figures[precision] |= _compare_graphs(setting, cell, precision, findings)
        findings.save()


@dataclass(frozen=True)
class MadeUpRows:
    """Rows of random tokens with given lengths (see gluegrid.training.dataset.Rows)."""

    lengths: numpy.ndarray
    input_ids: list[numpy.ndarray]
    token_type_ids: list[numpy.ndarray]
    labels: numpy.ndarray

    @classmethod
    def of(cls, lengths: list[int], vocabulary: int, outputs: int) -> "MadeUpRows":
        """Return rows of these lengths."""
        generator = numpy.random.default_rng(0)
        ids = [generator.integers(5, vocabulary, length) for length in lengths]
        types = [(numpy.arange(length) > length // 2).astype(int) for length in lengths]
        return cls(numpy.array(lengths), ids, types, generator.integers(outputs, size=len(lengths)))


def _batches(pretend: bool) -> dict[str, list[int]]:
    """Return the lengths of each batch's rows, the shortest first: shapes for which kernels were wrong elsewhere."""
    some = numpy.random.default_rng(1).integers(3, 60, 7 if pretend else BATCH_SIZE - 1).tolist()
    return {
        "a batch": sorted([*some, 61]),
        "longest 64": sorted([*some, 64]),
        "longest 128": sorted([*some, LONGEST]),
        "one row": [17],
        "a whole number of tiles": [LONGEST] * 2,
    }


def _training(cell: Cell, capture: Capture | None = run_again) -> CellTraining:
    forget_earlier_settings()
    run = replace(read_run(cell.run_json), max_train_samples=cell.rows)
    return CellTraining(run, cell.model.parent, cell.read_tokens(), capture=capture)


def _compare_layouts(training: CellTraining, precision: str, findings: Findings) -> dict:
    """Return how far logits and gradients of packed and static batches are from padded ones', without dropout."""
    model, forward = training.model, training.forward
    forward.longest = LONGEST
    findings.must(forward.why_padded is None, f"{precision}: batches are padded, since {forward.why_padded}")
    findings.must(forward.static is not None, f"{precision}: batches are not static")
    model.eval()
    figures = {}
    for name, lengths in _batches(training.accelerator.device.type == "cpu").items():
        rows = MadeUpRows.of(lengths, model.config.vocab_size, model.config.num_labels)
        with _computing(forward, static=None, why_padded="compared with"):
            expected = _logits_and_gradients(forward, rows)
        ways = {"static": {}, "packed": {"static": None}}
        for way, values in ways.items():
            with _computing(forward, **values):
                difference, cosine = _distance(_logits_and_gradients(forward, rows), expected)
            figures[f"{way}, {name}"] = {"difference": difference, "cosine": cosine}
            findings.must(
                difference <= MOST_DIFFERENCE[precision] and cosine >= LEAST_COSINE[precision],
                f"{precision}, {way}, {name}: differs from padded batches by {difference:.1e} (cosine {cosine:.6f})",
            )
    return figures


@contextmanager
def _computing(forward: ForwardPass, **values: object) -> Iterator[None]:
    """Set attributes of a forward pass for a while."""
    before = {name: getattr(forward, name) for name in values}
    vars(forward).update(values)
    try:
        yield
    finally:
        vars(forward).update(before)


def _logits_and_gradients(forward: ForwardPass, rows: MadeUpRows) -> torch.Tensor:
    """Return logits and gradients in one vector."""
    parameters = [parameter for parameter in forward.model.parameters() if parameter.requires_grad]

    def compute() -> list[torch.Tensor | None]:
        output = forward(rows, numpy.arange(len(rows.lengths)), with_labels=True)
        return [output.logits, *torch.autograd.grad(output.loss, parameters, allow_unused=True)]

    parts = [part for part in deterministic_or_else(compute) if part is not None]
    return torch.cat([part.detach().double().flatten() for part in parts])


def _distance(vector: torch.Tensor, expected: torch.Tensor) -> tuple[float, float]:
    """Return the norm of the difference, relative to the expected one's, and the cosine of the angle between both."""
    difference = (vector - expected).norm() / expected.norm()
    return float(difference), float(torch.nn.functional.cosine_similarity(vector, expected, dim=0))


def _compare_graphs(setting: Setting, cell: Cell, precision: str, findings: Findings) -> dict:
    """Train some steps with dropout, with CUDA graphs and without; losses must be the same bits. Check kernels, too."""
    captured = _training(cell, graphs() if setting.pretend else None)
    trace = traced(captured.train, setting.folder / "trace.json", setting.of(*SKIPPED), setting.of(*TRACED))
    plain = _training(cell)
    plain.train()
    losses = [training.training.state()["losses"] for training in (captured, plain)]
    paths = captured.compute_paths
    same = torch.equal(*losses)
    cudnn = trace.attention_of_cudnn()
    findings.must(same, f"{precision}: losses with graphs are not bitwise equal to those without")
    findings.must(paths == [CUDA_GRAPHS], f"{precision}: computed only by {', '.join(paths)}; check-1.log says why")
    findings.must(not cudnn, f"{precision}: attention used a cuDNN kernel: {cudnn[:1]}")
    return {"graphs": {"paths": paths, "same_bits": same, **trace.figures()}}
