"""``zoo``: the group of all commands, and the report of errors."""

from __future__ import annotations

import atexit
import gc
import io
import sys
from collections.abc import Sequence
from typing import Any

import click

from zoo.cli import evaluate, generate, info
from zoo.cli.bench import bench
from zoo.cli.group import ZooGroup
from zoo.cli.leaderboard import leaderboard
from zoo.cli.new import new
from zoo.cli.run import RunGroup
from zoo.errors import Interrupted, ZooError
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
    generate.sample,
    generate.reconstruct,
    generate.interpolate,
    generate.traverse,
    generate.encode,
    evaluate.evaluate,
    evaluate.compare,
    bench,
    leaderboard,
    info.check,
    new,
    info.doctor,
):
    cli.add_command(command)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit with 0 (success), 1 (failure) or 2 (wrong usage); errors are reported in one line.

    Args:
        args: Command-line arguments; those of the process by default.
    """
    # torch creates a hundred thousand permanent objects. Repeated garbage collection of them takes 0.2 s at the start
    # and 0.3 s at exit.
    gc.set_threshold(50_000)
    atexit.register(_freeze_objects)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # the encoding of a terminal must not make a run fail
    arguments = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    try:
        status: Any = cli.main(arguments, prog_name="zoo", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(0)
    except click.ClickException as error:
        where = f" (see {error.ctx.command_path} --help)" if isinstance(error, click.UsageError) and error.ctx else ""
        _fail(f"{error.format_message()}{where}", 2 if isinstance(error, click.UsageError) else 1)
    except (click.Abort, KeyboardInterrupt) as error:
        stopped = (
            error.__cause__ if isinstance(error, click.Abort) else error
        )  # click converts KeyboardInterrupt to Abort
        if isinstance(stopped, Interrupted):
            _fail(str(stopped), stopped.exit_status)
        _fail("interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except ZooError as error:
        if debug:
            raise
        _fail(str(error), error.exit_status)
    except Exception as error:
        if debug:
            raise
        first = (str(error).strip().splitlines() or ["(no message)"])[0]
        _fail(f"{type(error).__name__}: {first}; --debug shows the traceback", 1)
    sys.exit(status if isinstance(status, int) else 0)


def _freeze_objects() -> None:
    if "torch._dynamo" not in sys.modules:  # bindings of the compiler report frozen objects as leaks
        gc.freeze()


def _fail(text: str, status: int) -> None:
    click.echo(f"zoo: error: {' '.join(text.split())}", err=True)
    sys.exit(status)
