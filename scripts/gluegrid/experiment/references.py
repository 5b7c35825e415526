"""References: published scores, or scores that a user measured earlier, as data (docs/references.md)."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from gluegrid.common.escaping import quoted
from gluegrid.common.files import canonical_json
from gluegrid.experiment import yaml_loader
from gluegrid.experiment.config_errors import Problems
from gluegrid.experiment.metrics import METRICS

SINGLE_RUN, MEDIAN = "single run", "median"
VALIDATION = "validation"


@dataclass(frozen=True)
class Reference:
    """One reference score, in percent. `training` has the options that the source states, None if it states none.

    `label` is the name in tables of all references in the file, `note` the file's remark about them. `precision` is
    None if the source does not state it.
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
    precision: str | None = None
    note: str = ""

    @property
    def rounding(self) -> float:
        """The largest rounding error of the score."""
        return 0.5 * 10**-self.decimals


@dataclass(frozen=True)
class SeedSpread:
    """The sample standard deviation of a metric over n seeds, in percent, as measured by the given source."""

    task: str
    metric: str
    sd: float
    n: int
    model: str
    source: dict
    seeds: list[float] | None = None


def reference_model(entry: dict) -> str:
    """Return the hub's id under which references of a model are looked up."""
    return entry.get("reference", entry["source"])


def rows_of(content: dict) -> Iterator[Reference]:
    """Yield the references of a file's checked content."""
    for row in content["rows"]:
        yield Reference(content["label"], **completed_row(content, row), note=content.get("note", ""))


def completed_row(content: dict, row: dict) -> dict:
    """Return a row merged with what its file says under `common`; `training` is merged key by key."""
    common = content.get("common", {})
    training = common.get("training", {}) | row.get("training", {})
    values = common | row | ({"training": training} if training else {})
    return {"n": 1} | values if values.get("statistic") == SINGLE_RUN else values


def by_model_and_task(content: dict) -> dict[str, dict[str, dict]]:
    """Return a file's scores as model -> task -> metric, with `train_runtime` and `epoch` as in results."""
    numbers: dict[str, dict[str, dict]] = {}
    for each in rows_of(content):
        of_task = numbers.setdefault(each.model, {}).setdefault(each.task, {})
        of_task[each.metric] = each.value
        if each.train_runtime is not None:
            of_task["train_runtime"] = each.train_runtime
        if "num_train_epochs" in (each.training or {}):
            of_task["epoch"] = each.training["num_train_epochs"]
    return numbers


PROJECT = Path(__file__).resolve().parents[3]
FOLDER = PROJECT / "references"
DOCUMENT = FOLDER / "document.yaml"
SEED_SPREADS = FOLDER / "seed_spreads.yaml"
SCHEMAS = PROJECT / "schemas"

REQUIRED = ("model", "task", "metric", "value", "decimals", "split", "statistic", "source")


def references_of(config: dict) -> list[Reference]:
    """Return the references for a completed config's models: gluegrid's own, then those of the files that it names."""
    models = {reference_model(entry) for entry in config["models"].values()}
    contents = [*shipped(), *config.get("references", [])]
    return [each for content in contents for each in rows_of(content) if each.model in models]


def fingerprint(config: dict) -> str:
    """Return a hash of all references and spreads; tables with verdicts are rewritten when it changes."""
    digest = hashlib.sha256(canonical_json(config.get("references", [])).encode())
    for path in sorted(FOLDER.glob("*.yaml")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def shipped() -> list[dict]:
    """Return the contents of the reference files that come with gluegrid."""
    return [load(path) for path in sorted(FOLDER.glob("*.yaml")) if path != SEED_SPREADS]


@cache
def document() -> dict:
    """Return the content of the file with the scores of the document that gluegrid started from."""
    return load(DOCUMENT)


@cache
def seed_spreads() -> dict[tuple[str, str], SeedSpread]:
    """Return the spread of metrics over seeds, by task and metric."""
    return {(row["task"], row["metric"]): SeedSpread(**row) for row in _checked(SEED_SPREADS, "seed_spreads")[0]}


def read_all_references() -> None:
    """Read gluegrid's own files now, since the end of a run needs them even if they change in the meantime."""
    shipped()
    document()
    seed_spreads()


def read_in(config: dict, problems: Problems) -> None:
    """Replace the paths under a config's `references` by the contents of the files.

    So later changes to the files do not affect a planned run. Raises ConfigError with a line for each mistake; warns
    about a file that is of no use to this experiment.
    """
    names = config.get("references", [])
    for index, name in enumerate(names):
        if not Path(name).expanduser().is_file():
            problems.add(("references", index), f"the file {quoted(name)} does not exist (seen from {Path.cwd()})")
    problems.raise_any()
    contents = [load(Path(name).expanduser()) for name in names]
    known = {(reference_model(entry), task) for entry in config["models"].values() for task in config["tasks"]}
    for index, content in enumerate(contents):
        if known.isdisjoint((each.model, each.task) for each in rows_of(content)):
            problems.warn(
                ("references", index), f"{quoted(names[index])} has no row for any model and task of this experiment"
            )
    if contents:
        config["references"] = contents


def load(path: Path) -> dict:
    """Return the content of a reference file. Raises ConfigError with a line for each mistake."""
    content, problems = _checked(path, "references")
    first_of: dict[tuple, int] = {}
    for index, row in enumerate(content["rows"]):
        values = completed_row(content, row)
        for problem in problems_of_row(values):
            problems.add(("rows", index), problem)
        identity = tuple(str(values.get(key)) for key in ("model", "task", "metric", "split", "training"))
        if first_of.setdefault(identity, index) != index:
            problems.add(("rows", index), f"repeats row {first_of[identity] + 1} (except for its value); keep one")
    problems.raise_any()
    return content


def _checked(path: Path, schema: str) -> tuple[object, Problems]:
    content, lines = yaml_loader.load(path)
    problems = Problems(path, lines)
    problems.check_schema(content, schema_of(schema))
    problems.raise_any()
    return content, problems


@cache
def schema_of(name: str) -> dict:
    """Return the schema of a kind of file: `references` or `seed_spreads`."""
    schema = yaml.safe_load((SCHEMAS / f"{name}.schema.yaml").read_text(encoding="utf-8"))
    if name == "references":
        _put_in_metrics(schema["properties"]["rows"]["items"]["properties"])
    return schema


def _put_in_metrics(row: dict) -> None:
    """Put the names and the range of the metrics into the schema of a row, which also serves for `common`."""
    *names, last = METRICS
    row["metric"] |= {
        "pattern": rf"\A({'|'.join(METRICS)})(_[a-z0-9_]+)?\Z",
        "description": f"{', '.join(names)} or {last}, with _mm for MNLI's mismatched split",
    }
    lows, highs = zip(*(metric.range for metric in METRICS.values()), strict=True)
    row["value"] |= {"minimum": 100 * min(lows), "maximum": 100 * max(highs)}


def problems_of_row(values: dict) -> Iterator[str]:
    """Yield what is wrong with a completed row that conforms to the schema."""
    missing = [key for key in REQUIRED if key not in values]
    if missing:
        yield f"lacks {', '.join(missing)}, here or under common"
    n = values.get("n")
    if values.get("statistic") == SINGLE_RUN and n != 1:
        yield f"is a single run, so n cannot be {n}"
    if values.get("spread") is not None and n == 1:
        yield "has a spread, which a single run cannot have; give the number of runs as n, or leave it out"
