"""The states of all generators that a model's code may draw from: those of the CPU, and that of its device."""

import random

import numpy
import torch


def random_states(device: torch.device) -> dict:
    """Return the states of all generators, as plain values and tensors; no other device than this is touched."""
    kind, keys, *position = numpy.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), *position),
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(device)] if device.type == "cuda" else [],
    }


def set_random_states(states: dict, device: torch.device) -> None:
    """Bring all generators to what `random_states` returned for this device, or for one of its kind."""
    random.setstate(states["python"])
    numpy.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(_of_device(states["cuda"], device), device)


def lacks_device(states: dict, device: torch.device) -> bool:
    """Tell whether the states are without one for a device of this kind."""
    return device.type == "cuda" and not states["cuda"]


def _of_device(states: list[torch.Tensor], device: torch.device) -> torch.Tensor:
    # Older checkpoints have the states of all cards that the process saw, in their order.
    return states[(device.index or 0) % len(states)]
