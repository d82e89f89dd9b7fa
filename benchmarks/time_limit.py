"""A bound on the time that a cell takes, which interrupts it in whatever Python it is in."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class TimeLimitError(BaseException):
    """A cell took longer than it may; not an :class:`Exception`, which code on the way could take for its own."""


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise in the code within once ``seconds`` have passed, between two of its Python instructions.

    In the main thread a signal does it, which also ends waiting; in another, where Dask's workers run cells, a call
    that waits outside Python ends first.

    Raises:
        TimeLimitError: then.
    """
    if seconds is None:
        yield
        return
    message = f"the time limit of {seconds:g} s has passed"
    if threading.current_thread() is threading.main_thread():
        has_passed = False

        def stop(number: int, frame: FrameType | None) -> None:
            nonlocal has_passed
            has_passed = True
            raise TimeLimitError(message)

        before = signal.signal(signal.SIGALRM, stop)
        # Python drops what is raised in a callback of the garbage collector: once more every second, and at the end.
        signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        if has_passed:
            raise TimeLimitError(message)
        return
    thread = threading.get_ident()
    timer = threading.Timer(seconds, raise_in, (thread, TimeLimitError))
    timer.daemon = True
    timer.start()
    try:
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            raise_in(thread, None)  # what came too late must not hit the code that follows
    except TimeLimitError as error:
        error.args = (message,)
        raise


def raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Raise an error in another thread, before its next Python instruction; None takes back one that waits."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), error and ctypes.py_object(error))
