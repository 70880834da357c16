"""What a process of ours has been told by signals, for a loop that waits."""

from __future__ import annotations

import os
import signal


class Signals:
    """The signals that came since this was made, in their order. None is missed, whatever the process does when it comes.

    A handler in Python runs only between two steps of the main thread: one that is just about to wait would not see it, and
    wait on. So a pipe is filled by the signal itself (signal.set_wakeup_fd), and whoever waits reads from that. There is one in
    a process; the main thread makes it, any thread may wait.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._pipe, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told)
        for number in numbers:
            # Python tells the pipe only of those that have a handler.
            signal.signal(number, lambda _number, _frame: None)

    def wait(self) -> int:
        """The number of the next signal, once there is one."""
        return os.read(self._pipe, 1)[0]

    def fileno(self) -> int:
        """For select(2): readable while there is one that nobody has waited for."""
        return self._pipe
