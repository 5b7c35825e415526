"""References: numbers that others have published, or a user has measured before, as data (docs/references.md)."""

from collections.abc import Iterator
from dataclasses import dataclass

SINGLE_RUN, MEDIAN = "single run", "median"
VALIDATION = "validation"


@dataclass(frozen=True)
class Reference:
    """One reference number, in percent. `training` has the values that are stated, None where none is.

    `label` is the name of its file's references in tables, `note` what its file says of all of them.
    """

    label: str
    model: str
    task: str
    metric: str
    value: float
    decimals: int
    split: str
    statistic: str
    source: dict
    n: int | None = None
    spread: float | None = None
    training: dict | None = None
    train_runtime: float | None = None
    note: str = ""

    @property
    def rounding(self) -> float:
        """How far the number may be from the one it was rounded from."""
        return 0.5 * 10**-self.decimals


@dataclass(frozen=True)
class SeedSpread:
    """The sample standard deviation of a metric over n seeds, in percent, as somebody measured it."""

    task: str
    metric: str
    sd: float
    n: int
    model: str
    source: dict
    seeds: list[float] | None = None


def reference_model(entry: dict) -> str:
    """Return the hub's id under which a model of an experiment has references."""
    return entry.get("reference", entry["source"])


def rows_of(content: dict) -> Iterator[Reference]:
    """Yield the references of a file's checked content."""
    for row in content["rows"]:
        yield Reference(content["label"], **completed_row(content, row), note=content.get("note", ""))


def completed_row(content: dict, row: dict) -> dict:
    """Return a row with what its file says of all rows, in `training` key by key."""
    common = content.get("common", {})
    training = common.get("training", {}) | row.get("training", {})
    values = common | row | ({"training": training} if training else {})
    return {"n": 1} | values if values.get("statistic") == SINGLE_RUN else values


def by_model_and_task(content: dict) -> dict[str, dict[str, dict]]:
    """Return a file's numbers as models to tasks to metrics, `train_runtime` and `epoch`, as results have them."""
    numbers: dict[str, dict[str, dict]] = {}
    for each in rows_of(content):
        of_task = numbers.setdefault(each.model, {}).setdefault(each.task, {})
        of_task[each.metric] = each.value
        if each.train_runtime is not None:
            of_task["train_runtime"] = each.train_runtime
        if "num_train_epochs" in (each.training or {}):
            of_task["epoch"] = each.training["num_train_epochs"]
    return numbers
