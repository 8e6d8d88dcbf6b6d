"""``zoo``: the group of all commands, and the report of errors."""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import click

from zoo.cli import codes, evaluate, generate, info
from zoo.cli.bench import bench
from zoo.cli.completion import VARIABLE, completion
from zoo.cli.console import echo
from zoo.cli.export import export
from zoo.cli.group import ZooGroup
from zoo.cli.hub import pull, push
from zoo.cli.leaderboard import leaderboard
from zoo.cli.new import new
from zoo.cli.report import report
from zoo.cli.run import RunGroup
from zoo.cli.tune import TuneCommand
from zoo.errors import Interrupted, ZooError
from zoo.terminal import open_standard_streams, tolerant_output
from zoo.version import __version__

__all__ = ["main"]


@click.group(cls=ZooGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="zoo")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(debug: bool) -> None:
    """Train, evaluate and compare models that combine variational autoencoders and adversarial training.

    \b
    zoo list models                     List the models.
    zoo show vaegan                     Show a model: paper, game table, options.
    zoo run vaegan                      Train it on the bundled digits and score it.
    zoo run vaegan --dataset mnist      Train it on MNIST.
    """  # noqa: D301 (click reads the backspace)


cli.add_command(RunGroup())
for command in (
    info.list_,
    info.show,
    report,
    generate.sample,
    generate.reconstruct,
    generate.interpolate,
    generate.traverse,
    codes.encode,
    codes.decode,
    codes.embed,
    codes.attribute,
    export,
    push,
    pull,
    evaluate.evaluate,
    evaluate.compare,
    TuneCommand(),
    bench,
    leaderboard,
    info.check,
    new,
    info.doctor,
    completion,
):
    cli.add_command(command)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit with 0 (success), 1 (failure) or 2 (wrong usage); errors are reported in one line.

    A command whose output cannot be written fails. ``run`` and ``bench`` only print their progress: they continue when
    a pipe is closed or a disk is full.

    Args:
        args: Command-line arguments; those of the process by default.
    """
    # torch creates a hundred thousand permanent objects. Repeated garbage collection of them takes 0.2 s at the start
    # and 0.3 s at exit.
    gc.set_threshold(50_000)
    atexit.register(_freeze_objects)
    open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # the encoding of a terminal must not make a run fail
    arguments = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    if debug:
        sys.excepthook = _print_exception
    with tolerant_output() as output, _printing_warnings():
        status = _run(arguments, debug)
    command = next((a for a in arguments if not a.startswith("-")), "")
    if output.error is not None and not status and command not in ("run", "bench"):
        status = 1  # the output is the result; those two have written theirs to files
        if not isinstance(output.error, BrokenPipeError):
            _fail(f"standard output: {output.error.strerror or output.error}", 1)
    sys.exit(status)


def _run(arguments: list[str], debug: bool) -> int:
    """Run a command and return its exit status."""
    try:
        status: Any = cli.main(arguments, prog_name="zoo", complete_var=VARIABLE, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        echo(error.format_message())
        return 0
    except click.ClickException as error:
        where = f" (see {error.ctx.command_path} --help)" if isinstance(error, click.UsageError) and error.ctx else ""
        return _fail(f"{error.format_message()}{where}", 2 if isinstance(error, click.UsageError) else 1)
    except (click.Abort, KeyboardInterrupt) as error:
        # click converts KeyboardInterrupt to Abort
        stopped = error.__cause__ if isinstance(error, click.Abort) else error
        if isinstance(stopped, Interrupted):
            return _fail(str(stopped), stopped.exit_status)
        return _fail("interrupted", 130)
    except ZooError as error:
        if debug:
            raise
        return _fail(str(error), error.exit_status)
    except Exception as error:
        if debug:
            raise
        return _fail(_describe(error), 1)
    return status if isinstance(status, int) else 0


def _describe(error: Exception) -> str:
    """An unexpected error in one line."""
    first = (str(error).strip().splitlines() or ["(no message)"])[0]
    if isinstance(error, MemoryError) or "allocate memory" in first or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory; use a smaller batch, fewer or smaller images, or a smaller model ({first})"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {first}; --debug shows the traceback"


@contextlib.contextmanager
def _printing_warnings() -> Iterator[None]:
    """Context in which warnings are lines on standard error, without the place in the code."""
    before = warnings.showwarning
    warnings.showwarning = lambda message, *_: echo(f"zoo: warning: {' '.join(str(message).split())}", err=True)
    try:
        yield
    finally:
        warnings.showwarning = before


def _print_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    echo("".join(traceback.format_exception(kind, error, trace)), err=True, nl=False)


def _freeze_objects() -> None:
    if "torch._dynamo" not in sys.modules:  # bindings of the compiler report frozen objects as leaks
        gc.freeze()


def _fail(text: str, status: int) -> int:
    echo(f"zoo: error: {' '.join(text.split())}", err=True)
    return status
