"""GPUs by their various names, with published figures, for estimates before anything has run on them.

Names come from torch (`NVIDIA A100-SXM4-80GB`), from people (`h100`, `rtx4090`) and from SLURM's kinds of GPUs
(`nvidia_a100_80gb_pcie`, `a100_3g.20gb`). Measured speeds (measured_speeds.py) take precedence over this table.
"""

import difflib
import functools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

# Where each figure is published. The data sheets themselves were not available when the table was written: the rates of
# P100 SXM, T4, RTX 8000, A16, A40, A100, A800, RTX 4090, L40, L40S, H100 PCIe and SXM, B100, B200 and GB200 were
# checked against copies on other sites; all others, among them RTX 50 and the NVL cards, are still unchecked. The
# sheets of L4 and from Hopper on give tensor rates with sparsity, of which the table has half.
SOURCES = {
    "p100": "NVIDIA, Tesla P100 GPU accelerator, data sheets (PCIe, SXM2)",
    "v100": "NVIDIA, V100 Tensor Core GPU, data sheet, 2020: nvidia.com/en-us/data-center/v100",
    "turing": "NVIDIA, Turing GPU architecture, white paper WP-09183-001",
    "t4": "NVIDIA, T4 Tensor Core GPU, data sheet: nvidia.com/en-us/data-center/tesla-t4",
    "ga102": "NVIDIA, Ampere GA102 GPU architecture, white paper, version 2",
    "a2-a16": "NVIDIA, A2 and A16, data sheets: nvidia.com/en-us/data-center/products/a16-gpu",
    "a10": "NVIDIA, A10 Tensor Core GPU, data sheet: nvidia.com/en-us/data-center/products/a10-gpu",
    "a30": "NVIDIA, A30 Tensor Core GPU, data sheet: nvidia.com/en-us/data-center/products/a30-gpu",
    "a40": "NVIDIA, A40, data sheet: nvidia.com/en-us/data-center/a40",
    "a100": "NVIDIA, A100 Tensor Core GPU, data sheet 1758950: nvidia.com/en-us/data-center/a100",
    "a800": "NVIDIA, A800 40GB Active, data sheet, and A800 80GB, whose arithmetic and memory are the A100's",
    "ada": "NVIDIA, Ada GPU architecture, white paper, version 2",
    "l4": "NVIDIA, L4 Tensor Core GPU, data sheet: nvidia.com/en-us/data-center/l4",
    "l40": "NVIDIA, L40 and L40S, data sheets: nvidia.com/en-us/data-center/l40s",
    "blackwell-rtx": "NVIDIA, RTX Blackwell GPU architecture, white paper",
    "h100": "NVIDIA, H100 Tensor Core GPU, data sheet: nvidia.com/en-us/data-center/h100",
    "h200": "NVIDIA, H200 Tensor Core GPU, data sheet: nvidia.com/en-us/data-center/h200",
    "gh200": "NVIDIA, GH200 Grace Hopper Superchip, data sheet",
    "b200": "NVIDIA, HGX B200 and HGX B100, data sheet: nvidia.com/en-us/data-center/hgx",
    "gb200": "NVIDIA, GB200 NVL72, data sheet: nvidia.com/en-us/data-center/gb200-nvl72",
}


@dataclass(frozen=True)
class Device:
    """A GPU, or a MIG slice of one.

    `variant` distinguishes it from others of its model. Peak rates are in 1e12 operations per second, without sparsity,
    with 16 bits accumulated in fp32; None for precisions that it lacks. Memory is in GB, its bandwidth in GB/s.
    `source` is a key of SOURCES; `mig_slices` is the number of slices it can be divided into.
    """

    model: str
    variant: str
    capability: str
    memory: float
    bandwidth: float
    fp32: float
    tf32: float | None
    bf16: float | None
    fp16: float
    source: str
    mig_slices: int = 0
    is_slice: bool = False

    @property
    def name(self) -> str:
        """The name for people."""
        return f"{self.model} {self.variant}"

    def precision(self, wanted: str) -> str:
        """Return the precision in which a run with this `precision` computes on this device."""
        if wanted == "auto":
            return "fp32" if self.bf16 is None else "bf16"
        return "fp32" if wanted == "tf32" and self.tf32 is None else wanted

    def peak(self, precision: str) -> float:
        """Return the peak rate of a precision in operations per second; that of fp32 if the device lacks it."""
        rates = {"tf32": self.tf32, "bf16": self.bf16, "fp16": self.fp16}
        return 1e12 * (rates.get(precision) or self.fp32)


# How much of the data sheets' figures training an encoder on GLUE is assumed to reach. No GPU was measured for this:
# both numbers come from an analysis of a BERT base step, and give lower speeds than others report for T4, V100 and
# A100. Matrix products of about 1,000 tokens reach half the peak; elementwise operations between them move this many
# bytes per token, layer and hidden unit, forwards and backwards, at full memory bandwidth. So GPUs differ by more than
# their peaks: an L4 has the peak rate of a V100 and a third of its bandwidth.
SHARE_OF_PEAK = 0.5
BYTES_MOVED = {2: 1200, 4: 1500}  # by the bytes of a number
BYTES_OF_AN_ADAMW_STEP = 28  # per parameter: four values are read and three written, 4 bytes each
SECONDS_OF_LAUNCHES = 0.75e-3  # per layer and update: about 90 kernels, one after another, however small
OPERATIONS_OF_A_PAIR = 72  # of a layer per token and squared hidden unit: 12 parameters, forwards and backwards


def expected_speed(device: Device, precision: str, hidden_size: int) -> float:
    """Estimate the operations per second of training a model of this hidden size, without kernel launches."""
    moved = BYTES_MOVED[2 if precision in ("bf16", "fp16") else 4]
    per_byte = OPERATIONS_OF_A_PAIR * hidden_size / moved
    return 1 / (1 / (SHARE_OF_PEAK * device.peak(precision)) + 1 / (per_byte * device.bandwidth * 1e9))


# model, variant, capability, memory, bandwidth, fp32, tf32, bf16, fp16, source, MIG slices. GeForce GPUs have half the
# tensor rate if 16 bits are accumulated in fp32, as torch does.
DEVICES = [
    Device("P100", "PCIe 12GB", "6.0", 12, 549, 9.3, None, None, 18.7, "p100"),
    Device("P100", "PCIe 16GB", "6.0", 16, 732, 9.3, None, None, 18.7, "p100"),
    Device("P100", "SXM 16GB", "6.0", 16, 732, 10.6, None, None, 21.2, "p100"),
    Device("V100", "PCIe 16GB", "7.0", 16, 900, 14.0, None, None, 112, "v100"),
    Device("V100", "PCIe 32GB", "7.0", 32, 900, 14.0, None, None, 112, "v100"),
    Device("V100", "SXM 16GB", "7.0", 16, 900, 15.7, None, None, 125, "v100"),
    Device("V100", "SXM 32GB", "7.0", 32, 900, 15.7, None, None, 125, "v100"),
    Device("V100S", "PCIe 32GB", "7.0", 32, 1134, 16.4, None, None, 130, "v100"),
    Device("T4", "16GB", "7.5", 16, 300, 8.1, None, None, 65, "t4"),
    Device("RTX 2080 Ti", "11GB", "7.5", 11, 616, 13.4, None, None, 53.8, "turing"),
    Device("Titan RTX", "24GB", "7.5", 24, 672, 16.3, None, None, 130.5, "turing"),
    Device("RTX 6000", "Quadro 24GB", "7.5", 24, 672, 16.3, None, None, 130.5, "turing"),
    Device("RTX 8000", "Quadro 48GB", "7.5", 48, 672, 16.3, None, None, 130.5, "turing"),
    Device("RTX 3080", "10GB", "8.6", 10, 760, 29.8, 29.8, 59.5, 59.5, "ga102"),
    Device("RTX 3090", "24GB", "8.6", 24, 936, 35.6, 35.6, 71, 71, "ga102"),
    Device("RTX 3090 Ti", "24GB", "8.6", 24, 1008, 40, 40, 80, 80, "ga102"),
    Device("RTX A6000", "48GB", "8.6", 48, 768, 38.7, 77.4, 154.8, 154.8, "ga102"),
    Device("A16", "16GB", "8.6", 16, 200, 4.5, 9, 17.9, 17.9, "a2-a16"),
    Device("A10", "24GB", "8.6", 24, 600, 31.2, 62.5, 125, 125, "a10"),
    Device("A30", "24GB", "8.0", 24, 933, 10.3, 82, 165, 165, "a30", 4),
    Device("A40", "48GB", "8.6", 48, 696, 37.4, 74.8, 149.7, 149.7, "a40"),
    Device("A100", "PCIe 40GB", "8.0", 40, 1555, 19.5, 156, 312, 312, "a100", 7),
    Device("A100", "SXM 40GB", "8.0", 40, 1555, 19.5, 156, 312, 312, "a100", 7),
    Device("A100", "PCIe 80GB", "8.0", 80, 1935, 19.5, 156, 312, 312, "a100", 7),
    Device("A100", "SXM 80GB", "8.0", 80, 2039, 19.5, 156, 312, 312, "a100", 7),
    Device("A800", "40GB", "8.0", 40, 1555, 19.5, 156, 312, 312, "a800", 7),
    Device("A800", "80GB", "8.0", 80, 1935, 19.5, 156, 312, 312, "a800", 7),
    Device("RTX 4080", "16GB", "8.9", 16, 717, 48.7, 48.7, 97.5, 97.5, "ada"),
    Device("RTX 4090", "24GB", "8.9", 24, 1008, 82.6, 82.6, 165.2, 165.2, "ada"),
    Device("RTX 6000 Ada", "48GB", "8.9", 48, 960, 91.1, 182.1, 364.2, 364.2, "ada"),
    Device("L4", "24GB", "8.9", 24, 300, 30.3, 60, 121, 121, "l4"),
    Device("L40", "48GB", "8.9", 48, 864, 90.5, 90.5, 181, 181, "l40"),
    Device("L40S", "48GB", "8.9", 48, 864, 91.6, 183, 362, 362, "l40"),
    Device("RTX 5080", "16GB", "12.0", 16, 960, 56.3, 56.3, 112.6, 112.6, "blackwell-rtx"),
    Device("RTX 5090", "32GB", "12.0", 32, 1792, 104.8, 104.8, 209.5, 209.5, "blackwell-rtx"),
    Device("H100", "PCIe HBM2e 80GB", "9.0", 80, 2000, 51, 378, 756, 756, "h100", 7),
    Device("H100", "SXM HBM3 80GB", "9.0", 80, 3350, 67, 494, 989, 989, "h100", 7),
    Device("H100", "NVL 94GB", "9.0", 94, 3900, 60, 417, 835, 835, "h100", 7),
    Device("H200", "NVL 141GB", "9.0", 141, 4800, 60, 417, 835, 835, "h200", 7),
    Device("H200", "SXM 141GB", "9.0", 141, 4800, 67, 494, 989, 989, "h200", 7),
    Device("GH200", "96GB", "9.0", 96, 4000, 67, 494, 990, 990, "gh200", 7),
    Device("GH200", "HBM3e 144GB", "9.0", 144, 4900, 67, 494, 990, 990, "gh200", 7),
    Device("B100", "192GB", "10.0", 192, 7700, 60, 875, 1750, 1750, "b200", 7),
    Device("B200", "180GB", "10.0", 180, 7700, 75, 1100, 2250, 2250, "b200", 7),
    Device("GB200", "186GB", "10.0", 186, 8000, 80, 1250, 2500, 2500, "gb200", 7),
]
SLICE = re.compile(r"(\d)g[._](\d+)gb")  # MIG profiles: compute slices and memory
# How many eighths of the memory a slice may have, by the GPU's number of slices and its own (NVIDIA, MIG user guide).
EIGHTHS = {7: {1: (1, 2), 2: (2,), 3: (4,), 4: (4,), 7: (8,)}, 4: {1: (2,), 2: (4,), 4: (8,)}}
# Words that denote another GPU with the same number.
OF_ANOTHER_CARD = {"ada", "laptop", "mobile", "pro", "super", "ti"}
SPELLINGS = [
    (r"\b(nvidia|tesla|geforce|quadro|titan|rtx|gtx)(?=[ahlptv]?\d|rtx|pro)", r"\1 "),
    (r"\bpro(?=\d)", "pro "),
    (r"\b(\d{4})(ti|ada|super)\b", r"\1 \2"),
    (r"\b([a-z]{1,2}\d{2,3}s?)(sxm|pcie|nvl)", r"\1 \2"),
    (r"\bsxm\d\b", "sxm"),
    (r"\b(\d+) ?(?:g|gib|gb)\b", r"\1gb"),
]


def find_device(name: str) -> Device | None:
    """Return the device with this name; of several candidates, the one with the least memory, then the slowest."""
    return min(find_devices(name), key=lambda device: (device.memory, device.fp16, device.bandwidth), default=None)


@functools.cache
def find_devices(name: str) -> list[Device]:
    """Return all devices that a name may mean: those of its model that match the most of its words."""
    profile = SLICE.search(name.lower())
    words = _words(SLICE.sub(" ", name.lower()))
    is_slice_of_any = profile is not None and {*words} <= {"gpu", "mig", "nvidia"}
    found = [device for device in DEVICES if is_slice_of_any or _is_of_model(device, words)]
    most = max((_details(device, words) for device in found), default=0)
    found = [device for device in found if _details(device, words) == most]
    return found if profile is None else _slices(found, *map(int, profile.groups()))


def is_same_device(name: str, wanted: str) -> bool:
    """Tell whether the device that torch calls `name` may be the one that somebody calls `wanted`."""
    if meant := find_devices(wanted):
        return not {*meant}.isdisjoint(find_devices(name))
    return wanted.lower() in name.lower()


def nearest_names(name: str, others: Iterable[str] = ()) -> list[str]:
    """Return the names of the table's devices and of `others` that are most similar to an unknown one."""
    names = dict.fromkeys([*others, *(device.model for device in DEVICES)])
    by_lower = {known.lower(): known for known in names}
    return [by_lower[near] for near in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0)]


def _words(text: str) -> list[str]:
    text = re.sub(r"[^a-z0-9]+", " ", text.lower())
    for pattern, replacement in SPELLINGS:
        text = re.sub(pattern, replacement, text)
    return text.split()


def _is_of_model(device: Device, words: list[str]) -> bool:
    model = {*_words(device.model.removeprefix("RTX "))}
    return model <= {*words} and not OF_ANOTHER_CARD.intersection(words) - model


def _details(device: Device, words: list[str]) -> int:
    """Count the words of a device's variant that a name contains; for memory, `80` is enough."""
    return sum(detail in words or detail.removesuffix("gb") in words for detail in _words(device.variant))


def _slices(devices: list[Device], share: int, memory: int) -> list[Device]:
    """Return the MIG slices of the devices that have a profile with this share and memory."""
    return [
        replace(
            device,
            variant=f"{device.variant} MIG {share}g.{memory}gb",
            memory=memory,
            bandwidth=device.bandwidth * memory / device.memory,
            **{
                rate: value * share / device.mig_slices
                for rate in ("fp32", "tf32", "bf16", "fp16")
                if (value := getattr(device, rate)) is not None
            },
            mig_slices=0,
            is_slice=True,
        )
        for device in devices
        for part in EIGHTHS.get(device.mig_slices, {}).get(share, ())
        if math.isclose(device.memory * part / 8, memory, rel_tol=0.05)  # profiles are named in whole GB
    ]
