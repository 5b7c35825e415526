"""The messages of all errors, as one list that is read whole: each is once read as the person reads it who meets it.

What a message must say: what is there, what was expected, and the one next step, which must be right.
"""

import re

from messages import LIST, messages

LONGEST = 400  # characters, with the names of what only a run knows
# Words that blame and do not tell.
EMPTY = re.compile(
    r"\b(invalid|illegal|unexpected|malformed|something went wrong|error occurred|oops|failed to)\b", re.I
)


def test_each_message_has_been_read():
    kept, found = LIST.read_text(encoding="utf-8").splitlines(), messages()
    print(*found, sep="\n")
    new = "\n".join(line for line in found if line not in kept)
    gone = "\n".join(line for line in kept if line not in found)
    advice = "read them as the person who meets them, then: python tests/support/messages.py"
    assert found == kept, f"new:\n{new}\ngone:\n{gone}\n{advice}"


def test_messages_tell_something_and_are_short():
    found = messages()
    assert [message for message in found if EMPTY.search(message) or len(message) > LONGEST] == []


def test_the_list_has_what_is_raised_what_is_noted_and_what_is_put_together(tmp_path):
    module = tmp_path / "module.py"
    module.write_text(
        """
ADVICE = "make room"

def one(size):
    problem = f"is {size} large"
    raise DataError(f"{size}: {problem}; {ADVICE}" if size else "is empty")

def other(problems):
    problems.add(("tasks",), "stands twice")
    yield "files", f"has {len(problems)} of {ADVICE}"
    raise ConfigError([f"{problems}: no"])
""",
        encoding="utf-8",
    )
    assert messages(tmp_path) == [
        "module.py: ({size}: is {size} large; make room | is empty)",
        "module.py: stands twice",
        "module.py: has {len(problems)} of make room",
        "module.py: {problems}: no",
    ]
