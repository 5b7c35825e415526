"""The GPUs that a process may use on this machine: those that nvidia-smi lists, within CUDA_VISIBLE_DEVICES."""

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

MIG = "MIG-"  # how the UUIDs of MIG devices begin
SECONDS_FOR_NVIDIA_SMI = 30  # it usually takes a second, but may hang with a broken driver


@dataclass(frozen=True)
class Gpu:
    """A GPU, by its UUID, with the UUIDs of its MIG devices, if it is partitioned."""

    uuid: str
    parts: list[str] = field(default_factory=list)

    @property
    def devices(self) -> list[str]:
        """The devices on which a process can train."""
        return self.parts or [self.uuid]


def visible_gpus() -> list[str]:
    """Return a name for each GPU (or MIG device), for use in CUDA_VISIBLE_DEVICES; empty if there is none.

    Names are UUIDs, which do not depend on the order in which CUDA counts. Numbers in CUDA_VISIBLE_DEVICES are taken as
    nvidia-smi's. If nvidia-smi does not answer, the names are those in CUDA_VISIBLE_DEVICES.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    installed = _installed()
    if installed is None:
        return _unique(_as_they_stand(given or ""))
    if given is None:
        return [device for gpu in installed for device in gpu.devices]
    return _unique(_chosen(given, installed))


def _installed() -> list[Gpu] | None:
    """Return the GPUs in nvidia-smi's order; None if it does not answer."""
    try:
        process = subprocess.Popen(
            ["nvidia-smi", "-L"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
    except OSError:
        return None
    try:
        listed, _ = process.communicate(timeout=SECONDS_FOR_NVIDIA_SMI)
    except subprocess.TimeoutExpired:
        # Not waited for: a process that hangs in the driver does not even die when killed.
        process.kill()
        return None
    return _parsed(listed) if process.returncode == 0 else None


def _parsed(listed: str) -> list[Gpu]:
    """Parse lines such as "GPU 0: NVIDIA A100 (UUID: GPU-...)" and "  MIG 1g.10gb  Device  0: (UUID: MIG-...)"."""
    gpus: list[Gpu] = []
    for kind, uuid in re.findall(r"^ *(GPU|MIG) .*\(UUID: (\S+)\)", listed, re.MULTILINE):
        if kind == "GPU":
            gpus.append(Gpu(uuid))
        elif gpus:
            gpus[-1].parts.append(uuid)
    return gpus


def _chosen(given: str, installed: list[Gpu]) -> Iterator[str]:
    """Yield the devices that CUDA_VISIBLE_DEVICES names; as in CUDA, the first unknown name ends the list."""
    for name in given.split(","):
        devices = _named(name.strip(), installed)
        if not devices:
            return
        yield from devices


def _named(name: str, installed: list[Gpu]) -> list[str]:
    if name.isdecimal():
        return installed[int(name)].devices if int(name) < len(installed) else []
    if not name.startswith(("GPU-", MIG)):
        return []
    by_uuid = {gpu.uuid: gpu.devices for gpu in installed} | {part: [part] for gpu in installed for part in gpu.parts}
    matches = [uuid for uuid in by_uuid if uuid == name] or [uuid for uuid in by_uuid if uuid.startswith(name)]
    return by_uuid[matches[0]] if len(matches) == 1 else []


def _as_they_stand(given: str) -> Iterator[str]:
    for name in map(str.strip, given.split(",")):
        if not name or name.startswith("-"):
            return
        yield name


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
