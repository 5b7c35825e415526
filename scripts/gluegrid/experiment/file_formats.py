"""The formats of files that data may have, as their names say; what can be done with others; and what names tell."""

import re
from collections.abc import Iterable
from pathlib import Path

from gluegrid.common.escaping import listed

DELIMITED, TEXTS, TABLES = (".csv", ".tsv"), (".csv", ".tsv", ".json", ".jsonl"), (".parquet", ".arrow")
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip")
SUFFIXES = (*TEXTS, *(text + compression for text in TEXTS for compression in COMPRESSIONS), *TABLES)
FORMATS = f"{', '.join(TEXTS)} (also compressed: {', '.join(COMPRESSIONS)}), {', '.join(TABLES)}"
# What names of files call the kinds of splits.
WORDS = {"train": {"train", "training"}, "validation": {"dev", "val", "valid", "validation", "eval"}, "test": {"test"}}
# How pandas reads what people have, but is not read here; by suffix.
PANDAS = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods"), "read_excel"),
    **dict.fromkeys((".pkl", ".pickle"), "read_pickle"),
    **dict.fromkeys((".h5", ".hdf", ".hdf5"), "read_hdf"),
    **{".feather": "read_feather", ".orc": "read_orc", ".dta": "read_stata", ".sav": "read_spss", ".xml": "read_xml"},
}
DATABASES = (".db", ".sqlite", ".sqlite3")
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")


def format_of(name: str) -> tuple[str, str]:
    """Return the suffixes of a file's format and of its compression, in small letters; '' for what it does not have."""
    known = next((suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if name.lower().endswith(suffix)), "")
    compression = next((suffix for suffix in COMPRESSIONS if known.endswith(suffix)), "")
    return known.removesuffix(compression), compression


def what_is_there(names: Iterable[str]) -> str:
    """Return, for the end of a message, which of a source's files can be read."""
    names = sorted(names)
    readable = [name for name in names if format_of(name)[0]]
    if readable:
        return f"it has: {listed(readable)}."
    return f"it has: {listed(names)}; {advice_on_file(names[0])}" if names else f"read are {FORMATS}"


def advice_on_file(name: str) -> str:
    """Return, for the end of a message, what to do with a file that is of no format that is read."""
    suffix = Path(name).suffix.lower()
    if name.lower().endswith(ARCHIVES):
        return "it is an archive: unpack it, and give the folder"
    if suffix in PANDAS:
        advice = f"in Python, pandas.{PANDAS[suffix]}({name!r}).to_parquet('data.parquet') makes one of it"
    elif suffix in DATABASES:
        advice = "in Python, pandas.read_sql(...).to_parquet('data.parquet') makes one of a query"
    elif suffix == ".txt":
        advice = "if it holds columns, give it the suffix of what separates them (.csv: commas, .tsv: tabs)"
    else:
        advice = "save it as one of them"
    return f"read are {FORMATS}; {advice}"


def kind_of_split(name: str) -> str | None:
    """Return the kind of split that a file's name speaks of, or else that of its folders; None where none or several.

    Which file is to be trained on is not guessed by anything else.
    """
    for part in reversed(name.lower().split("/")):
        words = set(re.split(r"[^a-z]+", part))
        if said := [kind for kind, of_kind in WORDS.items() if words & of_kind]:
            return said[0] if len(said) == 1 else None
    return None
