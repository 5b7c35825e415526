"""Why a cell has no result: a value, in attempts.jsonl too; of earlier releases' lines, their sentences tell it."""

import json

import pytest

from gluegrid.common.errors import TransientError
from gluegrid.execution import attempts, reasons
from gluegrid.execution.reasons import PREEMPTED, Cause, Preempted, Reason, reason_elsewhere

# Words of releases up to 0.9: files have them.
EARLIER = {
    "done": Cause.DONE,
    "ended without a word: killed, out of memory, or its node went down": Cause.KILLED,
    "stopped by SIGTERM: cancelled, preempted, at its time limit, or taken over": Cause.SIGTERM,
    "stopped by SIGUSR1: the site's warning before the time limit; step 40 is kept": Cause.SIGUSR1,
    "stopped by SIGHUP: its terminal was closed; before its first step was done": Cause.SIGHUP,
    "interrupted": Cause.INTERRUPTED,
    "its job's time limit is near; step 40 is kept": Cause.TIME_LIMIT,
    "another process of this cell was asked to leave; step 1 is kept": Cause.PEER_PREEMPTED,
    "the loss is nan at step 3": Cause.FAILED,
    "done with it": Cause.FAILED,
}


@pytest.fixture
def cell(tmp_path):
    """Return the state folder and the run.json of a cell."""
    run = tmp_path / "run.json"
    run.write_text("{}")
    return tmp_path, run


def last_line(state):
    return json.loads((state / "attempts.jsonl").read_text().splitlines()[-1])


@pytest.mark.parametrize("sentence", EARLIER)
@pytest.mark.parametrize("noted", [{}, {"cause": "of a later release"}])
def test_a_line_without_a_cause_that_is_known_has_that_of_its_sentence(cell, monkeypatch, sentence, noted):
    state, _ = cell
    attempts.start(state, "0")
    line = {key: value for key, value in last_line(state).items() if key != "cause"}
    (state / "attempts.jsonl").write_text(json.dumps(line | {"reason": sentence} | noted) + "\n")
    monkeypatch.setattr(reasons, "SENTENCES", dict.fromkeys(Cause, "reworded"))
    (attempt,) = attempts.read(state)
    assert (attempt["cause"], attempt["reason"]) == (EARLIER[sentence], sentence)
    if attempt["cause"] not in (Cause.DONE, Cause.KILLED):
        assert str(attempts.why_without_result(attempt)) == sentence


@pytest.mark.parametrize(
    ("error", "sentence", "cause"),
    [
        (Preempted(Reason(Cause.SIGTERM, step=3)), f"{Reason(Cause.SIGTERM)}; step 3 is kept", "sigterm"),
        (Preempted(Reason(Cause.TIME_LIMIT, step=0)), None, "time_limit"),
        (KeyboardInterrupt(), "interrupted", "interrupted"),
        (TransientError("interrupted by nobody"), "interrupted by nobody", "failed"),
        (ValueError("one\ntwo"), "ValueError: one", "failed"),
    ],
)
def test_the_line_of_an_attempt_has_the_sentence_and_the_cause(cell, error, sentence, cause):
    state, run = cell
    with pytest.raises(type(error)), attempts.attempting(state, run):
        assert last_line(state)["cause"] is None
        raise error
    line = last_line(state)
    assert (line["reason"], line["cause"]) == (sentence or str(error), cause)
    with attempts.attempting(state, run):
        pass
    assert (last_line(state)["reason"], last_line(state)["cause"]) == ("done", "done")


def test_an_attempt_after_one_that_reported_no_end_says_that_it_was_killed(cell):
    state, _ = cell
    attempts.start(state, "0")
    attempts.start(state, "0")
    assert [attempt["cause"] for attempt in attempts.read(state)] == [Cause.KILLED, None]


def test_every_cause_has_a_sentence_and_braces_in_an_error_are_no_fields():
    assert set(reasons.SENTENCES) == set(Cause)
    assert str(Reason(Cause.NOT_STAGED, "{said} {0} {", where="{x}")) == "{x} failed: {said} {0} {"
    assert all(str(Reason(cause, step=2)).endswith("; step 2 is kept") for cause in PREEMPTED)


@pytest.mark.parametrize("words", ["not run yet", "begins when its time has come"])
def test_of_an_archive_only_what_was_not_run_is_told_by_its_words(monkeypatch, words):
    monkeypatch.setitem(reasons.SENTENCES, Cause.NOT_RUN, words)
    assert [reason_elsewhere(text).cause for text in ("not run yet", words)] == [Cause.NOT_RUN] * 2
    assert reason_elsewhere("the loss is nan").cause == Cause.IMPORTED
    assert str(reason_elsewhere("the loss is nan")) == "the loss is nan"
    assert reason_elsewhere(None).cause == Cause.IMPORT_GONE
