"""The expected tables of numbers in results.md and the lines below them, from recomputed runs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.references import by_model_and_task, document, reference_model
from gluegrid.verification import expected_texts as texts
from gluegrid.verification.expected_groups import SYNTHETIC, Group, best_of, defined, optimism, varied
from gluegrid.verification.expected_notes import ALL_SYNTHETIC, ExpectedNotes
from gluegrid.verification.expected_results import (
    data_mark,
    metrics,
    result,
    seeds_of_point,
    share_of_points,
    without_result,
)
from gluegrid.verification.expected_texts import Expected
from gluegrid.verification.markdown import Note, Part
from gluegrid.verification.over_seeds import mean, over_seeds
from gluegrid.verification.runs import must_say_precisions, precision_of

OTHER_DATA = "Numbers with * are not from the official data; results.csv says how theirs differ."
OVER_SEEDS = {"Models by tasks": "mean", "Median over seeds": "median", "Best seed": "best"}  # by the section's title

Row = dict[str, Expected]  # by the column's title


def tables_of_numbers(experiment: Experiment, groups: Sequence[Group]) -> Iterator[Part]:
    """Yield the sections with tables of numbers, in the order of the document; several may have the same title.

    `groups` has the variant that tables show for each model and task.
    """
    models: dict[str, list[Group]] = {}
    for group in groups:
        models.setdefault(group.model, []).append(group)
    done = [group for group in groups if group.done]
    are_synthetic = bool(done) and all(group.data() == SYNTHETIC for group in done)
    top = [texts.exactly(ALL_SYNTHETIC)] if are_synthetic else []
    yield Part(f"Results of {experiment.name}", lines=top if all(group.is_known for group in groups) else None)
    for model, of_model in models.items():
        notes = ExpectedNotes(of_model, are_synthetic=are_synthetic)
        yield _table(model, (_model_row(group, notes) for group in of_model), lines=notes.lines())
    yield from _models_by_tasks(ExpectedNotes(groups, of_scores=True, are_synthetic=are_synthetic), models)
    yield from map(_points_table, (group for group in groups if group.is_choice or not group.is_clear))
    yield from _optimism_table([group.points for group in groups])
    yield from _beside_the_document(experiment, models, are_synthetic)


def _table(title: str, rows: Iterable[Row], **more: object) -> Part:
    rows = list(rows)
    return Part(title, list(rows[0]), [list(row.values()) for row in rows], **more)


def _model_row(group: Group, notes: ExpectedNotes) -> Row:
    is_trained = group.settings["do_train"]
    runtime, epoch = (mean(group.values(key)) if is_trained else None for key in ("train_runtime", "epoch"))
    return {
        "Task": texts.exactly(group.name),
        "Metric": texts.exactly(texts.shortened(group.entry.get("metric_label", "/".join(group.task.metrics)))),
        "Result": _marked(result(group), notes.mark([group])),
        "Training time (s)": texts.seconds(runtime) if group.is_known else texts.ANYTHING,
        "epochs": texts.epochs(epoch) if group.is_known else texts.ANYTHING,
    }


def _marked(number: Expected, mark: Expected) -> Expected:
    return number if number == texts.ANYTHING else [*number, *mark]


def _models_by_tasks(notes: ExpectedNotes, models: dict[str, list[Group]]) -> Iterator[Part]:
    """Yield the tables with a row for each model: of means and, with several seeds, of medians and best seeds."""
    tasks = {group.task.name: group for group in notes.groups}
    columns = ["Model", *(group.name for group in tasks.values()), "Mean"]
    has_seeds = any(len(group.runs) > 1 for group in notes.groups)
    for title in OVER_SEEDS if has_seeds else ["Models by tasks"]:
        rows = [_tasks_row(model, of, tasks, title, notes) for model, of in models.items()]
        lines = notes.lines() if title == "Models by tasks" else None
        yield Part(title, columns, rows, lines=lines, texts=1)


def _tasks_row(
    model: str, groups: list[Group], tasks: dict[str, Group], title: str, notes: ExpectedNotes
) -> list[Expected]:
    """Return a model's row in models by tasks: its name, a score for each task, and their mean.

    An import may have no run of a model on a task.
    """
    there = {group.task.name: group for group in groups}
    every = [
        there.get(name) or replace(group, model=model, runs=[], states=[], is_clear=True)
        for name, group in tasks.items()
    ]
    cells = [_marked(_tasks_cell(group, title), notes.mark([group])) for group in every]
    return [texts.exactly(model), *cells, _mean_over_tasks(every, title, notes)]


def _tasks_cell(group: Group, title: str) -> Expected:
    if not group.is_known:
        return texts.ANYTHING
    if not group.done:
        return without_result(group)
    if not group.task.metric_keys():
        return texts.PREDICTED
    statistic = OVER_SEEDS[title]
    if statistic == "mean":
        number = texts.spread_text([group.scores()])
    else:
        number = texts.percentage(over_seeds(group.scores())[statistic])
    return number


def _mean_over_tasks(groups: list[Group], title: str, notes: ExpectedNotes) -> Expected:
    if not all(group.is_known for group in groups):
        return texts.ANYTHING
    scored = [group for group in groups if group.task.metric_keys()]
    scores = [over_seeds(group.scores())[OVER_SEEDS[title]] for group in scored]
    known = [group for group, score in zip(scored, scores, strict=True) if score is not None]
    number = texts.percentage(mean(defined(scores))) if known else texts.NOTHING
    is_partial = 0 < len(known) < len(scored)
    return _marked(number, [{"*"}] if is_partial else notes.mark(known))


def _points_table(chosen: Group) -> Part:
    """Return the table of a sweep from which a point was chosen."""
    title = f"{chosen.model}, {chosen.name}"
    if not chosen.is_clear:
        return Part(title, is_clear=False)
    keys = varied(chosen.points)
    share = share_of_points(chosen)
    compared = Note(f"{title}, compared", "Best of ", r"\d+ of \d+", [{share} if " of " in share else set()])
    differ = [point.has_other_data() for point in chosen.points]
    other = [{OTHER_DATA} if any(differ) else set()] if None not in differ else [{OTHER_DATA}, set()]
    notes = [compared, Note(f"{title}, data", "Numbers with ", ".+", other)]
    rows = [
        _point_row(point, keys) | {"Chosen": [{"chosen"} if point.variant == chosen.variant else {""}]}
        for point in chosen.points
    ]
    return _table(title, rows, notes=notes, names=len(keys) or 1)


def _point_row(point: Group, keys: list[str]) -> Row:
    values = {key: [{texts.value_text(point.settings.get(key))}] for key in keys} or {"Variant": [{point.variant}]}
    numbers = {"Result": metrics(point)} if len(point.task.metric_keys()) > 1 else {}
    numbers["Score"] = texts.spread_text([point.scores()])
    if point.has_holdout:
        numbers["Score on the holdout"] = texts.spread_text([point.holdout_scores()])
    shown = {title: [*number, *data_mark(point)] if point.done else texts.NOTHING for title, number in numbers.items()}
    return values | shown | {"Seeds": seeds_of_point(point)}


def _optimism_table(sweeps: list[Sequence[Group]]) -> Iterator[Part]:
    """Yield the table of optimism, with a row for each sweep that has a holdout and several points with scores."""
    chosen = [pair for points in sweeps if (pair := optimism(points))]
    if any(points[0].has_holdout and best_of(points, Group.scores) is None for points in sweeps):
        yield Part("Optimism", is_clear=False)
    elif chosen:
        yield _table("Optimism", map(_optimism_row, *zip(*chosen, strict=True)), names=2)


def _optimism_row(by_holdout: Group, by_validation: Group) -> Row:
    scores = [mean(group.scores()) for group in (by_holdout, by_validation)]
    return {
        "Model": texts.exactly(by_holdout.model),
        "Task": texts.exactly(by_holdout.name),
        "Chosen on the holdout": texts.percentage(scores[0]),
        "Chosen on validation": texts.percentage(scores[1]),
        "Optimism": texts.percentage(scores[1] - scores[0]),
    }


def _beside_the_document(experiment: Experiment, models: dict[str, list[Group]], are_synthetic: bool) -> Iterator[Part]:
    """Yield the tables of the models and tasks that the document has: the runs' numbers, and the document's own.

    Earlier releases wrote the section, and a table for each of the document's models, whatever the tasks.
    """
    label, documented = document()["label"], by_model_and_task(document())
    of_models = {model: documented.get(reference_model(experiment.models[model])) for model in models}
    concerns = {
        model: any(group.task.name in theirs for group in models[model])
        for model, theirs in of_models.items()
        if theirs is not None
    }
    yield Part(f"Beside {label}", is_clear=any(concerns.values()))
    for model, is_concerned in concerns.items():
        groups, theirs = models[model], of_models[model]
        marks = ExpectedNotes(groups, are_synthetic=are_synthetic)
        rows = [
            _row_beside(_model_row(group, marks), group, theirs.get(group.task.name, {}), label) for group in groups
        ]
        precision = document()["common"].get("precision")
        yield _table(model, rows, notes=_note_of_precisions(groups, precision, label), is_clear=is_concerned)


def _note_of_precisions(groups: list[Group], theirs: str | None, label: str) -> list[Note]:
    """Return the lines on results whose precision differs from the document's."""
    if not all(group.is_known for group in groups):
        return []
    tasks: dict[str, list[str]] = {}
    for group in groups:
        ours = " and ".join(sorted({precision_of(run) for run in group.done} - {""}))
        if theirs and ours and ours != theirs:
            tasks.setdefault(ours, []).append(group.name)
    lines = {f"Ours in {ours}, {label} in {theirs}: {', '.join(names)}." for ours, names in tasks.items()}
    older = [] if must_say_precisions(run for group in groups for run in group.done) else [set()]
    return [Note(f"{groups[0].model}, precision beside {label}", "Ours in ", ".+", [lines, *older])]


def _row_beside(ours: Row, group: Group, theirs: dict[str, float], label: str) -> Row:
    names = (key.removeprefix("eval_") for key in group.task.metric_keys())
    values = [texts.two_decimals(theirs[metric]) for metric in names if metric in theirs]
    return {
        **{title: ours[title] for title in ("Task", "Metric", "Result")},
        f"Result of {label}": texts.joined("/", values) or texts.NOTHING,
        "Training time (s)": ours["Training time (s)"],
        f"Time of {label} (s)": texts.seconds(theirs.get("train_runtime")),
        "epochs": ours["epochs"],
        f"epochs of {label}": texts.epochs(theirs.get("epoch")),
    }
