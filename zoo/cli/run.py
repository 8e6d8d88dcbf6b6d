"""``zoo run``: a group with one command per model, whose flags are generated from the model's options."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.markup import escape

from zoo.cli.completion import complete_names
from zoo.cli.console import (
    echo,
    format_duration,
    make_console,
    make_table,
    print_json,
    summary_line,
)
from zoo.cli.parameters import FilePath
from zoo.cli.report import report_run
from zoo.errors import UsageError, unknown_name
from zoo.options import OptionInfo, get_options
from zoo.preset import get_presets
from zoo.registry import registry

if TYPE_CHECKING:
    from zoo.interfaces import Objective

__all__ = ["ModelCommand", "RunGroup", "make_flag"]

_FILE = FilePath()
_UNSTORED_FLAGS = (
    click.Option(["--out"], type=_FILE, metavar="DIR", help="Run folder. [default: runs/MODEL-DATASET-seedN]"),
    click.Option(["--resume"], is_flag=True, help="Resume from the checkpoint; results are bit-identical."),
    click.Option(["--config"], type=_FILE, metavar="FILE", help="Read settings from a config.toml; flags override it."),
    click.Option(["--preset"], metavar="NAME", help="Use named settings, such as paper; flags override them."),
    click.Option(["--report/--no-report"], default=True, help="Write report.html. [default: report]"),
    click.Option(
        ["--dry-run"],
        is_flag=True,
        help="Show settings, length, estimated time and memory; train and write nothing.",
    ),
    click.Option(["--quiet"], is_flag=True, help="Print errors only."),
    click.Option(["--json"], is_flag=True, help="Print the result, or that of --dry-run, as JSON and nothing else."),
)
"""Parameters of ``zoo run`` that config.toml does not store."""
_HELP = click.Option(["-h", "--help"], is_flag=True, help="Show this message and exit.")


class RunGroup(click.Group):
    """``zoo run [SETTINGS] [MODEL [OPTIONS]]``.

    The group parses the settings, before or after the name of the model, and leaves all other arguments to the command
    of the model. Without a name, the model is that of ``--config`` or of the run to resume.
    """

    allow_interspersed_args = True
    ignore_unknown_options = True

    def __init__(self) -> None:
        super().__init__(
            "run",
            callback=_run_without_model,
            invoke_without_command=True,
            add_help_option=False,  # with a model, --help belongs to its command
            options_metavar="[SETTINGS]",
            subcommand_metavar="[MODEL [OPTIONS]]",
            help="Train a model, score it and write a run folder.",
            epilog="zoo run MODEL --help also shows the options of a model.",
        )

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*_settings(), _HELP]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(registry().models)

    def get_command(self, ctx: click.Context, cmd_name: str) -> ModelCommand:
        return ModelCommand(cmd_name, registry().model(cmd_name))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str, click.Command, list[str]]:
        name, rest = args[0], args[1:]
        if name.startswith("-"):
            stored = _stored_model(ctx.params)
            if stored is None:
                raise self._misplaced(ctx, args)
            name, rest = stored, args
        return name, self.get_command(ctx, name), [*(["--help"] if ctx.params["help"] else []), *rest]

    def _misplaced(self, ctx: click.Context, args: Sequence[str]) -> UsageError:
        flag = args[0].partition("=")[0]
        owners = [name for name in self.list_commands(ctx) if flag in _flags(self.get_command(ctx, name).params)]
        if not owners:
            return unknown_name("setting of zoo run", flag, _flags(_settings()))
        model = next((name for name in owners if name in args), owners[0])
        return UsageError(f"{flag}: options of a model must follow its name, as in zoo run {model} {flag} …")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_flags("Settings of the run", self.get_params(ctx), ctx, formatter)
        models = registry().models
        limit = formatter.width - 6 - max(map(len, models))
        with formatter.section("Models"):
            formatter.write_dl([(name, self.get_command(ctx, name).get_short_help_str(limit)) for name in models])


class ModelCommand(click.Command):
    """``zoo run MODEL``: parses the options of one model; the group has parsed the settings of the run."""

    def __init__(self, name: str, model: type[Objective]) -> None:
        settings = {p.name for p in _settings()}  # an option of the same name can be set from Python only
        super().__init__(
            name,
            callback=_run_model,
            params=[make_flag(info) for info in get_options(model).values() if info.name not in settings],
            options_metavar="[SETTINGS] [OPTIONS]",
            help="\n\n".join((summary_line(model), model.paper)),
        )

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        own = super().get_params(ctx)
        return [*_settings(), *own] if ctx.resilient_parsing else own  # a shell completes both

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            known = _flags([*_settings(), *self.params])
            raise unknown_name(f"option of zoo run {self.name}", error.option_name, known) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_flags("Settings of the run", _settings(), ctx, formatter)
        _write_flags(f"Options of {self.name}", self.get_params(ctx), ctx, formatter)


def make_flag(info: OptionInfo) -> click.Option:
    """The click option of a setting or of a model's option."""
    note = info.help
    if info.allows and not info.choices:
        note += f" ({info.allows})"
    if info.default is not None:
        shown = str(info.default).lower() if isinstance(info.default, bool) else info.default
        note += f" [default: {shown}]"
    if info.kind is bool:
        return click.Option([f"{info.flag}/--no-{info.flag[2:]}", info.name], default=None, help=note)
    if info.several:
        return click.Option(
            [info.flag, info.name],
            multiple=True,
            callback=lambda _, __, values: ",".join(values) or None,
            metavar="NAME",
            help=note,
        )
    kind: Any = click.Choice([str(c) for c in info.choices]) if info.choices and info.kind is str else info.kind
    metavar = None if info.choices else {int: "N", float: "X", str: "TEXT"}[info.kind]
    completer = complete_names(info)
    return click.Option(
        [info.flag, info.name], type=kind, default=None, metavar=metavar, help=note, shell_complete=completer
    )


def _settings() -> list[click.Option]:
    from zoo.run.settings import RunSettings  # imports torch

    return [*(make_flag(info) for info in get_options(RunSettings).values()), *_UNSTORED_FLAGS]


def _flags(parameters: Iterable[click.Parameter]) -> list[str]:
    return [flag for p in parameters for flag in (*p.opts, *p.secondary_opts) if flag.startswith("--")]


def _write_flags(
    title: str, parameters: Iterable[click.Parameter], ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    with formatter.section(title):
        formatter.write_dl([record for p in parameters if (record := p.get_help_record(ctx))])


def _stored_model(settings: Mapping[str, Any]) -> str | None:
    """The model of ``--config``, or of the run in ``--out`` that ``--resume`` continues; None without either."""
    from zoo.run.settings import RunSettings

    config = settings["config"]
    if config is None and settings["resume"]:
        stored = (settings["out"] or Path()) / "config.toml"
        config = stored if stored.is_file() else None
    return None if config is None else RunSettings.from_file(config).model or None


@click.pass_context
def _run_without_model(ctx: click.Context, /, **settings: Any) -> None:
    if ctx.invoked_subcommand is not None:  # the model's command follows
        return
    if settings["help"]:
        echo(ctx.get_help())
    else:
        _train(None, ctx.params, _given(ctx))


@click.pass_context
def _run_model(ctx: click.Context, /, **options: Any) -> None:
    assert ctx.parent is not None
    _train(ctx.info_name, ctx.parent.params, {**_given(ctx.parent), **_given(ctx)})


def _given(ctx: click.Context) -> dict[str, Any]:
    """The settings and options that the command line names."""
    own = {p.name for p in (*_UNSTORED_FLAGS, _HELP)}
    return {
        name: value
        for name, value in ctx.params.items()
        if name not in own and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }


def _train(model: str | None, request: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    if request["dry_run"]:
        _show_plan(model, request, given)
        return
    from zoo.cli.progress import QuietProgress, make_progress
    from zoo.run import train

    progress = QuietProgress() if request["quiet"] or request["json"] else make_progress()
    # main restores it
    warnings.showwarning = lambda message, *_: progress.note(str(message))
    named = {key: request[key] for key in ("config", "preset", "out", "resume")}
    with progress:
        trained = train(model, **named, callbacks=[progress], **given)
    if request["report"] and progress.folder is not None:
        report_run(progress.folder, trained, progress)
    if request["json"]:
        from zoo.run.resolve import resolve

        folder = resolve(model, given, **{**named, "resume": True}).folder
        print_json({"folder": str(folder.path), **folder.load_result()})


def _show_plan(model: str | None, request: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    from zoo.memory import format_bytes
    from zoo.run.dry_run import plan_run

    named = {key: request[key] for key in ("config", "preset", "out", "resume")}
    plan = plan_run(model, **named, **given)
    if request["json"]:
        print_json(plan.to_dict())
        return
    settings, console = plan.settings, make_console()
    console.print(escape(settings.to_toml().partition("\n")[2]), soft_wrap=True)
    if request["preset"]:
        preset = get_presets(registry().model(settings.model))[request["preset"]]
        console.print(escape(f"preset {request['preset']}: {preset.summary}"), soft_wrap=True)
    table = make_table()
    shape = "×".join(map(str, plan.shape))
    table.add_row("data", f"{settings.dataset}, {shape}, {plan.train_images:,} training images")
    table.add_row("length", f"{plan.steps:,} steps, {plan.images:,} images, {plan.epochs:,.4g} epochs")
    sizes = ", ".join(f"{name} {size:,}" for name, size in plan.parameters.items())
    table.add_row("parameters", f"{sum(plan.parameters.values()):,} ({sizes})")
    table.add_row("step", f"{plan.step_seconds * 1000:.3g} ms on {plan.device}, batch {settings.batch}")
    table.add_row("time", f"about {format_duration(plan.seconds)}, without loading and scoring; nothing was written")
    place = "of the GPU" if plan.device.type == "cuda" else "of the process"
    table.add_row("memory", f"about {format_bytes(plan.memory_bytes)} {place}, without scoring")
    console.print(table)
