"""What readers must know to judge an experiment's numbers. The texts are unescaped."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from gluegrid.common.provenance import without_commit
from gluegrid.experiment.option import Option
from gluegrid.experiment.options import OPTIONS
from gluegrid.experiment.run import COMPUTE_PATHS
from gluegrid.results.outcomes import Outcome

NOT_REPEATABLE = "Not repeatable to the last bit, since GPU kernels were not deterministic"


def notes(outcomes: Sequence[Outcome]) -> list[str]:
    """Return lines on missing cells and, if there are results, on how the numbers were computed."""
    done = [outcome for outcome in outcomes if outcome.is_done]
    lines = [f"Cells: {len(done)} of {len(outcomes)} have a result."]
    if len(done) < len(outcomes):
        missing = ", ".join(outcome.cell.name for outcome in outcomes if not outcome.is_done)
        lines.append(f"Missing: {missing}. Means leave them out.")
    if not done:
        return lines
    seeds = sorted({outcome.cell.seed for outcome in outcomes})
    lines.append(
        f"Seeds: {', '.join(map(str, seeds))}."
        + (" One seed says little about small tasks." if len(seeds) == 1 else "")
    )
    for title, key in (("Device", "device"), ("Driver", "driver")):
        lines += _distinct(title, (outcome.record[key] for outcome in done))
    lines += precision_notes(done)
    lines += _ways_to_compute(done)
    lines += _distinct("Versions", (_versions(outcome) for outcome in done))
    lines += _distinct("Code", (_code(outcome) for outcome in done))
    lines += _distinct("Models that ran Python code of their own", (_model_with_code(outcome) for outcome in done))
    lines += _other_files(done)
    lines += _with_cells(done, lambda outcome: ways_to_train(outcome.cell.values))
    lines += _with_cells(done, lambda outcome: [] if is_repeatable(outcome.record) else [NOT_REPEATABLE])
    return lines + _peculiarities(done)


def precision_of(record: Mapping) -> str | None:
    """Return the precision of a result, or the precisions in order if its attempts differ."""
    parts = [*(part.get("precision") for part in record.get("continued", [])), record.get("precision")]
    return ", then ".join(dict.fromkeys(str(part) for part in parts if part is not None)) or None


def precisions_of(done: Iterable[Outcome]) -> str:
    """Return the precisions that results were computed in, or an empty text if no record has one."""
    return " and ".join(sorted(filter(None, {precision_of(outcome.record) for outcome in done})))


def precision_notes(outcomes: Iterable[Outcome]) -> list[str]:
    """Return a line on the precision of the results and, if it varies, one that lists the cells of each precision.

    A model's name stands for all of its cells; cells with the most common precision are not listed.
    """
    done = [outcome for outcome in outcomes if outcome.is_done]
    by_precision: dict[str, list[Outcome]] = {}
    for outcome in done:
        if precision := precision_of(outcome.record):
            by_precision.setdefault(precision, []).append(outcome)
    lines = _distinct("Precision", by_precision)
    if len(by_precision) < 2:
        return lines
    of_models = Counter(outcome.cell.model for outcome in done)
    *fewer, (most, _) = sorted(by_precision.items(), key=lambda item: (len(item[1]), item[0]))
    texts = [f"{precision} in {', '.join(_models_or_cells(cells, of_models))}" for precision, cells in sorted(fewer)]
    return [*lines, f"Precisions differ: {'; '.join(texts)}; {most} in all others."]


def _models_or_cells(outcomes: Sequence[Outcome], of_models: Mapping[str, int]) -> list[str]:
    """Return the names of these cells, or of the model in place of all its cells."""
    here = Counter(outcome.cell.model for outcome in outcomes)
    whole = {model for model, count in here.items() if count == of_models[model]}
    cells = (outcome.cell for outcome in outcomes)
    return [*dict.fromkeys(f"all of {cell.model}" if cell.model in whole else cell.name for cell in cells)]


def compute_paths(record: Mapping) -> str:
    """Describe how a result was computed; return an empty text for older records, which do not say."""
    paths = {str(path) for path in record.get("compute_paths") or []}
    known = [words for path, words in COMPUTE_PATHS.items() if path in paths]
    return " and ".join([*known, *sorted(paths - COMPUTE_PATHS.keys())])


def _ways_to_compute(done: Sequence[Outcome]) -> list[str]:
    """Return a line that counts the runs for each way to compute."""
    runs = Counter(compute_paths(outcome.record) for outcome in done)
    del runs[""]
    ordered = sorted(runs.items(), key=lambda item: (-item[1], item[0]))
    texts = [f"{words} ({count} run{'' if count == 1 else 's'})" for words, count in ordered]
    return [f"Computed as: {', '.join(texts)}."] if texts else []


def is_repeatable(record: Mapping) -> bool:
    """Tell whether retraining gives the same bits; it does unless the record says otherwise."""
    return record.get("deterministic") is not False


def _model_with_code(outcome: Outcome) -> str | None:
    return outcome.cell.model if outcome.cell.run["model"].get("trust_remote_code") else None


def _distinct(title: str, values: Iterable) -> list[str]:
    texts = sorted({str(value) for value in values if value is not None})
    return [f"{title}: {'; '.join(texts)}."] if texts else []


def _other_files(done: Sequence[Outcome]) -> list[str]:
    """Return a line that names the splits whose files are not the official ones, and their tasks."""
    tasks: dict[str, dict[str, None]] = {}
    for outcome in done:
        if outcome.other_files:
            tasks.setdefault(", ".join(outcome.other_files), {})[outcome.cell.task] = None
    texts = [f"{splits} of {', '.join(names)}" for splits, names in tasks.items()]
    return [f"Not the official files: {'; '.join(texts)}."] if texts else []


def _with_cells(done: Sequence[Outcome], sentences: Callable[[Outcome], list[str]]) -> list[str]:
    """Return a line for each sentence with the cells that it applies to."""
    cells = _cells_by_sentence(done, sentences)
    return [f"{text}: {'all cells' if len(names) == len(done) else ', '.join(names)}." for text, names in cells.items()]


def _peculiarities(done: Sequence[Outcome]) -> list[str]:
    """Return a line for each peculiarity with all cells that have it, often many seeds."""
    cells = _cells_by_sentence(done, peculiarities)
    return [f"{line[0].upper()}{line[1:]}: {', '.join(names)}." for line, names in cells.items()]


def _cells_by_sentence(done: Sequence[Outcome], sentences: Callable[[Outcome], list[str]]) -> dict[str, list[str]]:
    cells: dict[str, list[str]] = {}
    for outcome in done:
        for sentence in sentences(outcome):
            cells.setdefault(sentence, []).append(outcome.cell.name)
    return cells


def _versions(outcome: Outcome) -> str:
    names = ("python", "torch", "transformers", "accelerate", "tokenizers")
    return ", ".join(f"{name} {outcome.record['versions'][name]}" for name in names)


def _code(outcome: Outcome) -> str:
    git = outcome.record["git"]
    if git["commit"] is None:
        return without_commit(git)
    return f"commit {git['commit'][:12]}" + (", with uncommitted changes" if git["dirty"] else "")


def peculiarities(outcome: Outcome) -> list[str]:
    """Return what is unusual about one cell's number, except what the notes of the tables say."""
    results, record, most = outcome.results, outcome.record, outcome.cell.run.get("max_eval_samples")
    lines = []
    is_trained = "train_samples" in results
    if is_trained and results["train_samples"] < record["train_rows"] and not outcome.has_other_data:
        lines.append(f"trained on a subset, {results['train_samples']:,} of {record['train_rows']:,} examples")
    if most is not None and not outcome.has_other_data:
        lines.append(f"scored on at most {most:,} examples of each validation split")
    if results.get("degenerate"):
        lines.append("degenerate (one answer for all examples of a validation split, or an undefined metric)")
    if rows := record.get("micro_batch_rows", {}).get("train"):
        lines.append(f"trained in micro-batches of {rows} since memory was short, with the same updates")
    return lines + _parts_by_others(record)


def _parts_by_others(record: dict) -> list[str]:
    """Return a text for each step at which training resumed with other code, precision or device."""
    parts = [*record.get("continued", []), {**record, "step": None}]
    is_of_one_precision = precision_of(record) == record.get("precision")
    makers = [
        f"{code_of(part['git'])} on {part['device']}"
        + ("" if is_of_one_precision else f" in {part.get('precision', 'unknown precision')}")
        for part in parts
    ]
    return [
        f"{before} until step {part['step']:,}, then {after}"
        for part, before, after in zip(parts, makers, makers[1:], strict=False)
        if before != after
    ]


def code_of(git: dict) -> str:
    """Describe the code that the `git` of a record identifies."""
    if git["commit"] is None:
        return f"code that is {without_commit(git)}"
    return f"code {git['commit'][:12]}" + (" with uncommitted changes" if git["dirty"] else "")


def named_options(values: Mapping) -> list[str]:
    """Return the options that tables name beside a number, since they change what it means."""
    return [option.beside(values) for option in _not_at_default(values) if option.beside]


def ways_to_train(values: Mapping) -> list[str]:
    """Return a sentence for each thing that readers must know about the training; usually none."""
    # Several options may give the same sentence; say it once.
    return [*dict.fromkeys(option.note(values) for option in _not_at_default(values) if option.note)]


def _not_at_default(values: Mapping) -> list[Option]:
    return [option for key, option in OPTIONS.items() if values.get(key, option.default) != option.default]


def depends_on_seed(run: dict) -> bool:
    """Tell whether another seed would change the result; it does not if a finished model is only evaluated."""
    return run.get("do_train", True) or run.get("init_from") is not None
