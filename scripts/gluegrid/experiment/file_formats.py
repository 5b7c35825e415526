"""The formats of data files by their names, advice on unsupported ones, and the splits that names suggest."""

import re
from collections.abc import Iterable
from pathlib import Path

from gluegrid.common.escaping import listed

DELIMITED, TEXTS, TABLES = (".csv", ".tsv"), (".csv", ".tsv", ".json", ".jsonl"), (".parquet", ".arrow")
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip")
SUFFIXES = (*TEXTS, *(text + compression for text in TEXTS for compression in COMPRESSIONS), *TABLES)
FORMATS = f"{', '.join(TEXTS)} (also compressed: {', '.join(COMPRESSIONS)}), {', '.join(TABLES)}"
# Words in file names for each kind of split.
WORDS = {"train": {"train", "training"}, "validation": {"dev", "val", "valid", "validation", "eval"}, "test": {"test"}}
# pandas' functions for common formats that are not supported here, by suffix.
PANDAS = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods"), "read_excel"),
    **dict.fromkeys((".pkl", ".pickle"), "read_pickle"),
    **dict.fromkeys((".h5", ".hdf", ".hdf5"), "read_hdf"),
    **{".feather": "read_feather", ".orc": "read_orc", ".dta": "read_stata", ".sav": "read_spss", ".xml": "read_xml"},
}
DATABASES = (".db", ".sqlite", ".sqlite3")
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")


def format_of(name: str) -> tuple[str, str]:
    """Return the suffixes of a file's format and compression in lower case; '' for what it does not have."""
    known = next((suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if name.lower().endswith(suffix)), "")
    compression = next((suffix for suffix in COMPRESSIONS if known.endswith(suffix)), "")
    return known.removesuffix(compression), compression


def what_is_there(names: Iterable[str]) -> str:
    """Return, for the end of a message, which readable files a source contains."""
    names = sorted(names)
    readable = [name for name in names if format_of(name)[0]]
    if readable:
        return f"it has: {listed(readable)}."
    return f"it has: {listed(names)}; {advice_on_file(names[0])}" if names else f"supported formats: {FORMATS}"


def advice_on_file(name: str) -> str:
    """Return, for the end of a message, what to do with a file in an unsupported format."""
    suffix = Path(name).suffix.lower()
    if name.lower().endswith(ARCHIVES):
        return "it is an archive: unpack it, and name the folder"
    if suffix in PANDAS:
        advice = f"convert it in Python: pandas.{PANDAS[suffix]}({name!r}).to_parquet('data.parquet')"
    elif suffix in DATABASES:
        advice = "convert a query in Python: pandas.read_sql(...).to_parquet('data.parquet')"
    elif suffix == ".txt":
        advice = "if it contains columns, rename it to .csv (commas) or .tsv (tabs)"
    else:
        advice = "save it as one of them"
    return f"supported formats: {FORMATS}; {advice}"


def kind_of_split(name: str) -> str | None:
    """Return the kind of split that a file's name suggests, or else its folders; None if they suggest none or several.

    Nothing else is used to guess which file is for training.
    """
    for part in reversed(name.lower().split("/")):
        words = set(re.split(r"[^a-z]+", part))
        if said := [kind for kind, of_kind in WORDS.items() if words & of_kind]:
            return said[0] if len(said) == 1 else None
    return None
