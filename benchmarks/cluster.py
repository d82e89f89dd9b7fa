"""Cells on Dask workers: some on this machine, or those of a scheduler anywhere; they share the run folder."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .cells import Cell
from .fitting import fit_folder
from .run_folder import LOCK, RunFolder, disk_is_full, file_digest, write_json
from .tasks import OpenTask
from .yaml_lines import SuiteError

if TYPE_CHECKING:
    from distributed import Client, Future

logger = logging.getLogger(__name__)

Piece = OpenTask | Cell  # a task stands for its measurements

CONNECT = 30.0  # seconds until a scheduler must answer
APPEARS = 60.0  # seconds until a network file system must show what a worker wrote
LOOK = 0.5  # seconds between looks for workers that have come or gone
ATTEMPTS = 3  # of a piece whose worker is gone each time
GPU = "GPU"  # Dask's resource
LOST = f"{ATTEMPTS} workers were killed or lost, one after another, while they ran it; had they the memory?"


class ClusterError(RuntimeError):
    """The cluster is gone; the same command goes on."""


@dataclass(frozen=True)
class Cluster:
    """Where cells run.

    Args:
        scheduler: ``local:N`` for N processes on this machine, or the address of a Dask scheduler.
        threads: of each process on this machine; they share the cores when None.
        device: for networks, as for ``--device``.

    Raises:
        SuiteError: for a scheduler that cannot be, and without Dask.
    """

    scheduler: str
    threads: int | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        try:
            import distributed  # noqa: F401
        except ImportError as error:
            raise SuiteError("--scheduler needs Dask; pip install isocenter[cluster]") from error
        local, _, count = self.scheduler.partition(":")
        if local == "local" and not (count.isdecimal() and int(count) > 0):
            raise SuiteError(f"--scheduler {self.scheduler}: expected local:N with N processes, such as local:2")
        if local != "local" and "://" not in self.scheduler:
            raise SuiteError(f"--scheduler {self.scheduler}: expected local:N, or an address such as tcp://host:8786")
        if local != "local" and self.threads is not None:
            raise SuiteError("--threads: the workers of a cluster have their own; start them with --nthreads")

    @property
    def processes(self) -> int | None:
        """On this machine; None where a scheduler has workers already."""
        return int(self.scheduler[6:]) if self.scheduler.startswith("local:") else None

    def run(
        self, folder: RunFolder, to_run: Mapping[OpenTask, list[Cell]], say: Callable[[str], object]
    ) -> Generator[Cell, None, None]:
        """Run cells, each as soon as a worker is free; yields each that has ended.

        Raises:
            SuiteError: when the cluster cannot be reached, or a worker does not see the run folder.
            ClusterError: when the cluster is gone.
        """
        pieces: list[Piece] = [task for task in to_run if not task.is_measured(folder.task(task.name))]
        pieces += [cell for cells in to_run.values() for cell in cells]
        order = list(to_run)
        pieces.sort(key=lambda piece: order.index(piece if isinstance(piece, OpenTask) else piece.task))
        if not pieces:
            return
        say("connecting to Dask")
        with self._client() as client:
            yield from _Dispatch(client, self, folder, pieces).run(say)

    @contextlib.contextmanager
    def _client(self) -> Iterator[Client]:
        from distributed import Client

        with contextlib.ExitStack() as stack:
            if self.processes:
                client = stack.enter_context(Client(stack.enter_context(_processes(self.processes, self))))
            else:
                try:
                    client = stack.enter_context(Client(self.scheduler, timeout=CONNECT))
                except (OSError, ValueError, ImportError) as error:
                    raise SuiteError(
                        f"--scheduler {self.scheduler}: no Dask scheduler answers there "
                        f"({str(error) or type(error).__name__})"
                    ) from error
            yield client


def _processes(count: int, cluster: Cluster) -> Any:
    """A Dask cluster on this machine; its processes share the cores, and each of the first has a GPU to itself."""
    from distributed import Nanny, Scheduler, SpecCluster

    threads = cluster.threads or max(1, len(os.sched_getaffinity(0)) // count)
    cards = [] if cluster.device == "cpu" else [str(i) for i in range(torch.cuda.device_count())]
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        cards = visible.split(",")[: len(cards)]

    def options(i: int) -> dict[str, Any]:
        return {
            "host": "127.0.0.1",
            "nthreads": threads,
            "memory_limit": 0,  # a cell may take what the machine has, as it may without Dask
            "resources": {GPU: 1} if i < len(cards) else {},
            "env": {"CUDA_VISIBLE_DEVICES": cards[i] if i < len(cards) else "", "OMP_NUM_THREADS": str(threads)},
            "dashboard": False,
            "silence_logs": logging.CRITICAL,
        }

    return SpecCluster(
        scheduler={"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard": False}},
        workers={i: {"cls": Nanny, "options": options(i)} for i in range(count)},
        silence_logs=logging.CRITICAL,
    )


class _Dispatch:
    """Hands out pieces of a run, one to a worker at a time.

    The order is the run's, with two exceptions: cells wait for the measurements of their task, and while a fit that
    several cells use is made for one of them, the others wait. Dask itself would hand the work of a worker that died
    to busy ones, and blame their work too when they die.
    """

    def __init__(self, client: Client, cluster: Cluster, folder: RunFolder, pieces: list[Piece]) -> None:
        self.client, self.cluster, self.pieces = client, cluster, pieces
        self.folder = RunFolder(folder.path.absolute())  # links may lead elsewhere on other machines
        self.suite = file_digest(folder.path / "suite.yaml") or ""
        self.running: dict[Future, tuple[Piece, str]] = {}  # with the address of the worker
        self.known: dict[str, bool] = {}  # workers that see the folder, and whether they have a GPU
        self.lost: Counter[int] = Counter()  # times that the worker of a piece was gone, by its id

    def run(self, say: Callable[[str], object]) -> Generator[Cell, None, None]:
        from distributed import wait

        try:
            while self.pieces or self.running:
                workers = self._workers()
                self._hand_out(self._free(workers))
                say(self._what_is_done())
                if self.running:
                    with contextlib.suppress(TimeoutError):
                        wait(list(self.running), timeout=LOOK, return_when="FIRST_COMPLETED")
                else:
                    time.sleep(LOOK)
                for future, (piece, address) in list(self.running.items()):
                    if future.status == "pending" and address in workers:
                        continue
                    del self.running[future]
                    if self._has_ended(future, piece) and isinstance(piece, Cell):
                        yield piece
        except (OSError, RuntimeError) as error:
            if self.client.status == "running" or disk_is_full(error):
                raise
            raise self._gone() from error
        finally:
            if self.running:
                self._stop()

    def _workers(self) -> Mapping[str, Any]:
        """What the scheduler says of its workers, by address."""
        known = self.client.scheduler_info(n_workers=-1)
        if "workers" not in known:  # what a client without a scheduler gives
            raise self._gone()
        return known["workers"]

    def _hand_out(self, free: list[str]) -> None:
        """A piece for each worker with nothing to do, as far as there are pieces for it."""
        from .worker import Work, do

        for address in free:
            has_gpu = self.known[address]
            able = [piece for piece in self.pieces if self._is_ready(piece) and (has_gpu or not self._wants_gpu(piece))]
            if not able:
                continue
            piece = min(able, key=lambda piece: has_gpu and not self._wants_gpu(piece))  # the first of its sort
            self.pieces.remove(piece)
            work = Work(self.folder.path, self.suite, self.cluster.device, _task(piece).name)
            if isinstance(piece, Cell):
                work = Work(
                    work.folder, work.suite, work.device, work.task,
                    (piece.method.key, piece.seed, piece.name), piece.retrain,
                )  # fmt: skip
            resources = {GPU: 1} if self._wants_gpu(piece) else None
            future = self.client.submit(do, work, pure=False, workers=[address], resources=resources)
            self.running[future] = piece, address

    def _free(self, workers: Mapping[str, Any]) -> list[str]:
        """Addresses of workers with nothing to do."""
        new = [address for address in workers if address not in self.known]
        for address in self._greet(new) if new else ():
            self.known[address] = workers[address].get("resources", {}).get(GPU, 0) >= 1
        busy = {address for _, address in self.running.values()}
        return [address for address in workers if address in self.known and address not in busy]

    def _greet(self, addresses: list[str]) -> list[str]:
        """Those of new workers that are still there; they see the folder."""
        from .worker import greet

        owner = (self.folder.path / LOCK).read_text(encoding="utf-8")
        ours = self.cluster.processes is not None
        answers = self.client.run(greet, self.folder.path, owner, ours, workers=addresses, on_error="return")
        for address, answer in answers.items():
            if isinstance(answer, SuiteError):
                raise SuiteError(
                    f"the worker at {address} does not see {self.folder.path} ({answer}); all workers need the run "
                    "folder on a file system that they share"
                )
            if isinstance(answer, ImportError):
                raise SuiteError(f"the worker at {address} has not what this machine has: {answer}")
        return [address for address, answer in answers.items() if answer is None]

    def _is_ready(self, piece: Piece) -> bool:
        if isinstance(piece, OpenTask):
            return True
        if any(other is piece.task for other in (*self.pieces, *(other for other, _ in self.running.values()))):
            return False  # its measurements are to come
        fit = self._fit(piece)
        cells = [other for other, _ in self.running.values() if isinstance(other, Cell)]
        return (fit / "fit.json").is_file() or all(self._fit(other) != fit for other in cells)

    def _fit(self, cell: Cell) -> Path:
        return fit_folder(cell, self.folder.cell(cell.task.name, cell.name))

    def _wants_gpu(self, piece: Piece) -> bool:
        """Whether a network is to be trained, where there are GPUs."""
        trains = isinstance(piece, Cell) and piece.weights is None and "train" in piece.method.needs()
        return trains and self.cluster.device != "cpu" and any(self.known.values())

    def _has_ended(self, future: Future, piece: Piece) -> bool:
        """See what became of a piece that no worker is at any more; False where one will be again."""
        from distributed import KilledWorker

        error = future.exception() if future.status == "error" else None
        killed = isinstance(error, KilledWorker)  # by Dask's own count, where workers come back with the old address
        if future.status == "pending":
            self.client.cancel([future])
            self.lost[id(piece)] += 1
            killed = self.lost[id(piece)] == ATTEMPTS
            if not killed:
                self.pieces.insert(0, piece)
                return False
        elif future.status not in ("finished", "error"):
            raise self._gone()
        if error is not None and disk_is_full(error):
            raise error
        if isinstance(piece, OpenTask):
            if killed or error is not None:  # the task's cells meet it again, and write it down
                logger.error("%s: measurements cannot be simulated: %s", piece.name, error or LOST)
            return True
        where = self.folder.cell(piece.task.name, piece.name)
        if killed:
            status = {"state": "failed", "seconds_fit": None, "seconds_total": None, "warnings": ()}
            write_json(where / "status.json", {**status, "error": LOST, "traceback": str(error or LOST)})
        elif error is not None:
            raise error
        given_up = time.monotonic() + APPEARS
        while not (piece.is_done(where) or piece.has_failed(where)):
            if time.monotonic() > given_up:
                raise ClusterError(f"a worker has finished {piece.title}, but its results do not appear in {where}")
            time.sleep(LOOK)
        return True

    def _gone(self) -> ClusterError:
        return ClusterError(f"the Dask scheduler at {self.cluster.scheduler} is gone; the same command goes on")

    def _what_is_done(self) -> str:
        if not self.known:
            return "waiting for workers"
        titles = [p.title if isinstance(p, Cell) else f"{p.name} · simulating" for p, _ in self.running.values()]
        return titles[0] + (f" and {len(titles) - 1} more" if len(titles) > 1 else "") if titles else "waiting"

    def _stop(self) -> None:
        """Interrupt the workers; what they were doing is done again by the next run."""
        from .worker import stop

        addresses = [address for _, address in self.running.values()]
        with contextlib.suppress(Exception):
            self.client.cancel(list(self.running))
            self.client.run(stop, workers=addresses, on_error="ignore")


def _task(piece: Piece) -> OpenTask:
    return piece if isinstance(piece, OpenTask) else piece.task
