"""``zoo run``: one command whose flags are the run's settings and the options of the model that it is given."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from zoo import options
from zoo.errors import UsageError, unknown_name
from zoo.options import OptionInfo

__all__ = ["RunCommand"]

_OWN = ("out", "resume", "config", "preset")


class RunCommand(click.Command):
    """``zoo run MODEL [settings] [options of the model]``."""

    def __init__(self, name: str) -> None:
        super().__init__(name, callback=_run, help="Train MODEL, score it, and write a run folder.")
        self._options_of_model: list[click.Parameter] = []

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*_parameters(), *self._options_of_model, *([h] if (h := self.get_help_option(ctx)) else [])]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # Which flags there are depends on the model, so find that first, then parse everything in one go.
        model = _find_model(args)
        if model is not None:
            from zoo.registry import registry

            infos = options.options_of(registry().model(model)).values()
            taken = {p.name for p in _parameters()}
            self._options_of_model = [_flag(info) for info in infos if info.name not in taken]
            self._model_flags = [info.flag for info in infos]
        else:
            self._options_of_model = []
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            of = f"option of zoo run {model}" if model else "option of zoo run"
            flags = [flag for p in self.get_params(ctx) for flag in p.opts if flag.startswith("--")]
            raise unknown_name(of, error.option_name, flags) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups = [("Settings", _parameters()), ("Options of the model", self._options_of_model)]
        for title, parameters in groups:
            records = [r for p in parameters if (r := p.get_help_record(ctx))]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
        if not self._options_of_model:
            formatter.write_paragraph()
            formatter.write_text("zoo run MODEL --help also shows the model's own options.")


def _find_model(args: list[str]) -> str | None:
    """The model that the arguments name, by position or through --config; None where there is none."""
    valued = {flag for p in _parameters() if isinstance(p, click.Option) and not p.is_flag for flag in p.opts}
    words: list[str] = []
    files: dict[str, str] = {}
    skip = False
    for i, arg in enumerate(args):
        if skip:
            skip = False
        elif arg.startswith("-"):
            name, _, value = arg.partition("=")
            skip = name in valued and not value
            if name in ("--config", "--out"):
                files[name] = value or (args[i + 1] if i + 1 < len(args) else "")
        else:
            words.append(arg)
    if words and args[0] == words[0]:
        return words[0]
    if words:
        # Values of the model's own flags are among the words: the one that is a model is meant.
        from zoo.registry import registry

        if known := [w for w in words if w in registry().models]:
            return known[0]
    if files.get("--config"):
        from zoo.run.settings import RunSettings

        return RunSettings.from_file(Path(files["--config"])).model or None
    if "--resume" in args and (stored := Path(files.get("--out") or ".") / "config.toml").is_file():
        from zoo.run.settings import RunSettings

        return RunSettings.from_file(stored).model or None
    return words[0] if words else None


def _parameters() -> list[click.Parameter]:
    from zoo.run.settings import RunSettings

    return [
        click.Argument(["model"], required=False),
        *(_flag(info) for info in options.options_of(RunSettings).values()),
        click.Option(["--out"], metavar="DIR", help="Run folder; default runs/MODEL-DATASET-seedK."),
        click.Option(["--resume"], is_flag=True, help="Continue the run in the folder, to the same bits."),
        click.Option(["--config"], metavar="FILE", help="Take settings from a config.toml; flags go before it."),
        click.Option(["--preset"], metavar="NAME", help="Settings by name, such as paper; flags go before them."),
    ]


def _flag(info: OptionInfo) -> click.Option:
    note = info.help
    if info.default is not None:
        shown = str(info.default).lower() if isinstance(info.default, bool) else info.default
        note += f" [default: {shown}]"
    if info.allows and not info.choices:
        note += f" ({info.allows})"
    if info.kind is bool:
        return click.Option([f"{info.flag}/--no-{info.flag[2:]}", info.name], default=None, help=note)
    kind: Any = click.Choice([str(c) for c in info.choices]) if info.choices and info.kind is str else info.kind
    metavar = None if info.choices else {int: "N", float: "X", str: "TEXT"}[info.kind]
    return click.Option([info.flag, info.name], type=kind, default=None, metavar=metavar, help=note)


@click.pass_context
def _run(ctx: click.Context, /, **values: Any) -> None:
    given = {k: v for k, v in _given(ctx, values) if k not in (*_OWN, "model")}
    from zoo.cli.progress import reporter
    from zoo.run import train

    report = reporter()
    warnings.showwarning = lambda message, *_: report.note(str(message))
    with report:
        train(
            values["model"],
            config=values["config"],
            preset=values["preset"],
            out=values["out"],
            resume=values["resume"],
            report=report,
            **given,
        )


def _given(ctx: click.Context, values: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            if value is None:
                raise UsageError(f"{name}: a value is needed")
            yield name, value
