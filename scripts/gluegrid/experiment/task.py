"""A task as data: where it lies, its columns, labels, splits and metrics."""

from dataclasses import dataclass

from gluegrid.experiment.task_kinds import REGRESSION, TaskKind, kind_of

# What decides a run, and so belongs into its run.json; the rest of an entry (`official` too) is for tables and limits.
DEFINING_KEYS = (
    "source",
    "revision",
    "folder",
    "text_columns",
    "label_column",
    "labels",
    "train",
    "validation",
    "test",
    "metrics",
    # Absent: parquet files named as on the hub, and no split cut from another.
    "files",
    "cut_from_train",
    # Absent: UTF-8, with quotes around what holds separators, a header, and all rows as wide as it.
    "encoding",
    "quoting",
    "columns",
    "uneven_rows",
)


@dataclass(frozen=True)
class Task:
    """The definition of a task, as it stands in a run.json."""

    name: str
    source: str
    revision: str
    text_columns: list[str]
    label_column: str
    validation: dict[str, str]  # split -> suffix of its metrics' names
    test: list[str]
    metrics: list[str]
    train: str | None = None  # None: only to be evaluated or predicted
    folder: str = ""
    labels: list[str] | None = None  # None: a regression
    files: dict[str, list[str]] | None = None  # split -> its files; None: as they are named on the hub
    cut_from_train: dict[str, float] | None = None  # split -> the share of the training split's rows that it is
    encoding: str | None = None  # of files of text; None: UTF-8, or what their byte order marks say
    quoting: str | None = None  # of .csv and .tsv; "none": quotes are signs of the texts; None: as usual for them
    columns: list[str] | None = None  # of .csv and .tsv without a header
    uneven_rows: str | None = None  # "skip": rows of .csv and .tsv with more or fewer columns than there are

    @property
    def kind(self) -> TaskKind:
        """Its kind, and what follows from that."""
        return kind_of(self.labels)

    @property
    def is_regression(self) -> bool:
        """Whether the label is a number rather than a class."""
        return self.kind is REGRESSION

    @property
    def number_of_outputs(self) -> int:
        """How many numbers the model's head gives for one example."""
        return self.kind.number_of_outputs(self.labels)

    @property
    def splits(self) -> list[str]:
        """All splits, the training split first."""
        return [*([self.train] if self.train else []), *self.validation, *self.test]

    @property
    def predicted_only(self) -> list[str]:
        """The splits whose labels may be hidden."""
        return [split for split in self.test if split not in (self.train, *self.validation)]

    def metric_keys(self) -> list[str]:
        """Return the keys of the table's metrics in all_results.json, in the table's order."""
        return [f"eval_{metric}{suffix}" for suffix in self.validation.values() for metric in self.metrics]

    def holdout_keys(self) -> list[str]:
        """Return the keys of the same metrics on the part of train that `selection: holdout` keeps from training."""
        return [f"eval_{metric}_holdout" for metric in self.metrics]


def definition(entry: dict) -> dict:
    """Return the part of a registry entry that decides a run."""
    return {key: entry[key] for key in DEFINING_KEYS if entry.get(key) is not None}
