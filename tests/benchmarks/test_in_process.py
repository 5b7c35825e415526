"""Arms leave nothing to those that come later in a process, and nothing is compiled while it is timed."""

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import in_process

from gluegrid.common.errors import DataError
from gluegrid.models.deterministic_kernels import use_deterministic_kernels


def compiles(shapes):
    """Return what compiles anew for each of the shapes, of which each call has one, and later ones the last."""
    compiled, calls = torch.compile(lambda tensor: tensor + 1, backend="eager", dynamic=False), []

    def measure():
        compiled(torch.zeros(shapes[min(len(calls), len(shapes) - 1)]))
        calls.append(True)
        return {"call": len(calls)}

    return measure


@pytest.mark.parametrize(("shapes", "call"), [([3], 2), ([5, 6, 7], 4)])
def test_a_call_in_which_something_is_compiled_does_not_count(shapes, call):
    measure = compiles(shapes)
    assert in_process._compiled_before(measure) == {"call": call}
    assert in_process._compiled_before(measure) == {"call": call + 1}


def test_what_compiles_without_end_is_not_measured():
    with pytest.raises(DataError, match=r"torch\.compile still compiles in call 4 with the same examples"):
        in_process._compiled_before(compiles([8, 9, 10, 11, 12]))


def train(steps, compiled_at=None):
    """Do steps of an optimizer; before one of them, compile something."""
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.ones(2)
    optimizer = torch.optim.SGD([weight])
    for step in range(steps):
        if step == compiled_at:
            torch._dynamo.reset()
            torch.compile(lambda tensor: tensor + 1, backend="eager")(torch.zeros(3))
        optimizer.step()


@pytest.mark.parametrize(("compiled_at", "counts"), [(None, False), (1, False), (5, True)])
def test_the_second_half_of_a_training_is_timed(compiled_at, counts):
    with in_process.steady_steps(7) as steady:
        train(7, compiled_at)
    assert (steady.steps, steady.have_compiled) == (4, counts)
    assert steady.seconds > 0


def test_other_steps_than_expected_are_not_timed():
    with pytest.raises(DataError, match="6 steps were done instead of 7"):
        with in_process.steady_steps(7):
            train(6)


def test_an_arm_begins_with_full_precision_and_any_kernels(monkeypatch):
    for name in ("CUBLAS_WORKSPACE_CONFIG", "TORCHINDUCTOR_DETERMINISTIC", "ACCELERATE_DYNAMO_BACKEND"):
        monkeypatch.setenv(name, "as an arm has set it")
    torch.backends.fp32_precision = "tf32"  # by Trainer, with torch_compile
    torch.backends.cuda.enable_cudnn_sdp(False)
    use_deterministic_kernels()
    in_process.forget_earlier_settings()
    assert torch.backends.cuda.matmul.fp32_precision == torch.backends.cudnn.conv.fp32_precision == "ieee"
    assert torch.backends.cuda.cudnn_sdp_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch._inductor.config.deterministic
    assert {"TORCHINDUCTOR_DETERMINISTIC", "ACCELERATE_DYNAMO_BACKEND"}.isdisjoint(os.environ)
