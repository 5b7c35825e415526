"""What a report is made from, as one hash: it is made again when that is another."""

import hashlib
import json
from pathlib import Path

from gluegrid.experiment.experiment import Experiment
from gluegrid.results.outcomes import Outcome, outcomes
from gluegrid.results.results_md import table_definition


def digest_of_results(experiment: Experiment) -> str:
    """Return a hash of what became of every cell, of the comparisons, and of what the tables depend on besides."""
    digest = hashlib.sha256(table_definition(experiment).encode())
    for outcome in outcomes(experiment):
        digest.update(_text(outcome).encode())
    comparisons = Path(experiment.paths.comparisons_json)
    if comparisons.exists():
        digest.update(comparisons.read_bytes())
    return digest.hexdigest()


def _text(outcome: Outcome) -> str:
    cell = outcome.cell
    parts = [cell.name, cell.run, outcome.results, outcome.record, outcome.reason, outcome.data, str(outcome.log)]
    return json.dumps(parts, sort_keys=True)
