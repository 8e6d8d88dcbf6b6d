"""``zoo tune``: a search for the options of a model, with a flag per setting of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.markup import escape

from zoo.cli.console import echo, make_console, make_table, print_json
from zoo.cli.parameters import FilePath
from zoo.cli.run import make_flag
from zoo.errors import UsageError, unknown_name
from zoo.options import get_options
from zoo.registry import registry

if TYPE_CHECKING:
    from zoo.tune import Study, TrialRow

__all__ = ["TuneCommand"]

_FILE = FilePath()
_OWN: tuple[click.Parameter, ...] = (
    click.Argument(["model"], required=False),
    click.Option(
        ["--search"],
        multiple=True,
        metavar="SPACE",
        help="Option to search: NAME, NAME=LOW..HIGH, NAME=LOW..HIGH:log or NAME=A,B; repeatable. Default: the float "
        "options of the model around their defaults.",
    ),
    click.Option(["--trials"], type=click.IntRange(1), default=20, show_default=True, help="Number of trials."),
    click.Option(["--score"], default="", metavar="NAME", help="Score to optimize; default: the ranking score."),
    click.Option(["--out"], type=_FILE, metavar="DIR", help="Folder of the study. [default: runs/tune-MODEL-…]"),
    click.Option(["--config"], type=_FILE, metavar="FILE", help="Read settings from a config.toml; flags override it."),
    click.Option(["--resume"], is_flag=True, help="Continue the study in the folder."),
    click.Option(["--json", "as_json"], is_flag=True, help="Print JSON instead of text."),
    click.Option(["--dry-run"], is_flag=True, help="Show the settings and the search space; train and write nothing."),
)


class TuneCommand(click.Command):
    """``zoo tune MODEL``: its own flags, then those of the settings of a run."""

    def __init__(self) -> None:
        super().__init__(
            "tune",
            callback=_tune,
            help="Search for the best options of a model through Optuna (extra tune).\n\n"
            "Each trial is a run of equal length, scored on training images that are held out (--validation); the test "
            "split is not used. DIR/best.toml has the best settings, for zoo run --config.",
        )

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from zoo.run.settings import RunSettings  # imports torch

        flags = [make_flag(info) for info in get_options(RunSettings).values()]
        return [*_OWN, *flags, *super().get_params(ctx)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            name = error.option_name.lstrip("-").replace("-", "_")
            if any(name in get_options(entry.value) for entry in registry().models.values()):
                raise UsageError(
                    f"{error.option_name}: an option of a model is fixed for all trials by one value: "
                    f"--search {name}=VALUE"
                ) from None
            known = [flag for p in self.get_params(ctx) for flag in p.opts if flag.startswith("--")]
            raise unknown_name("option of zoo tune", error.option_name, known) from None


@click.pass_context
def _tune(ctx: click.Context, /, **values: Any) -> None:
    from zoo.tune import plan_study

    own = {p.name for p in _OWN}
    given = {
        name: value
        for name, value in values.items()
        if name not in own and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    named = {key: values[key] for key in ("search", "score", "config", "out")}
    study = plan_study(values["model"], **named, **given)
    if values["as_json"]:
        _print_json(study, values)
        return
    console = make_console()
    space = "  ".join(map(str, study.space))
    console.print(escape(f"searches {space}"), soft_wrap=True)
    if values["dry_run"]:
        console.print(escape(study.settings.to_toml().partition("\n")[2]), soft_wrap=True)
        echo("nothing was written")
        return
    rows = study.run(values["trials"], resume=values["resume"], report=_report)
    _show(study, rows)


def _print_json(study: Study, values: Mapping[str, Any]) -> None:
    facts = {"search": list(map(str, study.space)), "settings": study.settings.to_table()}
    if values["dry_run"]:
        print_json(facts)
        return
    rows = study.run(values["trials"], resume=values["resume"])
    trials = [{"trial": row.number, "score": row.score, "values": dict(row.values)} for row in rows]
    print_json({**facts, "best": str(study.folder / "best.toml"), "trials": trials})


def _report(row: TrialRow) -> None:
    shown = "  ".join(f"{name} {_number(value)}" for name, value in row.values.items())
    echo(f"trial {row.number}: {'failed: ' + row.reason if row.score is None else _number(row.score)}  {shown}")


def _show(study: Study, rows: list[TrialRow]) -> None:
    table = make_table("trial", "validation score", *(dimension.name for dimension in study.space))
    for row in rows[:10]:
        score = "failed" if row.score is None else _number(row.score)
        table.add_row(str(row.number), score, *_cells(study, row.values))
    make_console().print(table)
    best = study.folder / "best.toml"
    echo(f"wrote {study.folder / 'trials.csv'} and {best}")
    echo(f"zoo run --config {best} trains the best settings on all training images and scores them on the test split")


def _cells(study: Study, values: Mapping[str, Any]) -> list[str]:
    return [escape(_number(values.get(dimension.name, ""))) for dimension in study.space]


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
