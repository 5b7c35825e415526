"""What a label column may hold: names of classes, their numbers, or a regression's numbers."""

import re
from decimal import Decimal

from gluegrid.common.escaping import listed, nearest, shortened
from gluegrid.experiment.task import Task
from gluegrid.label_names import LabelNames

BY_NAME = ", or name the files under `files:`, which are read by these names"
HIDDEN_LABEL = -1  # GLUE's test labels
LARGEST_NUMBER = 3.4028234663852886e38  # of 32 bits, as which a regression's labels are stored
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class LabelReader:
    """Reads the labels of a split by name or value: `yes`, 1, 1.0, true and the text "1" may all be class 1.

    Where names are numbers (stars from 1 to 5), texts are names and never numbers of classes, and with `as_written`
    numbers are too: those of a file that nobody has made class numbers of. There, hidden labels may also be empty, and
    true and false may be names.

    Where the data say what they call their numbers (`names`), a number is with `as_written` the class of that name.
    Without, numbers are classes' as they are, and none of them is a label where the names say otherwise.
    """

    def __init__(self, task: Task, may_be_hidden: bool, as_written: bool = False, names: LabelNames | None = None):
        self.names = names if task.labels else None
        self._by_number = self._classes_by_number(task.labels, as_written) if self.names else None
        names = task.labels or []
        self.task, self.may_be_hidden, self.as_written = task, may_be_hidden, as_written
        self._by_name = {name: number for number, name in enumerate(names)}
        self._by_value = {float(name): number for number, name in enumerate(names) if NUMBER.fullmatch(name)}
        lowered = {name.lower(): number for number, name in enumerate(names)}
        self._by_truth = lowered if as_written and lowered.keys() >= {"true", "false"} else {}

    def _classes_by_number(self, labels: list[str], as_written: bool) -> dict[int, int] | None:
        """Return the class of each number in the data by its name; None where they are the classes' own."""
        if self.names.are_strange_to(labels):
            return {}
        classes = self.names.classes(labels) or None
        if as_written:
            return classes
        return {} if self.names.contradict(labels) else None

    def read(self, value: object) -> int | float | None:
        """Return the number of a class, or a regression's number; None for what is no label."""
        if self.as_written and self.may_be_hidden and value in (None, ""):
            return HIDDEN_LABEL
        if isinstance(value, bool) and self._by_truth:
            return self._by_truth[str(value).lower()]
        if isinstance(value, str) and value in self._by_name:
            return self._by_name[value]
        number = _as_number(value)
        if number is None or not abs(number) <= LARGEST_NUMBER:
            return None
        if self.task.is_regression:
            return float(number)
        if isinstance(value, str) and float(number) in self._by_value:
            return self._by_value[float(number)]
        if self._by_number is not None:
            return self._by_number.get(float(number), self._hidden(number))
        if self._by_value and (self.as_written or isinstance(value, str)):
            return self._by_value.get(float(number), self._hidden(number))
        return self._class(number)

    def _class(self, number: int | float | Decimal) -> int | None:
        is_class = number == int(number) and 0 <= number < self.task.number_of_outputs
        return int(number) if is_class else self._hidden(number)

    def _hidden(self, number: int | float | Decimal) -> int | None:
        return HIDDEN_LABEL if self.may_be_hidden and number == HIDDEN_LABEL else None

    def advice(self, value: object) -> str:
        """Return what is allowed in place of a value that is no label, and what was probably meant."""
        if self._by_number is not None and _as_number(value) not in (None, HIDDEN_LABEL):
            return self._advice_on_names()
        meant = nearest(value, list(self._by_name)) if isinstance(value, str) else None
        hint = f". Did you mean {meant!r}?" if meant else ""
        if _as_number(value) == HIDDEN_LABEL and self._by_name:
            hint = f"; {HIDDEN_LABEL} hides a label, which only splits under `test:` may have"
        return f"; allowed: {self.allowed}{hint}"

    def _advice_on_names(self) -> str:
        labels = self.task.labels
        other_order = "" if self.as_written or self.names.are_strange_to(labels) else BY_NAME
        return f": {self.names.difference(labels)}; write `labels: [{listed(self.names.names)}]`{other_order}"

    @property
    def allowed(self) -> str:
        """What is a label, in words."""
        if self.task.labels is None:
            return "a number"
        names = shortened(", ".join(self.task.labels))
        numbers = names if self._by_value and self.as_written else f"0 to {len(self.task.labels) - 1} ({names})"
        return f"{numbers}, or {HIDDEN_LABEL} where it is hidden" if self.may_be_hidden else numbers


def _as_number(value: object) -> int | float | Decimal | None:
    if isinstance(value, str):
        return float(value) if NUMBER.fullmatch(value.strip()) else None
    return value if isinstance(value, int | float | Decimal) else None
