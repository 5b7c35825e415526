"""The material that all sections of the report share, and which models have their own style in the figures."""

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from gluegrid.common import escaping
from gluegrid.experiment.experiment import Experiment
from gluegrid.report.blocks import Figure, Legend
from gluegrid.report.figures import MARKERS, OTHER, Style, styles, swatch
from gluegrid.report.scores import ScoreTable, score_table
from gluegrid.report.significance import SavedComparisons, read_comparisons
from gluegrid.results.outcomes import Outcome
from gluegrid.results.result_text import LONGEST_NAME, task_name
from gluegrid.results.results_md import without_result
from gluegrid.results.selection import chosen
from gluegrid.results.summary import Group, groups

MOST_STYLED = len(MARKERS)


class Material:
    """An experiment's outcomes, grouped: `groups` are all variants, `chosen` those that represent their sweeps."""

    def __init__(self, experiment: Experiment, outcomes: Sequence[Outcome]):
        self.experiment = experiment
        self.outcomes = outcomes
        self.done = [outcome for outcome in outcomes if outcome.is_done]
        self.failed, self.stopped = without_result(list(outcomes))
        self.groups = groups(experiment, outcomes)
        self.chosen = chosen(self.groups)
        self._names = {group.identity: f"number-{place}" for place, group in enumerate(self.groups, start=1)}

    @cached_property
    def table(self) -> ScoreTable:
        """Models by tasks."""
        return score_table(self.chosen, self.comparisons)

    @cached_property
    def comparisons(self) -> SavedComparisons | None:
        """What `snakemake compare` has written, if it has."""
        return read_comparisons(self.experiment, self.chosen)

    @cached_property
    def looks(self) -> dict[str, Style]:
        """The styles of the models that have their own: of many, those with the highest means over tasks."""
        best = self.table.best_models(MOST_STYLED)
        return styles([row.model for row in self.table.rows if row.model in best])

    @property
    def has_others(self) -> bool:
        """Whether some models have no style of their own."""
        return len(self.looks) < len(self.table.rows)

    @property
    def rule_of_looks(self) -> str:
        """Which models have their own style, where not all do; empty otherwise."""
        rule = f"The {MOST_STYLED} models with the highest means over tasks have their own marks."
        return rule if self.has_others else ""

    def panels(
        self, section: str, is_drawn: Callable[[Group], bool], draw: Callable[[str, list[Group]], Markup]
    ) -> list[Figure]:
        """Return a figure for each task that has groups to draw; `draw` gets a name for it and those groups."""
        figures = []
        for place, task in enumerate(self.table.tasks):
            drawn = [group for group in self.chosen if group.task.name == task and is_drawn(group)]
            figures += [panel(draw(f"{section}-{place}", drawn), drawn[0])] if drawn else []
        return figures

    def name_of(self, group: Group) -> str:
        """Return the anchor of the place on the page that tells where a group's number comes from."""
        return self._names[group.identity]

    def log_link(self, outcome: Outcome) -> str:
        """Return the address of a cell's log; empty if the log is in another clone."""
        return "" if self.experiment.imported else self.link(outcome.log)

    def link(self, path: Path | str) -> str:
        """Return a path as an address relative to the page, which is in the experiment's folder."""
        return quote(os.path.relpath(path, self.experiment.paths.root), errors="surrogateescape")

    def legend(self, section: str, with_others: bool = True) -> Legend:
        """Return a legend of the models' marks for a section."""
        shown = [*self.looks.items(), *([("other models", OTHER)] if self.has_others and with_others else [])]
        return Legend([(swatch(style, f"{section}-mark-{number}"), text) for number, (text, style) in enumerate(shown)])


def panel(svg: Markup, group: Group) -> Figure:
    """Return the figure of a group's task with its caption."""
    return Figure(svg, task_name(group), escaping.shortened(group.metric_label, LONGEST_NAME))
