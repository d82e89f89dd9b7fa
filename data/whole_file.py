"""Files that are whole or not there, whatever happens to the process that writes them."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: Path, *, durable: bool = False, size: int = 0) -> Iterator[Path]:
    """A path to write a file to, which takes the place of ``path`` at the end; an error removes it.

    Processes that write the same file, on one machine or on several, each have a path of their own, and the last one's
    file stays.

    Args:
        path: of the file.
        durable: wait until the disk has the contents, before the name is there. Some milliseconds, for what took
            hours; a crash of the system may leave other files empty, which their readers notice.
        size: bytes that there must be room for; HDF5 does not survive a disk that is full.

    Raises:
        OSError: where there is no room.
    """
    if shutil.disk_usage(path.parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    partial = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.partial")
    try:
        yield partial
        if durable:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove what killed processes were writing in a folder, to files of this name."""
    for partial in folder.glob(f".{name}.*.partial"):
        partial.unlink(missing_ok=True)
