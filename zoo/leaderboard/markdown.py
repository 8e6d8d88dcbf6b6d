"""The leaderboard as Markdown: a table per data set and protocol, and the excluded results."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from zoo.leaderboard.document import row_cost
from zoo.leaderboard.labels import format_label
from zoo.leaderboard.number_format import format_number, format_places, plus_minus, share
from zoo.leaderboard.ranking import Leaderboard, LeaderboardGroup, LeaderboardRow
from zoo.leaderboard.score_columns import describe_stability

__all__ = ["escaped", "to_markdown"]

_ACTIVE = re.compile(r"([\\`*_{}\[\]<>()#+!|~&:@$^=])")


def escaped(text: str) -> str:
    r"""Escape text so that it is not parsed as markup, a table cell or a link anywhere in a line.

    >>> print(escaped("a|b <script> www.example.org"))
    a\|b \<script\> www\.example.org
    """
    return re.sub(r"(?i)\b(www)\.", r"\1\\.", _ACTIVE.sub(r"\\\1", " ".join(text.split())))


def to_markdown(leaderboard: Leaderboard) -> str:
    """Return the leaderboard as GitHub-flavored Markdown."""
    return "\n".join([*_lines(leaderboard)]) + "\n"


def _lines(leaderboard: Leaderboard) -> Iterator[str]:
    yield "# Leaderboard"
    yield ""
    yield "Mean ± half the 95 % interval over training seeds and, for the score that ranks, test images. Models share"
    yield "a rank where a paired test over seeds does not separate them; in brackets it is provisional: one seed. The"
    yield "second opinion never ranks. Tables of different protocols cannot be compared."
    for i, group in enumerate(leaderboard.groups):
        if i == 0 or leaderboard.groups[i - 1].dataset != group.dataset:
            yield from ("", f"## {escaped(group.dataset)}")
        yield ""
        yield from _group(group)
    if leaderboard.left_out:
        yield from ("", "## Excluded results", "")
        for entry in leaderboard.left_out:
            yield f"- at {escaped(entry.path)}: {escaped(entry.reason)}"


def _group(group: LeaderboardGroup) -> Iterator[str]:
    p = group.protocol
    yield f"### {escaped(group.headline)} after {escaped(group.training.title)}"
    yield ""
    yield (
        f"{p.n_generated:,} generated against {p.n_real:,} real images; protocol {group.fingerprint[:16]}. "
        f"Table {group.id}."
    )
    if group.apart is not None:
        yield ""
        yield f"Not comparable with table {group.apart[0]}: {escaped('; '.join(group.apart[1]))}."
    yield ""
    others = group.columns
    heads = ["rank", "model", "package", "options", "seeds", group.headline, "collapsed", "failed", *others]
    heads += ["training, s", "images/s", "memory, MB", "parameters", "scoring, s", "device"]
    yield _line([escaped(head) for head in heads])
    yield _line(["--:", "---", "---", "---", *["--:"] * (len(heads) - 5), "---"])
    if group.floor is not None:
        floors = [format_number(group.second_floor) if name == group.second else "" for name in others]
        yield _line(["", "*training images*", "", "floor", "", format_number(group.floor), "", "", *floors, *[""] * 6])
    for row in group.rows:
        yield _row(row, others)
    if line := describe_stability(group.stability, group.second):
        yield ""
        yield escaped(line)
    notes = [note for row in group.rows for note in _notes(row)]
    if notes:
        yield ""
        yield from (f"- {note}" for note in notes)
    better = [n for n in others if group.score_info[n].better == "higher"]
    if better:
        yield ""
        yield f"Higher is better: {escaped(', '.join(better))}."


def _row(row: LeaderboardRow, others: Sequence[str]) -> str:
    cost = row_cost(row)
    memory, parameters = cost["peak_memory_bytes"], cost["parameters"]
    rank = "–" if row.rank is None else f"({row.rank})" if row.provisional else str(row.rank)
    return _line(
        [
            rank,
            escaped(row.model),
            escaped(f"{row.package} {row.version}"),
            escaped(format_label(row.label)),
            str(row.seeds),
            plus_minus(row.headline),
            share(row.collapsed),
            share((row.failed, row.seeds)),
            *(plus_minus(row.metrics.get(name)) for name in others),
            format_number(cost["seconds"]),
            format_number(cost["images_per_second"]),
            "n/a" if memory is None else f"{memory / 1e6:,.0f}",
            "n/a" if parameters is None else f"{parameters:,}",
            format_number(cost["evaluation_seconds"]),
            escaped(", ".join(cost["devices"])),
        ]
    )


def _notes(row: LeaderboardRow) -> Iterator[str]:
    label = escaped(" ".join(filter(None, [row.model, format_label(row.label)])))
    if row.disputed and row.second_rank is not None:
        yield f"**{label}**: rank {row.rank}, but {format_places(row.second_rank)} by the second opinion."
    if row.below_floor:
        yield f"**{label}**: {row.below_floor} of {row.seeds} seeds below the floor: a bug or memorization."
    for lost in row.failures:
        yield f"**{label}**, seed {lost.seed}: {lost.kind}: {escaped(lost.reason)}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
