"""Wait for conditions. A test depends on the condition; the bound only ends what hangs."""

import threading
import time
from collections.abc import Callable

HANG = 600  # seconds; far more than anything takes, even on a machine that stalls for a while


def wait_until(condition: Callable[[], object], seconds: float = HANG) -> bool:
    """Return whether the condition came true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def ends(call: Callable[[], None]) -> bool:
    """Call a function that might wait forever; return whether it ended, and raise what it raised."""
    raised: list[BaseException] = []

    def target() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join(HANG)
    if raised:
        raise raised[0]
    return not thread.is_alive()
