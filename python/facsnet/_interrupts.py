"""Ctrl-C at a time of our choosing."""

from __future__ import annotations

import signal
import threading

__all__ = ["Interrupts"]


class Interrupts:
    """Counts Ctrl-C within a with block instead of raising; `check` raises KeyboardInterrupt where it may.

    So nothing that takes several statements is cut in half. Outside the main thread, and where the
    program handles SIGINT its own way, nothing is changed.
    """

    def __init__(self) -> None:
        self.count = 0
        self._previous: object = None

    def __enter__(self) -> Interrupts:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._previous = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, *_: object) -> None:
        self.count += 1

    def check(self) -> None:
        if self.count:
            raise KeyboardInterrupt
