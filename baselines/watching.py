"""Looking at a solver while it runs, whatever method it runs in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

Watcher = Callable[[int, Tensor, "Tensor | None"], object]

_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Methods that iterate call ``watcher(iteration, images, gap)`` now and then.

    ``images`` are ``[B, *domain]``. ``gap``, ``[B]``, is how far they are from where the solver goes, relative and as
    the solver itself judges it, or None where it does not.
    """
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def show(iteration: int, images: Tensor, gap: Tensor | None = None) -> None:
    """What a method calls; nothing happens where nobody watches."""
    watcher = _watcher.get()
    if watcher is not None:
        watcher(iteration, images, gap)
