"""What stands in parentheses behind a result: seeds, other means, options, the point of a sweep, examples."""

import json
import re

from gluegrid.common import escaping
from gluegrid.experiment.options import SWEPT_KEYS
from gluegrid.verification.document import BETWEEN_NUMBERS, Document, in_words, remark_of
from gluegrid.verification.expected_choice import count_compared, is_choice, varied
from gluegrid.verification.expected_groups import Data, Group
from gluegrid.verification.expected_tables import Expected, metrics, score

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
