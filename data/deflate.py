"""Random access to gzip streams: read anywhere without inflating from the start each time."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

from .volume import DEFLATE_RATIO, Refused

CHUNK = 1 << 15  # compressed bytes inflated at a time: at most 32 MB come out
SLACK = 1 << 20  # bytes that may follow the expected content


@dataclass
class _State:
    """Where a decompressor stands: bytes given out so far, and where its next input is in the file."""

    position: int
    offset: int
    inflate: Any

    def copy(self) -> _State:
        return _State(self.position, self.offset, self.inflate.copy())


class GzipReader:
    """Bytes of a gzip stream by position.

    The first read inflates the whole stream once, checks its checksums and length, and keeps a copy of the
    decompressor (about 40 kB) every few megabytes; later reads start from the nearest copy, or from where the last
    read stopped. The copies stay in this process: a pickled reader makes its own.

    Args:
        path: the file.
        start: where the gzip stream begins in it.
        size: bytes that the stream must hold.
    """

    def __init__(self, path: str | PathLike[str], start: int, size: int) -> None:
        self.path, self.start, self.size = fspath(path), start, size
        self._marks: list[_State] = []
        self._last: _State | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_marks": [], "_last": None}

    def read(self, position: int, count: int) -> bytes:
        """``count`` bytes from ``position`` on; raises Refused or zlib.error on a damaged stream."""
        if not self._marks:
            self._marks = self._index()
        states = [mark for mark in self._marks if mark.position <= position]
        last = self._last
        if last is not None and states[-1].position < last.position <= position:
            states.append(last)
        state = states[-1].copy()
        parts: list[bytes] = []
        with open(self.path, "rb") as file:
            while state.position < position + count:
                before = state.position
                piece = _advance(file, state)
                if piece is None:
                    raise Refused("its compressed data end early; the file is truncated or was changed")
                parts.append(piece[max(position - before, 0) : position + count - before])
                if state.position <= position + count:  # the next read in sequence can go on from here
                    self._last = state.copy()
        return b"".join(parts)

    def _index(self) -> list[_State]:
        state = _State(0, self.start, zlib.decompressobj(31))
        marks = [state.copy()]
        step = max(self.size // 64, 1 << 21)
        with open(self.path, "rb") as file:
            if file.seek(0, 2) * DEFLATE_RATIO < self.size:
                raise Refused(
                    f"its header promises {self.size} bytes, which {file.tell()} compressed bytes cannot hold"
                )
            while _advance(file, state) is not None:
                if state.position > self.size + SLACK:
                    raise Refused(f"holds more than the {self.size} bytes that its header says; the header is damaged")
                if state.position - marks[-1].position >= step and not state.inflate.eof:
                    marks.append(state.copy())
        if state.position < self.size:
            raise Refused(f"is truncated: {state.position} of {self.size} bytes; download it again")
        return marks


def _advance(file: Any, state: _State) -> bytes | None:
    """The next bytes out of the stream, None at its end. zlib checks every member's CRC and length."""
    file.seek(state.offset)
    chunk = file.read(CHUNK)
    if state.inflate.eof:
        if not chunk.startswith(b"\x1f\x8b"):  # padding, or nothing
            return None
        state.inflate = zlib.decompressobj(31)
    if not chunk:
        raise Refused("its compressed data end early; the file is truncated, download it again")
    piece = state.inflate.decompress(chunk)
    state.offset += len(chunk) - len(state.inflate.unused_data)
    state.position += len(piece)
    return piece


def inflate_start(path: str | PathLike[str], count: int) -> bytes:
    """Up to ``count`` bytes from the start of a gzip file, fewer where it is shorter or damaged."""
    with open(path, "rb") as file:
        head = file.read(CHUNK)
    try:
        return zlib.decompressobj(31).decompress(head, count)
    except zlib.error as error:
        raise Refused(f"begins like a gzip file but cannot be inflated ({error}); download it again") from None
