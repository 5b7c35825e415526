"""A signal that comes while Python exits."""

import signal

AT_EXIT = """
import os, signal
class Late:
    def __del__(self, kill=os.kill, itself=os.getpid(), number=signal.{name}):
        kill(itself, number)
late = Late()
"""


def at_exit_of_python(number: signal.Signals) -> str:
    """Return code that makes Python send itself a signal when, about to exit, it has given up its handlers."""
    return AT_EXIT.format(name=number.name)
