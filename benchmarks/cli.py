"""The command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import contextlib
import enum
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from .yaml_lines import SuiteError, one_line

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Unrolled networks and compressed sensing for medical image reconstruction, compared on shared physics.",
)

SuiteArgument = Annotated[str, typer.Argument(metavar="SUITE", help="A built-in name, or the path of a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a value of the suite, such as tasks.NAME.noise.sigma=0.02; may repeat.",
    ),
]
Out = Annotated[Path | None, typer.Option(help="The run folder; runs/NAME by default.")]
Retrain = Annotated[bool, typer.Option("--retrain", help="Train anew where weights are packaged.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of PyTorch; all cores by default.")]
Device = Annotated[
    str | None, typer.Option(help="Where networks train: cpu, cuda, …; CUDA by default if there is any.")
]


class Retry(str, enum.Enum):
    """What is run again although it has an outcome."""

    failed = "failed"


@app.callback(invoke_without_command=True)
def _common(
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere.")] = False,
) -> None:
    if version:
        from .. import __version__

        typer.echo(f"isocenter {__version__}")
        raise typer.Exit


@app.command()
def run(
    suite: SuiteArgument,
    out: Out = None,
    methods: Annotated[str | None, typer.Option(metavar="A,B", help="Run these methods only.")] = None,
    tasks: Annotated[str | None, typer.Option(metavar="A,B", help="Run these tasks only.")] = None,
    set_: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells and leave.")] = False,
    retrain: Retrain = False,
    retry: Annotated[Retry | None, typer.Option(help="Run failed cells again; they are kept otherwise.")] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first cell that fails.")] = False,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="WHERE",
            help="Run cells on Dask: local:N, N processes here, or a scheduler's address; see docs/cluster.md.",
        ),
    ] = None,
    threads: Threads = None,
    device: Device = None,
) -> None:
    """Run a suite, or go on with it; ends with a report.

    Cells that are done are kept, and so are cells that failed, until --retry failed. What was removed, edited or
    changed since is computed again. Exit code: 0 all cells are good, 1 some are not, 2 the suite or the arguments are
    wrong, 130 interrupted.
    """
    from .schema import load_suite

    loaded = load_suite(suite, set_ or ())
    folder = out or Path("runs") / loaded.suite.name
    _limit_threads(threads)
    if dry_run:
        from .plan import plan, summary
        from .run_folder import RunFolder
        from .runner import choose, choose_tasks, expand, open_tasks

        plans = plan(
            RunFolder(folder),
            expand(loaded, open_tasks(loaded), retrain=retrain),
            choose("methods", _names(methods), [method.key for method in loaded.suite.methods]),
            choose_tasks(loaded.suite, _names(tasks)),
            retry_failed=retry is not None,
        )
        for entry in plans:
            typer.echo(entry)
        typer.echo(summary(plans))
        return
    from .runner import run_suite

    where = None
    if scheduler is not None:
        from .cluster import Cluster

        where = Cluster(scheduler, threads, device).run
    with _training_on(device if where is None else "cpu"):
        outcome = run_suite(
            loaded,
            folder,
            methods=_names(methods),
            tasks=_names(tasks),
            retrain=retrain,
            retry_failed=retry is not None,
            fail_fast=fail_fast,
            command=_command(),
            where=where,
        )
    for title in outcome.failed:
        typer.echo(f"failed: {title}", err=True)
    if outcome.failed:
        typer.echo("report.html and log.txt tell why; --retry failed runs failed cells again", err=True)
    typer.echo(f"{outcome.done} cells done, {len(outcome.failed)} failed; {outcome.report or folder}")
    if outcome.failed:
        raise typer.Exit(1)


@app.command()
def train(
    suite: SuiteArgument,
    method: Annotated[str, typer.Option(metavar="NAME", help="The network to train.")],
    task: Annotated[str | None, typer.Option(metavar="NAME", help="For this task only.")] = None,
    seed: Annotated[int | None, typer.Option(help="With this seed only.")] = None,
    out: Out = None,
    set_: Overrides = None,
    retrain: Retrain = False,
    threads: Threads = None,
    device: Device = None,
) -> None:
    """Train a network of a suite, or go on; `run` then uses it. Several processes: torchrun -m isocenter train …"""
    from .schema import load_suite

    loaded = load_suite(suite, set_ or ())
    folder = out or Path("runs") / loaded.suite.name
    _limit_threads(threads)
    from .fitting import train_cells

    with _training_on(device):
        train_cells(
            loaded,
            folder,
            method,
            task=task,
            seed=seed,
            retrain=retrain,
            command=_command(),
            tell=typer.echo,
        )


@app.command()
def check(suite: SuiteArgument, set_: Overrides = None) -> None:
    """Check a suite's schema, files and operators, and estimate its cells, disk and memory, in seconds."""
    from .schema import load_suite

    loaded = load_suite(suite, set_ or ())
    from .checks import check_suite

    for line in check_suite(loaded):
        typer.echo(line)


@app.command()
def report(run: RunArgument) -> None:
    """Write the report of a run folder again."""
    from .report import write_report

    try:
        typer.echo(write_report(run))
    except (ValueError, OSError) as error:
        raise SuiteError(str(error)) from error


@app.command()
def status(run: RunArgument) -> None:
    """Show how far a run is: cells by state, time, what is running and what failed."""
    from .progress import status_lines

    for line in status_lines(run):
        typer.echo(line)


@app.command()
def compare(
    first: RunArgument,
    second: RunArgument,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every pair of images there.")] = None,
) -> None:
    """Compare two runs image by image, and tell what they did differently."""
    from .compare import compare_runs

    comparison = compare_runs(first, second)
    for line in comparison.lines():
        typer.echo(line)
    if csv is not None:
        comparison.write(csv)


@app.command("list")
def list_() -> None:
    """Show suites, the kinds that a suite may name, packaged weights, and data that can be fetched."""
    from ..data.fetch import catalogue
    from . import classical_specs, data_specs, learned_specs, noise_specs, packaged, physics_specs
    from .schema import built_in_suites, load_suite

    typer.echo("Suites")
    for name in built_in_suites():
        suite = load_suite(name).suite
        typer.echo(f"  {name:<14} {suite.title}")
        typer.echo(f"  {'':<14} tasks: {', '.join(suite.tasks)}; methods: {', '.join(m.key for m in suite.methods)}")
    for title, module in (
        ("Data", data_specs),
        ("Physics", physics_specs),
        ("Noise", noise_specs),
        ("Direct and classical methods", classical_specs),
        ("Learned methods", learned_specs),
    ):
        typer.echo(f"\n{title}")
        for spec in module.SPECS:
            kind = spec.model_fields["kind"].annotation.__args__[0]
            typer.echo(f"  {kind:<14} {(spec.__doc__ or '').strip().splitlines()[0]}")
    typer.echo("\nPackaged weights")
    for name, card in packaged.listing():
        seconds = card.get("fit", {}).get("seconds", 0.0)
        typer.echo(f"  {name}: trained in {seconds:.0f} s at {str((card.get('git') or {}).get('commit'))[:12]}")
    typer.echo("\nData that `isocenter fetch` brings")
    for entry in catalogue():
        typer.echo(f"  {entry.name:<14} {entry.size / 1e6:6.1f} MB in {entry.folder}; {'; '.join(entry.licences)}")


@app.command()
def schema(
    suite: Annotated[str | None, typer.Argument(metavar="SUITE", help="Include the kinds of its plugins.")] = None,
) -> None:
    """Print JSON Schema of suites, for completion and checks in an editor."""
    import json

    from .editor_schema import editor_schema
    from .schema import plugins_of

    typer.echo(json.dumps(editor_schema(plugins_of(suite).specs if suite else ()), indent=2, ensure_ascii=False))


@app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Sets; `isocenter list` shows them.")],
    to: Annotated[Path | None, typer.Option(help="Data folder; ISOCENTER_DATA or the user's cache by default.")] = None,
) -> None:
    """Download public images, every file verified by its hash."""
    from ..data.fetch import FetchError
    from ..data.fetch import fetch as fetch_set

    for name in names:
        try:
            typer.echo(fetch_set(name, to))
        except FetchError as error:
            raise SuiteError(str(error)) from error


def main() -> None:
    """Entry point: mistakes end in one line and exit code 2, ``--debug`` shows where they come from."""
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        app(prog_name="isocenter")
    except SuiteError as error:
        if debug:
            traceback.print_exc()
        typer.echo(one_line(error), err=True)
        sys.exit(2)
    except BrokenPipeError:  # `isocenter list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        from .run_folder import DiskFullError

        if debug:
            traceback.print_exc()
        if isinstance(error, DiskFullError):
            typer.echo(one_line(error), err=True)
            os._exit(1)  # HDF5 would crash over files that it could not write
        typer.echo(f"isocenter: {type(error).__name__}: {one_line(error)} (--debug shows where)", err=True)
        sys.exit(1)


@contextlib.contextmanager
def _training_on(device: str | None) -> Iterator[None]:
    from ..unrolled.distributed import place

    try:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(place(device))
            except ValueError as error:
                raise SuiteError(str(error)) from error
            yield
    except KeyboardInterrupt:
        typer.echo("\ninterrupted; the same command goes on where this one stopped", err=True)
        raise typer.Exit(130) from None


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _limit_threads(threads: int | None) -> None:
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        import torch

        torch.set_num_threads(threads)


def _command() -> list[str]:
    return ["isocenter", *sys.argv[1:]]
