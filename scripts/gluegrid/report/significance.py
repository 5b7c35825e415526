"""Which scores may be marked as best: those that comparisons.json tells apart from another by more than chance."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gluegrid.analysis.bootstrap import Difference
from gluegrid.analysis.comparisons import Comparison
from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json
from gluegrid.experiment.experiment import Experiment
from gluegrid.results.summary import Group


@dataclass(frozen=True)
class SavedComparisons:
    """What comparisons.json holds. `is_outdated`: its results are not those of now."""

    level: float
    of_tasks: Sequence[Comparison]
    of_means: Sequence[Comparison]
    is_outdated: bool


def read_comparisons(experiment: Experiment, chosen: Sequence[Group]) -> SavedComparisons | None:
    """Return the experiment's comparisons; None where `snakemake compare` has not written any that can be read."""
    try:
        content = read_json(Path(experiment.paths.comparisons_json))
        of_tasks, of_means = ([_comparison(each) for each in content[key]] for key in ("tasks", "means"))
        return SavedComparisons(content["method"]["level"], of_tasks, of_means, _is_outdated(chosen, content["inputs"]))
    except (DataError, KeyError, TypeError):
        return None


def best_models(
    means: Mapping[str, float], degenerate: Collection[str], comparisons: Iterable[Comparison]
) -> dict[str, bool]:
    """Return the models to mark as best, and for each whether that rests on a single seed.

    They are the one with the highest mean and those not told apart from it, if it is better than at least one model
    after Holm's correction. `degenerate` models are never marked, nor is any other below one of them.
    """
    top = max(means, key=lambda model: (means[model], model not in degenerate), default=None)
    against_top = {
        each.second if each.first == top else each.first: each
        for each in comparisons
        if top in (each.first, each.second)
    }
    wins = [each for each in against_top.values() if each.better_adjusted == top]
    if top in degenerate or not wins:
        return {}
    ties = {
        model: each.is_of_one_seed
        for model, each in against_top.items()
        if each.better_adjusted is None and model not in degenerate
    }
    return {top: any(each.is_of_one_seed for each in wins)} | ties


def _comparison(entry: dict) -> Comparison:
    values = {field.name: entry[field.name] for field in dataclasses.fields(Comparison)}
    return Comparison(**values | {"difference": Difference(**entry["difference"])})


def _is_outdated(chosen: Sequence[Group], inputs: Sequence[dict]) -> bool:
    """Tell whether a result is missing from the inputs of the comparisons, or is another than it was then."""
    scored = [outcome for group in chosen if group.task.validation for outcome in group.outcomes]
    now = {_identity(outcome.cell.wildcards): _hashes(outcome.record or {}) for outcome in scored}
    return now != {_identity(each): _hashes(each) for each in inputs}


def _identity(wildcards: Mapping) -> tuple[str, ...]:
    return tuple(wildcards[key] for key in ("model", "task", "variant", "seed"))


def _hashes(record: Mapping) -> tuple:
    return record.get("run_sha256"), record.get("predictions_sha256")
