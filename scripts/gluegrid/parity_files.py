"""parity.md and parity.json of an experiment."""

from pathlib import Path

from gluegrid.common.files import canonical_json, write_text
from gluegrid.experiment.experiment import Experiment
from gluegrid.parity import parity_content
from gluegrid.parity_text import parity_in_terminal, parity_markdown
from gluegrid.records import Outcome
from gluegrid.summary import groups


def write_parity(experiment: Experiment, found: list[Outcome]) -> str:
    """Write both files from whatever results there are; return the verdicts for the terminal."""
    content = parity_content(experiment, groups(experiment, found))
    for path, text in parity_texts(experiment, content).items():
        write_text(path, text)
    return parity_in_terminal(content)


def parity_texts(experiment: Experiment, content: dict) -> dict[Path, str]:
    """Return what both files hold, of what `parity_content` has found."""
    return {
        Path(experiment.paths.parity_md): parity_markdown(content),
        Path(experiment.paths.parity_json): canonical_json(content),
    }
