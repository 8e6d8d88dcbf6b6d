"""Group of the ``zoo`` commands: built-in ones and those of third-party packages."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Collection, Iterable
from typing import Any

import click

from zoo.cli.console import echo
from zoo.errors import UsageError, unknown_name
from zoo.hooks import GROUP
from zoo.registry import FailedPlugin, Plugin, PluginLoader, Registered, is_bundled, named, registry

__all__ = ["CommandRegistry", "ZooGroup", "plugin_failures", "warn_of_failures"]


class CommandRegistry(PluginLoader):
    """Commands of third-party packages. Bundled plugins have none and are not imported.

    Args:
        builtin: Names of the built-in commands, which a plugin cannot replace.
        entry_points: Entry points to load; the installed ones by default.
    """

    def __init__(
        self, builtin: Collection[str], entry_points: Iterable[importlib.metadata.EntryPoint] | None = None
    ) -> None:
        super().__init__()
        self.commands: dict[str, Registered[click.Command]] = {}
        self._builtin = builtin
        found = importlib.metadata.entry_points(group=GROUP) if entry_points is None else entry_points
        for entry in sorted(found, key=lambda e: e.name):
            if not is_bundled(entry):
                self.load(entry)

    def _collect(self, module: object, plugin: Plugin) -> None:
        for name, command in self._call_hook(module, plugin, "zoo_commands", named):
            self._put(self.commands, "command", name, command, plugin, self._check)

    def _check(self, name: str, command: Any) -> str | None:
        if not isinstance(command, click.Command):
            return f"a {type(command).__name__}, not a click.Command"
        return "the name belongs to a built-in command" if name in self._builtin else None


class ZooGroup(click.Group):
    """Built-in commands in the order in which they were added, then those of third-party packages.

    Third-party packages are imported only for the help and for names of no built-in command.
    """

    @functools.cached_property
    def plugins(self) -> CommandRegistry:
        """Commands of the installed third-party packages, loaded on first use."""
        return CommandRegistry(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Get a command by name, or None."""
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        entry = self.plugins.commands.get(cmd_name)
        return entry.value if entry else None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return [*self.commands, *self.plugins.commands]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of ``args``.

        Raises:
            UsageError: If it is unknown; names the closest one.
        """
        name = args[0]
        if name.startswith("-") or self.get_command(ctx, name) is not None:
            return super().resolve_command(ctx, args)
        error = unknown_name("command", name, self.list_commands(ctx))
        if self.plugins.failures:
            raise UsageError(f"{error} Plugins that failed to load: {'; '.join(map(str, self.plugins.failures))}")
        raise error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the built-in commands and, in a separate section, those of plugins."""
        builtin = [(name, command) for name, command in self.commands.items() if not command.hidden]
        plugins = [(name, entry.value) for name, entry in self.plugins.commands.items() if not entry.value.hidden]
        width = formatter.width - 6 - max(len(name) for name, _ in (*builtin, *plugins))
        for title, commands in (("Commands", builtin), ("Commands from plugins", plugins)):
            if commands:
                with formatter.section(title):
                    formatter.write_dl([(name, command.get_short_help_str(width)) for name, command in commands])
        warn_of_failures(self.plugins.failures)


def plugin_failures() -> list[FailedPlugin]:
    """Plugins that failed to load, including their commands. Must be called inside a ``zoo`` command."""
    root = click.get_current_context().find_root().command
    commands = root.plugins.failures if isinstance(root, ZooGroup) else []
    return list(dict.fromkeys((*registry().failures, *commands)))


def warn_of_failures(failures: Iterable[FailedPlugin]) -> None:
    """Write a line per failure to standard error."""
    for failure in failures:
        echo(f"zoo: warning: {failure}", err=True)
