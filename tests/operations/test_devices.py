"""Devices by the names that torch, people and SLURM give them, and what their data sheets say of their speed."""

import pytest

from gluegrid.operations.devices import (
    DEVICES,
    SOURCES,
    expected_speed,
    find_device,
    find_devices,
    is_same_device,
    nearest_names,
)

A100, A100_80 = "A100 PCIe 40GB", "A100 PCIe 80GB"
H100, H100_SXM = "H100 PCIe HBM2e 80GB", "H100 SXM HBM3 80GB"


@pytest.mark.parametrize(
    ("name", "device"),
    [
        # As torch says them.
        ("NVIDIA A100-SXM4-80GB", "A100 SXM 80GB"),
        ("NVIDIA A100-PCIE-40GB", A100),
        ("NVIDIA A100 80GB PCIe", A100_80),
        ("NVIDIA H100 80GB HBM3", H100_SXM),
        ("NVIDIA H100 PCIe", H100),
        ("NVIDIA H100 NVL", "H100 NVL 94GB"),
        ("Tesla V100-SXM2-32GB", "V100 SXM 32GB"),
        ("Tesla V100-PCIE-16GB", "V100 PCIe 16GB"),
        ("Tesla V100S-PCIE-32GB", "V100S PCIe 32GB"),
        ("Tesla P100-PCIE-16GB", "P100 PCIe 16GB"),
        ("Tesla T4", "T4 16GB"),
        ("NVIDIA GeForce RTX 2080 Ti", "RTX 2080 Ti 11GB"),
        ("NVIDIA GeForce RTX 3090", "RTX 3090 24GB"),
        ("NVIDIA GeForce RTX 3090 Ti", "RTX 3090 Ti 24GB"),
        ("NVIDIA GeForce RTX 5090", "RTX 5090 32GB"),
        ("Quadro RTX 6000", "RTX 6000 Quadro 24GB"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada 48GB"),
        ("NVIDIA RTX A6000", "RTX A6000 48GB"),
        ("NVIDIA A10", "A10 24GB"),
        ("NVIDIA L4", "L4 24GB"),
        ("NVIDIA L40", "L40 48GB"),
        ("NVIDIA L40S", "L40S 48GB"),
        ("NVIDIA H200", "H200 NVL 141GB"),
        ("NVIDIA GH200 480GB", "GH200 96GB"),  # the memory of its CPU
        ("NVIDIA B200", "B200 180GB"),
        # As people write them: the smallest and slowest that it may be.
        ("A100", A100),
        ("h100", H100),
        ("h100-sxm5", H100_SXM),
        ("rtx4090", "RTX 4090 24GB"),
        ("4090", "RTX 4090 24GB"),
        ("rtx2080ti", "RTX 2080 Ti 11GB"),
        ("rtxa6000", "RTX A6000 48GB"),
        ("rtx6000ada", "RTX 6000 Ada 48GB"),
        ("TeslaV100", "V100 PCIe 16GB"),
        ("titanrtx", "Titan RTX 24GB"),
        # As SLURM knows them.
        ("h100_pcie", H100),
        ("nvidia_a100_80gb_pcie", A100_80),
        ("nvidia_h100_80gb_hbm3", H100_SXM),
        ("a100_80", A100_80),
        ("a100_80.2", A100_80),
        ("a100_40g", A100),
        ("tesla_v100", "V100 PCIe 16GB"),
        ("nvidia_geforce_rtx_3090", "RTX 3090 24GB"),
        ("quadro_rtx_6000", "RTX 6000 Quadro 24GB"),
    ],
)
def test_a_device_is_found_by_its_names(name, device):
    assert find_device(name).name == device


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "gpu",
            "banana",
            "rtx",
            "nvidia",
            "a100banana",
            "a10g",
            "NVIDIA TITAN V",
            "RTX 3080 Ti",
            "RTX 4080 SUPER",
        ),
        *("NVIDIA GeForce RTX 3080 Laptop GPU", "RTX 5000 Ada", "a100_9g.99gb", "t4_1g.5gb", "CPU (Intel Xeon)"),
    ],
)
def test_other_names_are_of_no_device(name):
    assert find_device(name) is None


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.name)
def test_each_device_is_found_by_its_own_name_and_its_figures_have_a_source(device):
    assert find_devices(device.name) == [device]
    assert SOURCES[device.source]
    assert device.fp32 <= (device.tf32 or device.fp32) <= (device.bf16 or device.fp16) <= device.fp16
    # Ampere and later have TF32 and bf16; sparse rates would be 64 times those of fp32 at least.
    assert (device.tf32 is not None) == (device.bf16 is not None) == (float(device.capability) >= 8)
    assert device.fp16 <= 34 * device.fp32
    assert 8 <= device.memory <= 288
    assert 100 <= device.bandwidth <= 8000


def test_the_documentation_names_all_models(project):
    named = (project / "docs" / "estimates.md").read_text(encoding="utf-8")
    assert [device.model for device in DEVICES if f" {device.model}" not in named] == []


def test_no_source_is_without_a_device():
    assert {device.source for device in DEVICES} == {*SOURCES}


@pytest.mark.parametrize(
    ("name", "memory", "share", "card"),
    [
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 5, 1 / 7, "NVIDIA A100-SXM4-40GB"),
        ("a100_3g.20gb", 20, 3 / 7, "a100_40gb"),
        ("nvidia_a100_3g.40gb", 40, 3 / 7, "a100_80gb"),
        ("H100 80GB HBM3 MIG 1g.10gb", 10, 1 / 7, "H100 80GB HBM3"),
        ("h200_1g.18gb", 18, 1 / 7, "h200"),
        ("a30_2g.12gb", 12, 2 / 4, "a30"),
        ("1g.5gb", 5, 1 / 7, "a100_40gb"),
    ],
)
def test_a_slice_of_mig_has_its_share(name, memory, share, card):
    part, whole = find_device(name), find_device(card)
    assert part.is_slice
    assert part.memory == memory
    assert part.bf16 == pytest.approx(share * whole.bf16)
    assert part.bandwidth == pytest.approx(whole.bandwidth * memory / whole.memory)


@pytest.mark.parametrize(
    ("name", "wanted", "is_same"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100", True),
        ("NVIDIA A100-SXM4-80GB", "nvidia_a100_40gb", False),
        ("NVIDIA A100-SXM4-80GB", "A10", False),
        ("NVIDIA L40S", "l4", False),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "A100", False),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "a100_1g.5gb", True),
        ("Some GPU of ours", "gpu of", True),
        ("Some GPU of ours", "theirs", False),
        ("NVIDIA A100-SXM4-80GB", "", True),
    ],
)
def test_what_was_measured_is_of_the_device_that_is_meant(name, wanted, is_same):
    assert is_same_device(name, wanted) == is_same


def test_automatic_precision_is_bf16_where_the_device_has_it_and_tf32_is_fp32_where_it_has_none():
    assert [find_device(name).precision("auto") for name in ("a100", "t4", "v100")] == ["bf16", "fp32", "fp32"]
    assert [find_device(name).precision("tf32") for name in ("a100", "t4")] == ["tf32", "fp32"]
    assert find_device("a100").precision("fp16") == "fp16"


def test_speed_is_by_device_and_precision():
    speed = {name: expected_speed(find_device(name), "bf16", 768) for name in ("t4", "l4", "3090", "a100", "h100_sxm")}
    assert list(speed.values()) == sorted(speed.values())
    a100 = [expected_speed(find_device("a100"), precision, 768) for precision in ("fp32", "tf32", "bf16")]
    assert a100[1] > 2 * a100[0]
    assert a100[2] > 4 * a100[0]
    # Below the peak by what moving data costs, which is more of a narrower model.
    wide, narrow = (expected_speed(find_device("h100_sxm"), "bf16", hidden_size) for hidden_size in (1024, 256))
    assert narrow < wide < 0.2 * 989e12


def test_the_nearest_names_are_those_that_look_alike():
    assert nearest_names("h10")[0] == "H100"
    assert nearest_names("rtx309")[0] in ("RTX 3090", "RTX 3080")
    assert "Some GPU" in nearest_names("some gpus", ["Some GPU"])
