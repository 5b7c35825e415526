"""A task as data: its source, columns, labels, splits and metrics."""

from dataclasses import dataclass

from gluegrid.experiment.task_kinds import REGRESSION, TaskKind, kind_of

# The keys that determine a run and so go into its run.json; the others (such as `official`) are for tables and limits.
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
    # If absent: Parquet files named as on the hub, and no split is cut from another.
    "files",
    "cut_from_train",
    # If absent: UTF-8, quotes around fields that contain separators, a header, and rows as wide as the header.
    "encoding",
    "quoting",
    "columns",
    "uneven_rows",
)


@dataclass(frozen=True)
class Task:
    """The definition of a task, as in a run.json."""

    name: str
    source: str
    revision: str
    text_columns: list[str]
    label_column: str
    validation: dict[str, str]  # split -> suffix of its metrics' names
    test: list[str]
    metrics: list[str]
    train: str | None = None  # None: only evaluated or predicted
    folder: str = ""
    labels: list[str] | None = None  # None: regression
    files: dict[str, list[str]] | None = None  # split -> its files; None: named as on the hub
    cut_from_train: dict[str, float] | None = None  # split -> its share of the training split's rows
    encoding: str | None = None  # of text files; None: UTF-8, or as their byte order mark says
    quoting: str | None = None  # of .csv and .tsv; "none": quotes are part of the text; None: the usual rules
    columns: list[str] | None = None  # of .csv and .tsv without a header
    uneven_rows: str | None = None  # "skip": leave out rows of .csv and .tsv with too many or too few columns

    @property
    def kind(self) -> TaskKind:
        """The task's kind, which determines loss, outputs and suitable metrics."""
        return kind_of(self.labels)

    @property
    def is_regression(self) -> bool:
        """Whether the label is a number, not a class."""
        return self.kind is REGRESSION

    @property
    def number_of_outputs(self) -> int:
        """How many outputs the model's head has."""
        return self.kind.number_of_outputs(self.labels)

    @property
    def splits(self) -> list[str]:
        """All splits, the training split first."""
        return [*([self.train] if self.train else []), *self.validation, *self.test]

    @property
    def predicted_only(self) -> list[str]:
        """The splits that are only predicted, since their labels may be hidden."""
        return [split for split in self.test if split not in (self.train, *self.validation)]

    def metric_keys(self) -> list[str]:
        """Return the keys in all_results.json of the metrics that tables show, in their order."""
        return [f"eval_{metric}{suffix}" for suffix in self.validation.values() for metric in self.metrics]

    def holdout_keys(self) -> list[str]:
        """Return the keys of the same metrics on the part of train that `selection: holdout` sets aside."""
        return [f"eval_{metric}_holdout" for metric in self.metrics]


def definition(entry: dict) -> dict:
    """Return the part of a task's entry that determines a run."""
    return {key: entry[key] for key in DEFINING_KEYS if entry.get(key) is not None}
