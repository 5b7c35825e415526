"""Trace some steps with torch's profiler: kernels, launches by the host, and waits."""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.profiler import ProfilerActivity, profile

ON_DEVICE = {"kernel", "gpu_memcpy", "gpu_memset"}
BY_THE_HOST = {"cuda_runtime", "cuda_driver"}
LAUNCHES = re.compile(r"cu(da)?(LaunchKernel|GraphLaunch|Memcpy|Memset)")
WAITS = re.compile(r"cu(da)?(Stream|Device|Event)Synchronize|cuda(Memcpy|Memset)$|cu(Ctx|Stream)Synchronize")
ATTENTION = re.compile(r"flash|fmha|attention|sdpa|attn", re.IGNORECASE)
ATTENTION_OF_CUDNN = re.compile(r"cudnn.*(sdpa|fmha|attention|flash)", re.IGNORECASE)


@dataclass(frozen=True)
class Trace:
    """The events of `steps` steps, with times in microseconds."""

    steps: int
    events: list[dict]

    @classmethod
    def read(cls, path: Path, steps: int) -> "Trace":
        """Read what the profiler has exported."""
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
        return cls(steps, [event for event in events if event.get("ph") == "X" and "dur" in event])

    def figures(self) -> dict:
        """Return launches, waits and device operations per step, the share of busy time, and attention kernels."""
        on_device = self._of(ON_DEVICE)
        by_the_host = [event["name"] for event in self._of(BY_THE_HOST)]
        return {
            "launches": sum(LAUNCHES.match(name) is not None for name in by_the_host) / self.steps,
            "waits": sum(WAITS.match(name) is not None for name in by_the_host) / self.steps,
            "operations": len(on_device) / self.steps,
            "busy": _busy(on_device),
            "kernels_of_attention": sorted(name for name in self.kernels() if ATTENTION.search(name)),
        }

    def kernels(self) -> set[str]:
        """Return the names of the kernels that ran."""
        return {event["name"] for event in self._of({"kernel"})}

    def attention_of_cudnn(self) -> list[str]:
        """Return the names of cuDNN's attention kernels that ran."""
        return sorted(name for name in self.kernels() if ATTENTION_OF_CUDNN.search(name))

    def _of(self, categories: set[str]) -> list[dict]:
        return [event for event in self.events if event.get("cat") in categories]


def _busy(events: list[dict]) -> float:
    """Return the share of the time from the first event to the last during which at least one event lasted."""
    spans = sorted((event["ts"], event["ts"] + event["dur"]) for event in events)
    if not spans or spans[0][0] == max(end for _, end in spans):
        return 0.0
    busy, until = 0.0, spans[0][0]
    for begin, end in spans:
        busy += max(0.0, end - max(begin, until))
        until = max(until, end)
    return busy / (until - spans[0][0])


def traced(work: Callable[[], object], path: Path, skipped: int, steps: int) -> Trace:
    """Do some work with an optimizer in it; return the trace of `steps` of its steps, after the first `skipped`.

    The work must have that many steps.
    """
    on_card = torch.cuda.is_available()
    # With older CUDA, the profiler must not be loaded again between replays of CUDA graphs.
    os.environ |= {"TEARDOWN_CUPTI": "0", "DISABLE_CUPTI_LAZY_REINIT": "1"}
    profiler = profile(activities=[ProfilerActivity.CUDA if on_card else ProfilerActivity.CPU])
    done = 0

    def after_step(*_: object) -> None:
        nonlocal done
        done += 1
        if done == skipped:
            _wait(on_card)
            profiler.start()
        elif done == skipped + steps:
            _wait(on_card)
            profiler.stop()

    with _after_steps(after_step):
        work()
    profiler.export_chrome_trace(str(path))
    return Trace.read(path, steps)


@contextmanager
def _after_steps(function: Callable[..., None]) -> Iterator[None]:
    hook = register_optimizer_step_post_hook(function)
    try:
        yield
    finally:
        hook.remove()


def _wait(on_card: bool) -> None:
    if on_card:
        torch.cuda.synchronize()
