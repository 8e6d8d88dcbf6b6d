"""``zoo leaderboard``: rank results in tables, as Markdown, JSON or an HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.cli.console import echo
from zoo.cli.parameters import FilePath
from zoo.errors import UsageError, ZooError
from zoo.terminal import count

__all__ = ["leaderboard"]

_FORMATS = {".md": "md", ".html": "html", ".htm": "html", ".json": "json"}


@click.command()
@click.argument("directories", metavar="DIR...", nargs=-1, required=True, type=FilePath())
@click.option(
    "--format",
    "form",
    type=click.Choice(["md", "html", "json"]),
    help="Output format; default: the suffix of --out, or md.",
)
@click.option("--out", type=FilePath(), help="Output file; default: standard output.")
@click.option("--pack", "archive", type=FilePath(), help="Also write the results to one archive, a .tar.xz file.")
def leaderboard(directories: tuple[Path, ...], form: str | None, out: Path | None, archive: Path | None) -> None:
    """Rank results in one table per protocol.

    Excluded results are listed with the reason. DIR is a folder or an archive of --pack; archives named
    results.tar.xz below a folder are read too.
    """
    for directory in directories:
        if not directory.is_dir() and not (directory.is_file() and directory.name.endswith(".tar.xz")):
            raise UsageError(
                f"DIR: {str(directory)!r} is not allowed; must be a folder that contains results, or a .tar.xz archive"
            )
    if archive is not None and not archive.name.endswith(".tar.xz"):
        raise UsageError(f"pack: {str(archive)!r} is not allowed; must end in .tar.xz")
    if out is not None and form is None and out.suffix.lower() not in _FORMATS:
        raise UsageError(f"out: {str(out)!r} is not allowed; must end in .md, .html or .json, unless --format is given")
    only_pack = archive is not None and out is None and form is None
    form = form or (_FORMATS[out.suffix.lower()] if out is not None else "md")
    if out is not None and out.is_dir():
        raise UsageError(f"out: {str(out)!r} is not allowed; it is a folder")
    if archive is not None and archive.is_dir():
        raise UsageError(f"pack: {str(archive)!r} is not allowed; it is a folder")
    from zoo.leaderboard import build, pack, to_html, to_json, to_markdown

    board = build(directories)
    if not board.groups:
        where = ", ".join(map(str, directories))
        left = board.left_out
        why = f" ({len(left):,} excluded, such as {left[0].path}: {left[0].reason})" if left else ""
        raise ZooError(f"no results to rank in {where}{why}; zoo run and zoo bench write results")
    if archive is not None:
        _write(archive, pack(directories))
        echo(f"wrote {archive}", err=not only_pack)
        if only_pack:
            return
    text = {"md": to_markdown, "html": to_html, "json": to_json}[form](board)
    if out is None:
        echo(text, nl=False)
        return
    _write(out, text.encode())
    others = f", {len(board.left_out):,} excluded" if board.left_out else ""
    found = f"{count(board.results, 'result')} in {count(len(board.groups), 'table')}"
    echo(f"wrote {out}: {found}{others}")


def _write(path: Path, content: bytes) -> None:
    from zoo.files import write_atomically

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZooError(f"cannot write {path}: {error.strerror or error}") from None
    write_atomically(path, content)
