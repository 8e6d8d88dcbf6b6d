"""Groups results in tables by protocol, combines the seeds of each row, and ranks the rows."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs

from zoo.evaluation.protocol import Protocol
from zoo.leaderboard.duplicates import remove_duplicates
from zoo.leaderboard.folders import LeftOut, read_all
from zoo.leaderboard.intervals import Summary, summary
from zoo.leaderboard.labels import Labels
from zoo.leaderboard.ranks import place
from zoo.leaderboard.results import FailedResult, ResultKey, Run, Training, json_digest
from zoo.leaderboard.score_columns import columns, comparable, describe_scores, image_error, second_opinion, shown
from zoo.leaderboard.stability import Stability, stability
from zoo.metrics.score_info import ScoreInfo

__all__ = ["COLLAPSED", "Leaderboard", "LeaderboardGroup", "LeaderboardRow", "build"]

COLLAPSED = 0.03
"""A run has collapsed if its smallest class has a smaller share of the generated images."""

C = TypeVar("C", bound=ResultKey)


@attrs.frozen(kw_only=True, eq=False)
class LeaderboardRow:
    """All seeds of a model with one version and one set of options."""

    model: str
    package: str
    version: str
    label: Mapping[str, Any]
    """Options and budget entries shown in the row."""
    options: Mapping[str, Any]
    runs: Sequence[Run]
    """Finished runs, sorted by seed."""
    failures: Sequence[FailedResult]
    metrics: Mapping[str, Summary]
    headline: Summary | None
    """None if no seed has a score."""
    collapsed: tuple[int, int]
    """(collapsed runs, runs with known class shares)"""
    below_floor: int
    """Number of seeds with a score below the floor."""
    rank: int | None = None
    """None if more than half of the seeds failed."""
    last_rank: int | None = None
    """Last place of the rows that share the rank."""
    second_rank: tuple[int, int] | None = None
    """First and last place by the second opinion, which does not affect the rank; None without one."""

    @property
    def seeds(self) -> int:
        """Number of seeds, including failed ones."""
        return len(self.runs) + len(self.failures)

    @property
    def failed(self) -> int:
        """Number of seeds without a score: diverged, failed with an error, or not scored."""
        return self.seeds - (self.headline.n if self.headline else 0)

    @property
    def provisional(self) -> bool:
        """Whether the rank is based on a single seed."""
        return self.rank is not None and self.headline is not None and self.headline.half is None

    @property
    def disputed(self) -> bool:
        """Whether the places by the second opinion and by the rank are disjoint."""
        if self.rank is None or self.last_rank is None or self.second_rank is None:
            return False
        return self.second_rank[1] < self.rank or self.last_rank < self.second_rank[0]

    @property
    def median(self) -> Run | None:
        """The run with the median score, whose images are shown; of two middle runs, the worse."""
        scored = sorted((r.score, r.seed, r) for r in self.runs if r.score is not None)
        return scored[len(scored) // 2][2] if scored else None

    @property
    def cell(self) -> ResultKey:
        """A cell of the row, for the entries that all cells share."""
        return self.median or [*self.runs, *self.failures][0]


@attrs.frozen(kw_only=True, eq=False)
class LeaderboardGroup:
    """A table: the rows of one data set, evaluation protocol and training protocol."""

    dataset: str
    headline: str
    """Name of the score that determines the ranks."""
    floor: float | None
    """Score of real training images."""
    protocol: Protocol
    fingerprint: str
    training: Training
    rows: Sequence[LeaderboardRow]
    metrics: Sequence[str]
    """Names of all scores of the rows except floors, in the order of the results, the headline first."""
    score_info: Mapping[str, ScoreInfo]
    """Descriptions of ``metrics``."""
    stability: Stability
    """How stable the order of the rows is."""
    second: str | None = None
    """Name of the score of the second opinion; None without one."""
    second_floor: float | None = None
    """Score of real training images."""
    apart: tuple[str, Sequence[str]] | None = None
    """Id of the first table of the data set, and the differences of the protocols from it; None for the first table."""

    @property
    def columns(self) -> list[str]:
        """Names of the scores with a column, except the headline."""
        return columns(self.score_info, [row.metrics for row in self.rows], self.headline)

    @property
    def id(self) -> str:
        """Short identifier, determined by the two protocols."""
        return "t" + json_digest([self.fingerprint, self.training.key])[:10]


@attrs.frozen(eq=False)
class Leaderboard:
    """All tables, and the results excluded from them."""

    groups: Sequence[LeaderboardGroup]
    left_out: Sequence[LeftOut]

    @property
    def results(self) -> int:
        """Number of runs in the tables, including failed ones."""
        return len({id(c) for g in self.groups for r in g.rows for c in (*r.runs, *r.failures)})


def build(directories: Sequence[Path]) -> Leaderboard:
    """Read all results and build the tables; unusable results are listed with reasons.

    Args:
        directories: Folders that contain results, or archives.
    """
    runs, failures, left = read_all(directories)
    runs_by_group: dict[tuple[str, str], list[Run]] = collections.defaultdict(list)
    groups_by_key: dict[Any, set[tuple[str, str]]] = collections.defaultdict(set)
    for run in runs:
        runs_by_group[run.fingerprint, run.training.key].append(run)
        for key in (_protocol_key(run), _budget_key(run)):
            groups_by_key[key].add((run.fingerprint, run.training.key))
    failures_by_group: dict[tuple[str, str], list[FailedResult]] = collections.defaultdict(list)
    excluded: _Excluded = {}
    for failure in failures:
        key = _protocol_key(failure) if failure.knows_protocol else _budget_key(failure)
        for group in sorted(groups_by_key.get(key, ())):
            failures_by_group[group].append(failure)
        if key not in groups_by_key:
            reason = f"{failure.kind}: {failure.reason or 'no reason given'}; no finished run shares its protocols"
            _leave_out(excluded, failure, reason, "unplaced")
    for members in runs_by_group.values():
        members[:], affected = comparable(members)
        for run, reason in affected:
            entry = LeftOut(run.path, reason, "conflict", run.digest)
            excluded[id(entry)] = entry
    groups = [_group(members, failures_by_group[key], excluded) for key, members in runs_by_group.items()]
    groups.sort(key=lambda g: (g.dataset.casefold(), g.dataset, -len(g.rows), g.training.title, g.id))
    return Leaderboard(_add_differences(groups), sorted([*left, *excluded.values()]))


_Excluded = dict[int, LeftOut]


def _leave_out(excluded: _Excluded, cell: ResultKey, reason: str, kind: str) -> None:
    # By identity: a failure in two tables is listed once, and two folders of the same name are listed twice.
    excluded[id(cell)] = LeftOut(cell.path, reason, kind, cell.digest)


def _protocol_key(cell: ResultKey) -> tuple[Any, ...]:
    # A failure has no evaluation protocol. It is listed in the tables of finished cells with the same key.
    return "protocol", cell.training.key, cell.dataset, cell.scoring


def _budget_key(cell: ResultKey) -> tuple[Any, ...]:
    # For failures that do not state their protocol file.
    return "budget", *sorted((k, str(v)) for k, v in cell.budget.items()), cell.dataset, cell.scoring


def _group(runs: Iterable[Run], failures: Iterable[FailedResult], excluded: _Excluded) -> LeaderboardGroup:
    rows: dict[str, list[Run | FailedResult]] = collections.defaultdict(list)
    for run in runs:
        rows[run.row_key].append(run)
    rows_by_model: dict[Any, dict[str, Run | FailedResult]] = collections.defaultdict(dict)
    for key, cells in rows.items():
        rows_by_model[_model_key(cells[0])][key] = cells[0]
    for failure in failures:
        rows[_find_row(failure, rows_by_model[_model_key(failure)])].append(failure)

    def leave_out(cell: ResultKey, reason: str, kind: str) -> None:
        _leave_out(excluded, cell, reason, kind)

    kept = {key: remove_duplicates(cells, leave_out) for key, cells in rows.items()}
    finished = [c for cells in kept.values() for c in cells if isinstance(c, Run)]
    headline = _most_common(run.headline for run in finished)
    floor = _median_floor(finished, headline)
    metrics = _score_names(finished, headline)
    second = second_opinion(metrics)
    labels = Labels([cells[0] for cells in kept.values()])
    built = [_row(cells, headline, floor, labels.label(cells[0]), metrics) for cells in kept.values()]
    first = min(finished, key=lambda run: run.digest)
    ranked = _rank(built, headline, second)
    values = [[_values(row, name) for row in ranked if row.rank is not None] for name in (headline, second)]
    return LeaderboardGroup(
        dataset=" / ".join(sorted({run.dataset for run in finished})[:3]),
        headline=headline,
        floor=floor,
        protocol=first.protocol,
        fingerprint=first.fingerprint,
        training=first.training,
        rows=ranked,
        metrics=metrics,
        score_info=describe_scores(metrics, finished),
        stability=stability(*values),
        second=second,
        second_floor=None if second is None else _median_floor(finished, second),
    )


def _median_floor(runs: Iterable[Run], name: str) -> float | None:
    floors = sorted(f for run in runs if (f := run.scores.get(f"{name} floor")) is not None)
    return floors[len(floors) // 2] if floors else None


def _values(row: LeaderboardRow, name: str | None) -> dict[int, float]:
    return {run.seed: v for run in row.runs if name and (v := run.scores.get(name)) is not None}


def _model_key(cell: ResultKey) -> tuple[str, ...]:
    return cell.model, cell.package, cell.version


def _find_row(failure: FailedResult, rows: Mapping[str, ResultKey]) -> str:
    # An early failure has only the options given explicitly, without the defaults.
    asked = {**failure.options, **failure.budget}
    fitting = [k for k, c in rows.items() if asked.items() <= {**c.options, **c.budget}.items()]
    return fitting[0] if failure.row_key not in rows and len(fitting) == 1 else failure.row_key


def _row(
    cells: Sequence[Run | FailedResult],
    headline: str,
    floor: float | None,
    label: Mapping[str, Any],
    names: Sequence[str],
) -> LeaderboardRow:
    runs = [c for c in cells if isinstance(c, Run)]
    metrics = {}
    for name in names:
        values = [v for run in runs if (v := run.scores.get(name)) is not None]
        if values:
            metrics[name] = summary(values, image_error(runs, name))
    known = [run.smallest for run in runs if run.smallest is not None]
    scores = [s for run in runs if (s := run.scores.get(headline)) is not None]
    return LeaderboardRow(
        model=cells[0].model,
        package=cells[0].package,
        version=cells[0].version,
        label=label,
        options=cells[0].options,
        runs=runs,
        failures=[c for c in cells if isinstance(c, FailedResult)],
        metrics=metrics,
        headline=metrics.get(headline),
        collapsed=(sum(share < COLLAPSED for share in known), len(known)),
        below_floor=0 if floor is None else sum(score < floor for score in scores),
    )


def _rank(rows: Sequence[LeaderboardRow], headline: str, second: str | None) -> list[LeaderboardRow]:
    def by_name(row: LeaderboardRow) -> tuple[Any, ...]:
        return row.model, row.package, row.version, row.cell.row_key

    counted = [row for row in rows if row.headline is not None and row.failed * 2 <= row.seeds]
    collapsed = [row.collapsed[0] > 0 for row in counted]
    spans = place([_values(row, headline) for row in counted], collapsed, [row.headline for row in counted])
    placed = [attrs.evolve(row, rank=a, last_rank=b) for row, (a, b) in zip(counted, spans, strict=True)]
    if second is not None and all(second in row.metrics for row in placed):
        others = place([_values(row, second) for row in placed], collapsed, [row.metrics[second] for row in placed])
        placed = [attrs.evolve(row, second_rank=span) for row, span in zip(placed, others, strict=True)]
    placed.sort(key=lambda row: (row.headline.mean if row.headline else 0.0, by_name(row)))
    unplaced = [row for row in rows if row.headline is None or row.failed * 2 > row.seeds]
    unplaced.sort(key=lambda row: (row.headline is None, row.headline.mean if row.headline else 0.0, by_name(row)))
    return [*placed, *unplaced]


def _score_names(runs: Iterable[Run], headline: str) -> list[str]:
    found = {name for run in runs for name in run.scores if shown(name, run.headline)}
    usual: dict[str, int] = {}
    # The order in the results; if two results differ, the earlier position, then the name.
    for run in runs:
        for position, name in enumerate(run.scores):
            usual[name] = min(position, usual.get(name, position))
    return sorted(found, key=lambda name: (name != headline, usual[name], name))


def _most_common(names: Iterable[str]) -> str:
    counts = collections.Counter(names)
    return min(counts, key=lambda name: (-counts[name], name))


def _add_differences(groups: Sequence[LeaderboardGroup]) -> list[LeaderboardGroup]:
    first: dict[str, LeaderboardGroup] = {}
    found = []
    for group in groups:
        reference = first.setdefault(group.dataset, group)
        if reference is not group:
            lines = [*group.training.explain(reference.training), *group.protocol.explain(reference.protocol)]
            group = attrs.evolve(group, apart=(reference.id, lines))
        found.append(group)
    return found
