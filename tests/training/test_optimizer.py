"""Steps that fp16 leaves out. The scaler is torch's own, which computes on a CPU too."""

import math

import builders
import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer

from gluegrid.training.cell_trainer import CellTraining
from gluegrid.training.optimizer import adamw, make_moments, step_once

PAIR = builders.task(text_columns=["first", "second"], labels=builders.NLI_LABELS)

pytestmark = pytest.mark.usefixtures("one_thread", "fresh_accelerator")


@pytest.mark.parametrize("first_scale", [2.0**16, 1.0])
def test_a_step_is_done_unless_a_gradient_is_infinite(first_scale):
    Accelerator(cpu=True)
    weight = torch.nn.Parameter(torch.ones(2, 2))
    scaler = torch.amp.GradScaler("cpu", init_scale=first_scale, growth_interval=1)
    optimizer = AcceleratedOptimizer(adamw([weight], builders.run(PAIR)), device_placement=False, scaler=scaler)
    make_moments(optimizer)
    done, changed = [], []
    for factor in (1.0, math.inf, math.nan, 1.0):
        before = weight.detach().clone()
        scaler.scale(factor * weight.sum()).backward()
        done.append(step_once(optimizer))
        changed.append(not torch.equal(weight, before))
        optimizer.zero_grad()
    assert done == changed == [True, False, False, True]


def test_without_a_scaler_every_step_is_done():
    accelerator = Accelerator(cpu=True)
    weight = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = accelerator.prepare_optimizer(adamw([weight], builders.run(PAIR)), device_placement=False)
    make_moments(optimizer)
    weight.grad = torch.ones(2, 2)
    assert step_once(optimizer)


def test_the_schedule_waits_for_a_step_that_is_left_out(tmp_path, monkeypatch):
    files = builders.cell_files(
        tmp_path, PAIR, builders.write_model(tmp_path / "source"), train=builders.rows(24, PAIR)
    )
    run = builders.run(PAIR, num_train_epochs=1, learning_rate=1e-3, max_grad_norm=0.0)
    cell = CellTraining(run, *files)
    cell.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    backward, step, rates = Accelerator.backward, torch.optim.AdamW.step, []

    def infinite_once(self, loss):
        backward(self, loss * (math.inf if len(rates) == 2 else 1))

    def noting(self, *arguments, **options):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments, **options)

    monkeypatch.setattr(Accelerator, "backward", infinite_once)
    monkeypatch.setattr(torch.optim.AdamW, "step", noting)
    cell.train()
    assert rates == pytest.approx([1e-3 * left / 6 for left in (6, 5, 4, 4, 3, 2)])
