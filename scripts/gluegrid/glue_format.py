"""The form in which GLUE's server takes test predictions: its files, their header, what they call the labels.

Source: https://gluebenchmark.com/faq and the sample submission there (https://gluebenchmark.com/assets/CBOW.zip); the
formatters of jiant (jiant/scripts/postproc/benchmarks.py) and of Keras' guide to GLUE write the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gluegrid.experiment.config import load_registry

HEADER = "index\tprediction"
LEAST, MOST = 0.0, 5.0  # scores of STS-B
DIAGNOSTIC, ITS_TASK = "ax", "mnli"  # a set of examples, and the task whose model predicts it

_NLI = {"entailment": "entailment", "neutral": "neutral", "contradiction": "contradiction"}
_TWO_WAY = {"entailment": "entailment", "not_entailment": "not_entailment"}


@dataclass(frozen=True)
class GlueFile:
    """A file of a submission: the predictions of one test split, in the order of their indexes, 0 to rows - 1.

    `names` maps the labels of the task's data to what the file calls them; None: numbers from LEAST to MOST.
    """

    name: str
    task: str
    split: str
    names: Mapping[str, str] | None

    @property
    def rows(self) -> int:
        """How many examples the official split has."""
        return self.official["rows"]

    @property
    def official(self) -> dict:
        """Rows and sha256 of the official split; those of the registry, whatever an experiment says."""
        return load_registry()[self.task]["official"][self.split]


FILES = (
    GlueFile("CoLA.tsv", "cola", "test", {"unacceptable": "0", "acceptable": "1"}),
    GlueFile("SST-2.tsv", "sst2", "test", {"negative": "0", "positive": "1"}),
    GlueFile("MRPC.tsv", "mrpc", "test", {"not_equivalent": "0", "equivalent": "1"}),
    GlueFile("STS-B.tsv", "stsb", "test", None),
    GlueFile("QQP.tsv", "qqp", "test", {"not_duplicate": "0", "duplicate": "1"}),
    GlueFile("MNLI-m.tsv", "mnli", "test_matched", _NLI),
    GlueFile("MNLI-mm.tsv", "mnli", "test_mismatched", _NLI),
    GlueFile("QNLI.tsv", "qnli", "test", _TWO_WAY),
    GlueFile("RTE.tsv", "rte", "test", _TWO_WAY),
    GlueFile("WNLI.tsv", "wnli", "test", {"not_entailment": "0", "entailment": "1"}),
    GlueFile("AX.tsv", DIAGNOSTIC, "test", _NLI),
)
TASKS = tuple(dict.fromkeys(file.task for file in FILES))
