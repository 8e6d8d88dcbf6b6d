"""``zoo completion``, and completion of the names of models and of other registered things."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem, get_completion_class

from zoo.cli.console import echo

if TYPE_CHECKING:
    from zoo.options import OptionInfo

__all__ = ["VARIABLE", "complete_models", "complete_names", "completion"]

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

VARIABLE = "_ZOO_COMPLETE"
"""Environment variable by which a shell asks for completions."""

_INSTALL = {
    "bash": 'eval "$(zoo completion bash)"  in ~/.bashrc',
    "zsh": 'eval "$(zoo completion zsh)"  in ~/.zshrc',
    "fish": "zoo completion fish | source  in ~/.config/fish/config.fish",
}


@click.command(epilog="\n\n".join(_INSTALL.values()))
@click.argument("shell", type=click.Choice(list(_INSTALL)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that completes commands, models, options and files in a shell.

    Evaluate it whenever a shell starts:
    """
    kind = get_completion_class(shell)
    assert kind is not None
    # Not kind.source(), which runs bash to check its version.
    script = kind(context.find_root().command, {}, "zoo", VARIABLE)
    echo(script.source_template % script.source_vars())


def complete_models(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of models that begin with ``incomplete``, with their descriptions."""
    from zoo.cli.console import summary_line
    from zoo.registry import registry

    models = registry().models
    return [
        CompletionItem(name, help=summary_line(models[name].value)) for name in models if name.startswith(incomplete)
    ]


def complete_names(info: OptionInfo) -> Completer | None:
    """Completion of the registered names that an option takes; None if it takes others."""
    known = next((check.names[1] for check in info.checks if check.names), _REGISTERED.get(info.name))
    if known is None:
        return None

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in known() if name.startswith(incomplete)]

    return complete


def _datasets() -> Iterable[str]:
    from zoo.registry import registry

    return [*registry().sources(), "folder:", "hf:"]


def _extractors() -> Iterable[str]:
    from zoo.registry import registry

    return ["auto", "none", *registry().extractors]


def _findings() -> Iterable[str]:
    from zoo.health import KINDS

    return ["any", "collapse", "none", *KINDS]


_REGISTERED: dict[str, Callable[[], Iterable[str]]] = {
    "dataset": _datasets,
    "extractor": _extractors,
    "stop_on": _findings,
}
