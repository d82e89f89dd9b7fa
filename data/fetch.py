"""Download public image sets from their sources, every file verified by its SHA-256."""

from __future__ import annotations

import csv
import difflib
import hashlib
import os
import shutil
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path, PurePosixPath

import pooch
import requests
from tqdm import tqdm

RETRIES = 2  # of a file whose connection broke or whose hash is wrong

NOT_OFFERED = {
    "pulseq-brain": "its file was derived from scanner raw data and is not what a public address serves",
    "htc2022": "its public source carries no licence text",
    "tcga-lung": "its public source carries no licence text",
}


class FetchError(RuntimeError):
    """A set could not be fetched; the message is one line that says why and what to do."""


@dataclass(frozen=True)
class RemoteFile:
    """A file, where it goes below the data folder, and what it must hash to."""

    path: PurePosixPath
    url: str
    size: int
    sha256: str


@dataclass(frozen=True)
class RemoteSet:
    """A set of files under one name.

    Attributes:
        name: what ``fetch`` takes.
        files: in the order of the catalogue.
        licences: as stated by the sources.
        folder: below the data folder, the deepest one that holds every file.
    """

    name: str
    files: tuple[RemoteFile, ...]
    licences: tuple[str, ...]

    @property
    def folder(self) -> PurePosixPath:
        return PurePosixPath(os.path.commonpath([file.path.parent for file in self.files]))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def present(self, destination: str | Path | None = None) -> bool:
        """Whether every file is there with the right length; ``fetch`` looks at the hashes as well."""
        root = data_folder(destination)
        return all(_length(root / file.path) == file.size for file in self.files)


def data_folder(destination: str | Path | None = None) -> Path:
    """Where sets are kept: the argument, else ``ISOCENTER_DATA``, else the user's cache."""
    folder = destination or os.environ.get("ISOCENTER_DATA") or Path(pooch.os_cache("isocenter")) / "data"
    return Path(folder).expanduser()


@lru_cache(maxsize=1)
def catalogue() -> tuple[RemoteSet, ...]:
    """Every set that can be fetched: only those whose public source states an open licence."""
    text = (files(__package__) / "catalogue.tsv").read_text(encoding="utf-8")
    rows: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(text.splitlines(), delimiter="\t"):
        rows.setdefault(row["name"], []).append(row)
    return tuple(
        RemoteSet(
            name,
            tuple(RemoteFile(PurePosixPath(r["file"]), r["url"], int(r["bytes"]), r["sha256"]) for r in group),
            tuple(dict.fromkeys(r["licence"] for r in group)),
        )
        for name, group in rows.items()
    )


def locate(name: str, path: str | Path) -> Path:
    """A file or folder of a set, in ``ISOCENTER_MIRROR`` or where :func:`fetch` brought it.

    Args:
        name: of the set; one that is not offered can still be in the mirror.
        path: below the mirror or the data folder.

    Raises:
        ValueError: where it is in neither.
    """
    mirror = os.environ.get("ISOCENTER_MIRROR")
    for base in ([Path(mirror).expanduser()] if mirror else []) + [data_folder()]:
        if (base / path).exists():
            return (base / path).resolve()
    offered = name in [entry.name for entry in catalogue()]
    get = f"run `isocenter fetch {name}`, or" if offered else "they are not offered for download;"
    raise ValueError(f"the files of {name} are not here: {get} set ISOCENTER_MIRROR to a folder that holds {path}")


def verify(name: str, path: str | Path) -> None:
    """Compare what is there of a set, below a path as in :func:`locate`, with the hashes of the catalogue.

    Raises:
        ValueError: naming the first file that differs. Sets that are not in the catalogue have no hashes.
    """
    place, below = locate(name, path), PurePosixPath(path)
    for file in [file for entry in catalogue() if entry.name == name for file in entry.files]:
        if file.path.is_relative_to(below):
            here = place / file.path.relative_to(below)
            if here.is_file() and not (_length(here) == file.size and _sha256(here) == file.sha256):
                raise ValueError(f"{here} is damaged: it has not the SHA-256 of the catalogue; fetch {name} again")


def fetch(name: str, destination: str | Path | None = None, *, progress: bool = True) -> Path:
    """Bring a set into the data folder and return the folder that holds it.

    Files that are there with the right hash are kept, so an interrupted fetch goes on where it stopped. With
    ``ISOCENTER_MIRROR`` set, files are copied from that folder and the network is not used.

    Args:
        name: of a set in :func:`catalogue`.
        destination: instead of :func:`data_folder`.
        progress: show a bar on standard error.

    Raises:
        FetchError: unknown name, no network, a file missing from the mirror, a wrong hash (the file is removed), or
            a folder that cannot be written.
    """
    wanted = _find(name)
    root = data_folder(destination)
    mirror = os.environ.get("ISOCENTER_MIRROR")
    with tqdm(total=wanted.size, unit="B", unit_scale=True, desc=name, disable=not progress) as bar:
        for file in wanted.files:
            target = root / file.path
            if not (_length(target) == file.size and _sha256(target) == file.sha256):
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if mirror:
                        _copy(name, file, Path(mirror).expanduser(), target)
                    else:
                        _download(name, file, target)
                except OSError as error:
                    raise FetchError(f"fetch {name}: cannot write {target}: {error.strerror or error}") from error
            bar.update(file.size)
    return root / wanted.folder


def _find(name: str) -> RemoteSet:
    sets = {entry.name: entry for entry in catalogue()}
    if name in sets:
        return sets[name]
    if name in NOT_OFFERED:
        raise FetchError(f"fetch: {name} is not offered: {NOT_OFFERED[name]}")
    close = difflib.get_close_matches(name, sets, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sets)}"
    raise FetchError(f"fetch: no set is called {name!r}; {hint}")


def _download(name: str, file: RemoteFile, target: Path) -> None:
    pooch.get_logger().setLevel("WARNING")
    # Pooch downloads beside the target, compares, and only then moves: a wrong file never takes the name.
    store = pooch.Pooch(
        target.parent,
        base_url="",
        registry={target.name: f"sha256:{file.sha256}"},
        urls={target.name: file.url},
        retry_if_failed=RETRIES,
    )
    try:
        store.fetch(target.name, downloader=pooch.HTTPDownloader(timeout=30, chunk_size=1 << 16))
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        raise FetchError(f"fetch {name}: {file.url} answers {status}; was it moved?") from error
    except requests.RequestException as error:
        raise FetchError(
            f"fetch {name}: cannot reach {file.url} ({type(error).__name__}); check the network, or set "
            "ISOCENTER_MIRROR to a folder that has the files"
        ) from error
    except ValueError as error:
        target.unlink(missing_ok=True)
        raise FetchError(
            f"fetch {name}: {file.url} does not have the SHA-256 of the catalogue and was removed; try again, and if "
            "it stays so the source has changed"
        ) from error


def _copy(name: str, file: RemoteFile, mirror: Path, target: Path) -> None:
    source = mirror / file.path
    if not source.is_file():
        raise FetchError(
            f"fetch {name}: the mirror {mirror} has no {file.path}; complete it, or unset ISOCENTER_MIRROR to download"
        )
    partial = target.with_name(target.name + ".partial")
    shutil.copyfile(source, partial)
    if _sha256(partial) != file.sha256:
        partial.unlink()
        raise FetchError(
            f"fetch {name}: {source} does not have the SHA-256 of the catalogue and was not taken; repair the mirror"
        )
    partial.replace(target)


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
