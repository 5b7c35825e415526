"""Which rows of a training split are cut off for other splits: the same everywhere and always."""

import hashlib
from collections.abc import Mapping

from gluegrid.common.errors import DataError

SALT = "gluegrid"  # changing it would change every cut


def splits_of_rows(rows: int, train: str, shares: Mapping[str, float]) -> list[str]:
    """Return for each row of a training split the split that it belongs to.

    The rows' numbers in the order of their hashes are dealt out to the splits in the order of their names, to each
    its share of all rows, rounded; what is left stays in the training split. So neither another library's random
    numbers nor the rows' content matter. Raises DataError where a split would be empty.
    """
    owners = [train] * rows
    counts = {split: round(rows * share) for split, share in sorted(shares.items())}
    if 0 in counts.values() or sum(counts.values()) >= rows:
        wanted = ", ".join(f"{split} {share:g}" for split, share in sorted(shares.items()))
        raise DataError(f"cut_from_train ({wanted}) would leave a split without rows; the split {train!r} has {rows}")
    shuffled = iter(sorted(range(rows), key=_hash))
    for split, count in counts.items():
        for _ in range(count):
            owners[next(shuffled)] = split
    return owners


def rows_of_split(split: str, rows: Mapping[str, int], train: str, shares: Mapping[str, float]) -> list[int]:
    """Return which rows of a training split another has that was cut from it, or it kept; `rows` counts those of each.

    Raises DataError.
    """
    owners = splits_of_rows(sum(rows.get(name, 0) for name in (train, *shares)), train, shares)
    return [row for row, owner in enumerate(owners) if owner == split]


def _hash(row: int) -> bytes:
    return hashlib.sha256(f"{SALT} {row}".encode()).digest()
