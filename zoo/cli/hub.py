"""``zoo push`` and ``zoo pull``: run folders on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.cli.console import echo
from zoo.cli.parameters import FilePath
from zoo.terminal import count

__all__ = ["pull", "push"]


@click.command()
@click.argument("run", type=FilePath())
@click.argument("name")
@click.option("--private", is_flag=True, help="Create the repository as a private one.")
@click.option("--license", "license_", metavar="ID", help="License in the model card, such as mit; default: none.")
@click.option("--dry-run", is_flag=True, help="Write the model card and list the files; upload nothing.")
def push(run: Path, name: str, private: bool, license_: str | None, dry_run: bool) -> None:
    """Upload a run to the Hugging Face Hub as hf:user/name, with a model card.

    The model card is RUN/README.md. If it exists, it is uploaded as it is.
    """
    from zoo.run.hub import plan_push
    from zoo.run.hub import push as push_run

    plan = plan_push(run, name, license=license_)
    echo(f"{'would push' if dry_run else 'pushes'} {', '.join(plan.files)}")
    if dry_run:
        echo(f"wrote {run / 'README.md'}; nothing was uploaded")
        return
    address = push_run(plan, private=private)
    echo(f"pushed {count(len(plan.files), 'file')} to {address}")


@click.command()
@click.argument("name")
@click.option("--out", type=FilePath(), metavar="DIR", help="Run folder; default: runs/NAME.")
def pull(name: str, out: Path | None) -> None:
    """Download a run hf:user/name from the Hugging Face Hub to a run folder."""
    from zoo.run.hub import HubName
    from zoo.run.hub import pull as pull_run

    target = out or Path("runs") / HubName.parse(name).repository.partition("/")[2]
    echo(f"wrote {pull_run(name, target)}")
