"""The notes expected below a table of numbers, and the marks expected at its numbers."""

from collections.abc import Iterable, Sequence

from gluegrid.verification import expected_texts as texts
from gluegrid.verification.expected_groups import SYNTHETIC, Group, defined, varied
from gluegrid.verification.expected_results import metrics, share_of_points, without_degenerate
from gluegrid.verification.expected_texts import Expected
from gluegrid.verification.over_seeds import over_seeds

TITLES = {False: "Notes:", True: "Notes (* marks the numbers that they qualify):"}
ALL_SYNTHETIC = "The data are synthetic, so the numbers say nothing about the tasks they are named after."


class ExpectedNotes:
    """The expected notes of a table that shows these groups; with `of_scores` it is models by tasks.

    They are not `is_clear` if a result is unusable or what qualifies it is unknown.
    """

    def __init__(self, groups: Sequence[Group], of_scores: bool = False, are_synthetic: bool = False):
        self.groups = groups
        self.of_scores = of_scores
        self.is_clear = all(_is_clear(group) for group in groups)
        self._caveats: dict[tuple[str, str], dict[str, Expected]] = {}
        for group in groups if self.is_clear else ():
            if group.done:
                named = {texts.in_words(text): text for text in _caveats(group, of_scores, are_synthetic)}
                self._caveats[group.model, group.task.name] = named
        counts = [name for named in self._caveats.values() for name in named]
        several = len(self._caveats) > 1
        self._common = {name for name in counts if several and counts.count(name) == len(self._caveats)}

    def mark(self, groups: Iterable[Group]) -> Expected:
        """Return the expected mark of a number made from these groups."""
        if not self.is_clear:
            return [{"*", ""}]
        return [{"*"}] if any(self._is_marked(group) for group in groups) else []

    def lines(self) -> list[Expected] | None:
        """Return all lines expected below the table, or None if they are not clear."""
        if not self.is_clear:
            return None
        about: dict[str, tuple[Expected, list[Group]]] = {}
        for group in self.groups:
            caveats = self._caveats.get((group.model, group.task.name), {})
            others = {text: texts.exactly(text) for text in (*_variant(group), *_no_result(group))}
            for name, text in (caveats | others).items():
                about.setdefault(name, (text, []))[1].append(group)
        lines = [[{f"- {self._names(name, of)}: "}, *text] for name, (text, of) in about.items()]
        partial = _partial_means(self.groups) if self.of_scores else []
        lines += partial or ([] if self.of_scores else _seeds(self.groups))
        is_marked = bool(partial) or any(map(self._is_marked, self.groups))
        return [texts.exactly(TITLES[is_marked]), *lines] if lines else []

    def _is_marked(self, group: Group) -> bool:
        return bool(self._caveats.get((group.model, group.task.name), {}).keys() - self._common)

    def _names(self, name: str, about: list[Group]) -> str:
        if name in self._common:
            return "All numbers"
        done = [group for group in self.groups if group.done]
        if len({group.model for group in self.groups}) == 1:
            return ", ".join(group.name for group in about)
        tasks = {group.model: [each.task.name for each in done if each.model == group.model] for group in about}
        here = {model: [each.task.name for each in about if each.model == model] for model in tasks}
        whole = [model for model, of in tasks.items() if len(of) > 1 and not {*of} - {*here[model]}]
        parts = [f"all of {model}" for model in whole]
        for task in dict.fromkeys(group.task.name for group in about if group.model not in whole):
            models = [group.model for group in about if group.task.name == task]
            every = [group.model for group in done if group.task.name == task]
            listed = ", ".join(model for model in models if model not in whole)
            title = next(group.name for group in about if group.task.name == task)
            parts.append(title if len(models) == len(every) else f"{title} ({listed})")
        return ", ".join(parts)


def _is_clear(group: Group) -> bool:
    is_counted = bool(group.states) or len(group.done) == len(group.runs)
    return group.is_known and is_counted and group.data() is not None


def _caveats(group: Group, of_scores: bool, are_synthetic: bool) -> Iterable[Expected]:
    """Yield what qualifies a number: missing and degenerate seeds, ways to train, a choice, and other data."""
    done, planned, degenerate = len(group.done), len(group.runs), len(group.degenerate)
    if done < planned:
        more = [(group.failed, "failed"), (group.stopped, "stopped")]
        counts = [f"{done} of {planned} seeds", *(f"{count} {word}" for count, word in more if count)]
        yield texts.exactly(", ".join(counts))
    if degenerate:
        others = group.without_degenerate()
        number = texts.spread_text([others.scores()]) if of_scores else metrics(others)
        counted = "degenerate" if planned == 1 else f"{degenerate} of {done} seeds degenerate"
        yield texts.joined("; ", [texts.exactly(counted), without_degenerate(group, number)])
    yield from map(texts.exactly, _options(group))
    if group.is_choice:
        yield texts.exactly(f"best of {share_of_points(group)} points")
    data = group.data()
    if data and not (data == SYNTHETIC and are_synthetic):
        yield texts.exactly("synthetic data" if data == SYNTHETIC else data)


def _options(group: Group) -> Iterable[str]:
    """Yield the training options that change what the number means."""
    run = group.runs[0].cell.run
    strategy, start = run.get("train_sampling_strategy", "random"), run.get("init_from")
    named = {
        strategy: strategy != "random",
        "lora": run.get("lora"),
        f"from {start and start['task']}": start,
        "not trained here": run.get("do_train") is False,
    }
    return [name for name, is_used in named.items() if is_used]


def _variant(group: Group) -> list[str]:
    """Return which of several variants a number belongs to."""
    if not group.done or len(group.points) == 1:
        return []
    if group.is_choice:
        values = [f"{key} {texts.value_text(group.settings.get(key))}" for key in varied(group.points)]
        return [", ".join(values)] if values else []
    return [f"variant {group.variant}" + (f", chosen on {group.decided_by}" if group.decided_by else "")]


def _no_result(group: Group) -> list[str]:
    alike = 0 if group.done else group.failed or group.stopped
    word = "failed" if group.failed else "stopped"
    return [f"{alike} of {len(group.runs)} seeds {word}"] if alike and len(group.runs) > 1 else []


def _seeds(groups: Sequence[Group]) -> list[Expected]:
    """Return the lines on how many seeds the numbers cover."""
    scored = [group for group in groups if group.task.metric_keys() and group.depends_on_seed]
    lines = []
    for count in sorted({len(group.runs) for group in scored}):
        same = [group for group in scored if len(group.runs) == count]
        names = "" if len(same) == len(scored) else ": " + ", ".join(group.name for group in same)
        said = "1 seed, so the spread is not known" if count == 1 else f"Mean ± standard deviation over {count} seeds"
        if any(group.done for group in same):
            lines.append(texts.exactly(f"- {said}{names}."))
    return lines


def _partial_means(groups: Sequence[Group]) -> list[Expected]:
    """Return the lines on models whose mean over tasks lacks a score; an import may lack all cells of a task."""
    tasks = {group.task.name for group in groups if group.task.metric_keys()}
    lines = []
    for model in dict.fromkeys(group.model for group in groups):
        scores = [over_seeds(group.scores())["mean"] for group in groups if group.model == model and group.done]
        count = len(defined(scores))
        if 0 < count < len(tasks):
            lines.append(texts.exactly(f"- Mean of {model}: over {count} of {len(tasks)} tasks"))
    return lines
