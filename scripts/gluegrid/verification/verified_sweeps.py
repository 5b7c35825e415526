"""The part of results.md on sweeps against the runs: every point, which was chosen, and the optimism."""

import re

from gluegrid.verification.document import Document
from gluegrid.verification.expected_choice import best_of, is_choice, optimism, varied
from gluegrid.verification.expected_groups import Group
from gluegrid.verification.expected_tables import NOTHING, Expected, metrics, percentage, score
from gluegrid.verification.recomputed_statistics import mean
from gluegrid.verification.verified_limits import check_seeds, of_points, value_in_words

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
