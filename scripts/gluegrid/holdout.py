"""The part of a training split that `selection: holdout` keeps from training, to choose among variants by it."""

import hashlib

import numpy

SHARE = 0.1  # of the training examples


def held_out(count: int) -> numpy.ndarray:
    """Return which of `count` training examples are held out, as booleans of shape (count,).

    They depend on nothing but their number: every model, seed and variant, and every version of the libraries, holds
    out the same. They are those whose numbers have the smallest hashes.
    """
    hashes = [hashlib.sha256(f"holdout {number}".encode()).digest()[:8] for number in range(count)]
    order = numpy.argsort(numpy.frombuffer(b"".join(hashes), ">u8"), kind="stable")
    is_held_out = numpy.zeros(count, bool)
    is_held_out[order[: max(1, round(SHARE * count))]] = True
    return is_held_out
