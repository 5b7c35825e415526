import zipfile

import pytest
from glue_cells import WANTED, logits_for, text_of

from gluegrid.analysis.glue_submission import check_archive, check_file
from gluegrid.common.errors import DataError
from gluegrid.results.glue_choice import FILES

FILE = {file.name: file for file in FILES}
NAMES = {name: names for name, _, _, _, names in WANTED}
INDEX_ADVICE = "; `idx` must number the test examples from 0, each once"


def lines_of(name):
    """Return a right file's lines."""
    file = FILE[name]
    logits = logits_for(file.rows, len(NAMES[name] or "1"), name)
    return text_of(NAMES[name], logits).decode().splitlines()


def problem(name, lines, end="\n"):
    with pytest.raises(DataError) as error:
        check_file(FILE[name], ("\n".join(lines) + end).encode())
    return str(error.value)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_right_file_passes(file):
    check_file(file, ("\n".join(lines_of(file.name)) + "\n").encode())


@pytest.mark.parametrize("header", ["index prediction", "index\tlabel", "id\tprediction", "index\tprediction\r", ""])
def test_another_header_is_named(header):
    lines = lines_of("WNLI.tsv")
    assert problem("WNLI.tsv", [header, *lines[1:]]) == (
        f"WNLI.tsv: the header is {header!r}, not 'index\\tprediction'"
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("CoLA.tsv", "2"),
        ("CoLA.tsv", "acceptable"),
        ("CoLA.tsv", "1.0"),
        ("CoLA.tsv", " 1"),
        ("RTE.tsv", "0"),
        ("RTE.tsv", "neutral"),
        ("RTE.tsv", "Entailment"),
        ("AX.tsv", "not_entailment"),
        ("WNLI.tsv", "entailment"),
    ],
)
def test_a_label_that_glue_does_not_know_is_named(name, said):
    lines = lines_of(name)
    lines[7] = f"6\t{said}"
    legal = ", ".join(NAMES[name])
    assert problem(name, lines) == f"{name}: line 8 predicts {said!r}, not one of {legal}"


@pytest.mark.parametrize("said", ["nan", "NaN", "inf", "5.0001", "-0.1", "-0.0", "1e-05", "", "4,5", "five", "0x1"])
def test_a_score_that_is_no_plain_number_from_0_to_5_is_named(said):
    lines = lines_of("STS-B.tsv")
    lines[-1] = f"1378\t{said}"
    assert problem("STS-B.tsv", lines) == f"STS-B.tsv: line 1380 predicts {said!r}, not a number from 0 to 5"


@pytest.mark.parametrize("said", ["0", "5", "5.0", "0.0", "2.3333333"])
def test_the_ends_of_the_range_are_in_it(said):
    lines = lines_of("STS-B.tsv")
    lines[1] = f"0\t{said}"
    check_file(FILE["STS-B.tsv"], ("\n".join(lines) + "\n").encode())


def test_too_few_and_too_many_rows_are_no_official_data():
    lines = lines_of("RTE.tsv")
    for found, given in (("2,999", lines[:-1]), ("3,001", [*lines, "3000\tentailment"])):
        assert problem("RTE.tsv", given) == (
            f"RTE.tsv: has {found} predictions, but GLUE's server needs 3,000: the split 'test' of rte is not the"
            " official one. Use the split of nyu-mll/glue."
        )


def test_an_index_that_stands_twice_is_named():
    lines = lines_of("CoLA.tsv")
    lines[5] = "3\t1"
    assert problem("CoLA.tsv", lines) == "CoLA.tsv: index 3 appears twice" + INDEX_ADVICE


def test_a_missing_index_is_named():
    lines = lines_of("CoLA.tsv")
    assert problem("CoLA.tsv", [*lines[:5], *lines[6:], "1063\t1"]) == "CoLA.tsv: index 4 is missing" + INDEX_ADVICE


def test_another_order_is_named():
    lines = lines_of("CoLA.tsv")
    lines[5], lines[6] = lines[6], lines[5]
    assert problem("CoLA.tsv", lines) == "CoLA.tsv: the indexes are not in order" + INDEX_ADVICE


@pytest.mark.parametrize("row", ["x\t1", "01\t1", "-1\t1", "1.0\t1", "1 1", "1\t1\t", "", "١\t1"])
def test_a_row_that_is_no_index_and_prediction_is_named(row):
    lines = lines_of("CoLA.tsv")
    lines[2] = row
    assert problem("CoLA.tsv", lines) == f"CoLA.tsv: line 3 is {row!r}, not an index and a prediction"


def test_a_file_that_is_cut_off_is_seen():
    lines = lines_of("CoLA.tsv")
    assert problem("CoLA.tsv", lines, end="") == "CoLA.tsv: the last line has no line end"
    assert problem("CoLA.tsv", lines, end="\n\n").startswith("CoLA.tsv: has 1,064 predictions")


def write_zip(path, contents):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in contents.items():
            archive.writestr(name, text)


def test_an_archive_must_hold_all_files_at_its_top_as_they_were_written(tmp_path):
    path = tmp_path / "submission.zip"
    contents = {file.name: file.name.encode() for file in FILES}
    write_zip(path, contents)
    check_archive(path, contents)
    write_zip(path, contents | {"RTE.tsv": b"other"})
    with pytest.raises(DataError, match=r"RTE\.tsv differs from what was written"):
        check_archive(path, contents)
    for wrong in (
        {name: text for name, text in contents.items() if name != "AX.tsv"},
        contents | {"README": b""},
        {f"glue/{name}": text for name, text in contents.items()},
    ):
        write_zip(path, wrong)
        with pytest.raises(DataError, match="not GLUE's 11 files"):
            check_archive(path, contents)
