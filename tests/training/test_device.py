"""What a GPU is set to, what is recorded of it, and how busy it was.

The GPU is a mock: CUDA's functions, and a program in nvidia-smi's place, that say what they would say.
"""

import os
import time
from types import SimpleNamespace

import builders
import pytest
import torch
from waiting import HANG

from gluegrid.common.errors import TransientError
from gluegrid.execution.isolation import ALLOCATOR, GROWING_SEGMENTS
from gluegrid.training import device
from gluegrid.training.device import Utilisation, describe_device, prepare_device, set_precision, uuid_of_gpu

RUN = builders.run(builders.task(), device="cuda", precision="auto")
PRECISIONS = {
    "all": torch.backends,
    "matrix products": torch.backends.cuda.matmul,
    "cuDNN": torch.backends.cudnn,
    "convolutions": torch.backends.cudnn.conv,
}


@pytest.fixture
def torch_as_it_was():
    """Set back what a test sets for the whole process."""
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    yield
    torch.set_deterministic_debug_mode("default")
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.backends.cuda.enable_cudnn_sdp(True)
    torch.backends.cudnn.benchmark = benchmark
    torch.set_num_threads(threads)
    set_precision("fp32")


@pytest.fixture
def card(monkeypatch, torch_as_it_was):
    """A card of 40 GB; return what is called of it, in order."""
    calls = []

    def noted(name, answer=None):
        def call(*arguments, **options):
            calls.append((name, *arguments))
            return answer

        return call

    class Accelerator:
        num_processes = 1

        def __init__(self, **options):
            calls.append(("Accelerator", options["mixed_precision"]))

    properties = SimpleNamespace(uuid="48aeb6b1-bd3c-d6c2-2b36-8a5b0a1b2c3d", total_memory=40_000_000_000)
    answers = {
        "is_available": True,
        "device_count": 1,
        "set_device": None,
        "is_bf16_supported": True,
        "get_device_name": "NVIDIA A100-SXM4-40GB",
        "get_device_properties": properties,
        "max_memory_allocated": 3_000_000_000,
        "max_memory_reserved": 4_000_000_000,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, noted(name, answer))
    monkeypatch.setattr(torch, "zeros", noted("zeros"))
    monkeypatch.setattr(device, "Accelerator", Accelerator)
    for name in ("CUBLAS_WORKSPACE_CONFIG", "TORCHINDUCTOR_DETERMINISTIC", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")  # so that what is set meanwhile is undone
        monkeypatch.delenv(name)
    return calls


def test_a_gpu_computes_the_same_bits_each_time_and_not_by_cudnns_attention(card):
    torch.backends.cudnn.benchmark = True
    prepare_device(RUN)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled(), "attention's backward would not be"
    assert not torch.utils.deterministic.fill_uninitialized_memory
    assert not torch.backends.cudnn.benchmark
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert (os.environ["CUBLAS_WORKSPACE_CONFIG"], os.environ["TORCHINDUCTOR_DETERMINISTIC"]) == (":4096:8", "1")


def test_a_workspace_of_the_users_stays(card, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    prepare_device(RUN)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_each_process_asks_its_own_card_for_its_precision(card, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setenv("LOCAL_RANK", "2")
    prepare_device(RUN)
    names = [name for name, *_ in card]
    assert ("set_device", 2) in card
    assert names.index("set_device") < min(names.index("is_bf16_supported"), names.index("zeros"))
    assert card[-1] == ("Accelerator", "bf16")


def test_processes_that_would_share_a_gpu_are_refused(card, monkeypatch):
    """Of two MIG slices, CUDA shows each process the first; accelerate would let both use it."""
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1,MIG-2")
    run = builders.run(builders.task(), device="cuda", gpus=2)
    with pytest.raises(
        TransientError,
        match=r"gpus: 2, but CUDA shows a process only 1 on .*MIG-1,MIG-2.*; it never shows more than one MIG slice",
    ):
        prepare_device(run)
    assert ("zeros", 1) not in card


def fails_with(message, calls):
    def zeros(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 1:
            raise RuntimeError(message)

    return zeros


def test_a_card_that_others_have_filled_is_an_error_of_this_moment(card, monkeypatch):
    monkeypatch.setattr(torch, "zeros", fails_with("CUDA error: out of memory", []))
    with pytest.raises(TransientError, match="has no memory left; look with nvidia-smi"):
        prepare_device(RUN)


def test_without_growing_segments_memory_is_taken_as_it_was(card, monkeypatch):
    settings, calls = [], []
    monkeypatch.setattr(torch, "zeros", fails_with("CUDA driver error: operation not supported", calls))
    monkeypatch.setattr(torch.cuda.memory, "_set_allocator_settings", settings.append)
    monkeypatch.setenv(ALLOCATOR, GROWING_SEGMENTS)
    prepare_device(RUN)
    assert (settings, len(calls)) == (["expandable_segments:False"], 2)


def test_settings_of_the_users_allocator_are_not_changed(card, monkeypatch):
    monkeypatch.setattr(torch, "zeros", fails_with("CUDA driver error: operation not supported", []))
    monkeypatch.setenv(ALLOCATOR, "backend:cudaMallocAsync")
    with pytest.raises(RuntimeError, match="operation not supported"):
        prepare_device(RUN)


def set_the_older_switches():
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True


def set_one_by_one():
    for backend in PRECISIONS.values():
        backend.fp32_precision = "tf32"


@pytest.mark.parametrize(
    "set_before",
    [
        lambda: None,
        lambda: torch.set_float32_matmul_precision("medium"),
        lambda: setattr(torch.backends, "fp32_precision", "tf32"),  # as Trainer's torch_compile does
        set_the_older_switches,
        set_one_by_one,
    ],
)
def test_fp32_is_computed_in_full_whatever_the_process_has_set_before(torch_as_it_was, set_before):
    set_before()
    set_precision("fp32")
    assert {name: backend.fp32_precision for name, backend in PRECISIONS.items()} == dict.fromkeys(PRECISIONS, "ieee")
    # Nobody who reads the older switches is refused.
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


def test_tf32_is_set_everywhere_too(torch_as_it_was):
    set_precision("tf32")
    assert {name: backend.fp32_precision for name, backend in PRECISIONS.items()} == dict.fromkeys(PRECISIONS, "tf32")
    assert torch.backends.cuda.matmul.allow_tf32


def test_a_gpu_and_its_memory_are_recorded(card):
    prepare_device(RUN)
    described = describe_device(RUN)
    assert described["peak_memory_bytes"]["gpu"] == 3_000_000_000
    assert described["peak_memory_bytes"]["gpu_reserved"] == 4_000_000_000
    assert (described["gpu_memory_bytes"], described["is_mig_slice"]) == (40_000_000_000, False)
    assert described["deterministic"] is True
    torch.set_deterministic_debug_mode("default")
    assert describe_device(RUN)["deterministic"] is False


def test_a_cpu_is_recorded_without_a_gpu():
    described = describe_device(builders.run(builders.task()))
    assert described["peak_memory_bytes"].keys() == {"host", "gpu", "gpu_reserved"}
    assert described["peak_memory_bytes"]["gpu_reserved"] is described["gpu_memory_bytes"] is None
    assert (described["is_mig_slice"], described["deterministic"]) == (False, True)


@pytest.mark.parametrize(
    ("name", "kind"), [("NVIDIA A100-SXM4-40GB", "GPU"), ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "MIG")]
)
def test_nvidia_smi_knows_a_slice_by_another_name(card, monkeypatch, name, kind):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
    assert uuid_of_gpu(RUN) == f"{kind}-48aeb6b1-bd3c-d6c2-2b36-8a5b0a1b2c3d"
    assert describe_device(RUN)["is_mig_slice"] == (kind == "MIG")


def says(folder, monkeypatch, script):
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    monkeypatch.setattr(device, "SECONDS_BETWEEN_SAMPLES", 0.01)


def measured(folder, gpu, samples=0):
    """Wait until nvidia-smi was asked so often."""
    with Utilisation(threads=2, gpu=gpu) as used:
        deadline = time.monotonic() + HANG
        while time.monotonic() < deadline and len(used._samples) < samples:
            time.sleep(0.01)
    return used.measured


def test_the_gpus_samples_are_averaged(tmp_path, monkeypatch):
    asked = tmp_path / "asked"
    says(tmp_path, monkeypatch, f'echo "$@" >> {asked}\n[ $(wc -l < {asked}) = 1 ] && echo 50 || echo 100')
    assert 0.5 < measured(tmp_path, "GPU-7", samples=2)["gpu"] < 1
    assert asked.read_text().splitlines()[0].endswith("--id=GPU-7")


@pytest.mark.parametrize("script", ["exit 9", "echo '[N/A]'", "echo 'No devices were found'; exit 6", "echo"])
def test_a_gpu_that_does_not_tell_is_no_error(tmp_path, monkeypatch, script):
    says(tmp_path, monkeypatch, script)
    with Utilisation(threads=2, gpu="GPU-7") as used:
        used._sampler.join(HANG)
        assert not used._sampler.is_alive()
    assert used.measured["gpu"] is None


def test_the_processors_share_is_that_of_all_threads_asked_for(monkeypatch):
    wall, busy = iter([100.0, 110.0]), iter([7.0, 16.0])
    clocks = SimpleNamespace(perf_counter=lambda: next(wall), process_time=lambda: next(busy))
    monkeypatch.setattr(device, "time", clocks)
    with Utilisation(threads=2, gpu=None) as used:
        pass
    assert used.measured == {"cpu": 9 / (10 * 2), "gpu": None}
