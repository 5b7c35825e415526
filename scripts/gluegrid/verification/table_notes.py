"""What stands in parentheses behind a result: seeds, other means, options, the point of a sweep, examples."""

import json
import re

from gluegrid.common import escaping
from gluegrid.experiment.options import SWEPT_KEYS
from gluegrid.verification.expected_groups import Data, Group, best_of, count_compared, is_choice, optimism, varied
from gluegrid.verification.expected_tables import NOTHING, Expected, metrics, percentage, score
from gluegrid.verification.markdown import BETWEEN_NUMBERS, Document, in_words, remark_of
from gluegrid.verification.results import mean

LONGEST_VALUE = 60  # characters
COUNTS = re.compile(r"\d+ of \d+( seeds)?(, .*)?|\d+ (failed|degenerate).*|degenerate")
WITHOUT = re.compile(r"without (?:it|them) (.*)")
OPTIONS = re.compile(r"group_by_length|lora|not trained here|from [\w.-]+")
EXAMPLES = re.compile(r"([\w.-]+) ([\d,]*\d) (?:of|instead of) ([\d,]*\d)\b(?! runs| seeds| tasks)")


def check_limits(document: Document, where: str, shown: str, group: Group) -> None:
    """Compare what limits a result in the tables of models with what its runs give."""
    if not group.is_known:
        return
    parts = remark_of(shown).split("; ")
    if group.states:
        expected_counts = counts(group, " seeds") if group.done else _failures(group)
        document.check_text(f"{where}, seeds", _found(COUNTS, parts), expected_counts)
    if not group.done:
        return
    check_without_degenerate(document, where, parts, group, metrics(group.without_degenerate()))
    document.check_set(f"{where}, options", set(filter(OPTIONS.fullmatch, parts)), _options(group))
    points = [part for part in parts if _is_point(part)]
    document.check_set(f"{where}, point", set(points), set(_point(group)))
    expected = group.data()
    if expected is not None:
        said = examples("; ".join(part for part in parts if part not in points))
        check_data(document, where, said, expected)


def check_seeds(document: Document, where: str, shown: str, group: Group) -> None:
    """Compare the seeds of a point in the table of its sweep."""
    if group.is_known and group.states:
        parts = shown.split("; ")
        document.check_text(f"{where}, Seeds", _found(COUNTS, parts), counts(group, ""))
        check_without_degenerate(document, where, parts, group, score(group.without_degenerate().scores()))


def counts(group: Group, unit: str) -> str | None:
    """Return how many seeds have a result, have failed, and are degenerate; None where nothing is to be said."""
    single = len(group.runs) == 1
    failed, degenerate = group.failed, len(group.degenerate)
    troubles = [f"{failed} failed"] if failed else []
    if degenerate:
        troubles.append("degenerate" if single else f"{degenerate} degenerate")
    seeds = [] if single and unit else [f"{len(group.done)} of {len(group.runs)}{unit}"]
    return ", ".join(seeds + troubles) or None


def check_without_degenerate(
    document: Document, where: str, parts: list[str], group: Group, expected: Expected
) -> None:
    """Compare the numbers of the runs that are not degenerate."""
    said = _found(WITHOUT, parts)
    if not group.degenerate or len(group.degenerate) == len(group.done):
        document.check_text(f"{where}, without degenerate runs", said, None)
    elif expected is not None:
        document.findings.table_numbers += (len(expected) + 1) // 2
        texts = BETWEEN_NUMBERS.split(WITHOUT.fullmatch(said)[1]) if said else []
        if len(texts) != len(expected) or any(text not in of for text, of in zip(texts, expected, strict=True)):
            document.add(f"{where}, without degenerate runs", f"{said or 'not said'}, runs give {in_words(expected)}")


def check_data(document: Document, where: str, said: set[Data], expected: set[Data]) -> None:
    """Compare the examples that a text speaks of."""
    document.findings.table_numbers += 2 * len(expected)
    if said != expected:
        document.add(where, f"the examples are said to be {_listed(said)}, the runs have {_listed(expected)}")


def examples(text: str) -> set[Data]:
    """Return what a text says of examples, such as `train 24 of 3,668`."""
    return set(EXAMPLES.findall(text))


def _found(pattern: re.Pattern, parts: list[str]) -> str | None:
    return next(filter(pattern.fullmatch, parts), None)


def _failures(group: Group) -> str | None:
    return f"{group.failed} of {len(group.runs)} seeds" if group.failed and len(group.runs) > 1 else None


def _options(group: Group) -> set[str]:
    run = group.runs[0].cell.run
    of_batches = {run.get("train_sampling_strategy", "random")} - {"random"}
    of_start = {f"from {run['init_from']['task']}"} if run.get("init_from") else set()
    untrained = {"not trained here"} if run.get("do_train") is False else set()
    return of_batches | of_start | untrained | ({"lora"} if run.get("lora") else set())


def _point(group: Group) -> list[str]:
    """Return what is said of a variant and of those that it was chosen from."""
    if len(group.points) == 1:
        return []
    if not is_choice(group):
        return [f"variant {group.variant}" + (f", chosen on {group.decided_by}" if group.decided_by else "")]
    return [*filter(None, [values_of_point(group)]), f"best of {of_points(group)} points"]


def values_of_point(group: Group) -> str:
    """Return the values of a variant in which those of its sweep differ."""
    return ", ".join(f"{key} {value_in_words(group.settings.get(key))}" for key in varied(group.points))


def value_in_words(value: object) -> str:
    """Return a training value as the tables have it."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
    return escaping.shortened(text, LONGEST_VALUE)


def of_points(group: Group) -> str:
    """Return how many variants were compared, of how many."""
    compared, of = count_compared(group), len(group.points)
    return str(of) if compared == of else f"{compared} of {of}"


def _is_point(part: str) -> bool:
    return part.startswith(("best of ", "variant ", *(f"{key} " for key in SWEPT_KEYS)))


def _listed(data: set[Data]) -> str:
    return ", ".join(f"{split} {used} of {rows}" for split, used, rows in sorted(data)) or "all of the official"


COMPARED = re.compile(r"Best of (\d+ of \d+) points")


def check_sweeps(document: Document, sweeps: list[list[Group]], shown: list[Group]) -> None:
    """Compare the tables of all sweeps of which a point was chosen."""
    known = [(points, chosen) for points, chosen in zip(sweeps, shown, strict=True) if len(points) > 1]
    for points, chosen in known:
        if not chosen.is_clear:
            _skip(document, points)
        elif is_choice(chosen):
            with document.findings.noting():
                _check_sweep(document, points, chosen)
    with document.findings.noting():
        _check_optimism(document, [points for points, _ in known])


def _title(group: Group) -> str:
    return f"{group.model}, {group.display_name}"


def _skip(document: Document, points: list[Group]) -> None:
    """Leave out the table of a sweep of which it is not clear what it should say."""
    document.sections[:] = [section for section in document.sections if section.title != _title(points[0])]


def _check_sweep(document: Document, points: list[Group], chosen: Group) -> None:
    title = _title(chosen)
    lines = document.find(title).lines
    header, *rows = document.take_table(title, len(points))
    keys = varied(points)
    document.check_text(f"{title}, columns", ", ".join(header), ", ".join(_columns(keys, chosen)))
    if header != _columns(keys, chosen):
        return
    for point, row in zip(points, rows, strict=True):
        _check_point(document, title, point, dict(zip(header, row, strict=True)), keys)
        document.check_text(f"{title}, Chosen", row[-1], "chosen" if point.variant == chosen.variant else "")
    said = COMPARED.search(" ".join(lines))
    compared = of_points(chosen)
    document.check_text(f"{title}, compared", said and said[1], compared if " of " in compared else None)


def _columns(keys: list[str], chosen: Group) -> list[str]:
    return [*(keys or ["Variant"]), *_numbers(chosen), "Seeds", "Chosen"]


def _check_point(document: Document, title: str, point: Group, row: dict[str, str], keys: list[str]) -> None:
    values = {key: value_in_words(point.settings.get(key)) for key in keys} or {"Variant": point.variant}
    where = f"{title}, {', '.join(values.values())}"
    for column, value in values.items():
        document.check_text(f"{where}, {column}", row[column], value)
    for column, expected in _numbers(point).items():
        document.check_number(f"{where}, {column}", row[column], expected if point.done else NOTHING)
    check_seeds(document, where, row["Seeds"], point)


def _numbers(point: Group) -> dict[str, Expected]:
    """Return the columns of numbers of a point."""
    of_metrics = {"Result": metrics(point)} if len(point.task.metric_keys()) > 1 else {}
    of_holdout = {"Score on the holdout": score(point.holdout_scores())} if point.has_holdout else {}
    return of_metrics | {"Score": score(point.scores())} | of_holdout


def _check_optimism(document: Document, sweeps: list[list[Group]]) -> None:
    """Compare the table of optimism; it has a row for each sweep with a holdout and several points with scores."""
    expected = [found for points in sweeps if (found := optimism(points))]
    unclear = any(points[0].has_holdout and best_of(points, Group.scores) is None for points in sweeps)
    has_section = any(section.title == "Optimism" for section in document.sections)
    if unclear or not (expected or has_section):
        document.sections[:] = [section for section in document.sections if section.title != "Optimism"]
        return
    _, *rows = document.take_table("Optimism", len(expected))
    for (by_holdout, by_validation), row in zip(expected, rows, strict=True):
        where = f"optimism, {_title(by_holdout)}"
        if document.has_name(where, "".join(row[:2]), by_holdout.model + by_holdout.display_name):
            scores = [mean(group.scores()) for group in (by_holdout, by_validation)]
            for column, shown, value in zip(("holdout", "validation"), row[2:], scores, strict=False):
                document.check_number(f"{where}, {column}", shown, percentage(value))
            document.check_number(f"{where}, difference", row[4], percentage(scores[1] - scores[0]))
