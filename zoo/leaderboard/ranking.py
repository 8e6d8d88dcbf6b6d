"""Grouping of results into tables and rows, duplicates, and ranking."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs

from zoo.evaluation.protocol import Protocol
from zoo.leaderboard.duplicates import once_each
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
"""A run has collapsed if the share of its smallest class in the generated images is below this."""

C = TypeVar("C", bound=ResultKey)


@attrs.frozen(kw_only=True, eq=False)
class LeaderboardRow:
    """All seeds of a model with one version and one set of options."""

    model: str
    package: str
    version: str
    label: Mapping[str, Any]
    """Options and budget that distinguish this row, by name."""
    options: Mapping[str, Any]
    runs: Sequence[Run]
    """Finished runs, by seed."""
    failures: Sequence[FailedResult]
    metrics: Mapping[str, Summary]
    headline: Summary | None
    """None if no seed has a score."""
    collapsed: tuple[int, int]
    """Number of collapsed runs, and of runs for which that is known."""
    below_floor: int
    """Number of seeds with a score below the floor."""
    rank: int | None = None
    """None if more than half of the seeds failed."""
    last_rank: int | None = None
    """The last place that the rank spans: as far as the rows that share it reach."""
    second_rank: tuple[int, int] | None = None
    """The first and the last place by the second opinion, which never ranks; None where there is none."""

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
        """Whether the rank is from one seed."""
        return self.rank is not None and self.headline is not None and self.headline.half is None

    @property
    def disputed(self) -> bool:
        """Whether the second opinion's places and those of the rank have none in common."""
        if self.rank is None or self.last_rank is None or self.second_rank is None:
            return False
        return self.second_rank[1] < self.rank or self.last_rank < self.second_rank[0]

    @property
    def median(self) -> Run | None:
        """The run with the median score (the worse of the middle two), whose images represent the row."""
        scored = sorted((r.score, r.seed, r) for r in self.runs if r.score is not None)
        return scored[len(scored) // 2][2] if scored else None

    @property
    def cell(self) -> ResultKey:
        """A cell of the row, for the properties that all of them share."""
        return self.median or [*self.runs, *self.failures][0]


@attrs.frozen(kw_only=True, eq=False)
class LeaderboardGroup:
    """A table: rows with the same data set, evaluation protocol and training protocol."""

    dataset: str
    headline: str
    """Name of the ranking score."""
    floor: float | None
    """The same score of real training images."""
    protocol: Protocol
    fingerprint: str
    training: Training
    rows: Sequence[LeaderboardRow]
    metrics: Sequence[str]
    """All scores that some row has, in their usual order, the headline first; without the floor."""
    score_info: Mapping[str, ScoreInfo]
    """Descriptions of ``metrics``."""
    stability: Stability
    """How stable the order of the rows is."""
    second: str | None = None
    """The score of the second opinion; None without one."""
    second_floor: float | None = None
    """The same score of real training images."""
    apart: tuple[str, Sequence[str]] | None = None
    """Id of the first table of the data set, and the differences from its protocols; None for the first."""

    @property
    def columns(self) -> list[str]:
        """The scores besides the headline that have a column."""
        return columns(self.score_info, [row.metrics for row in self.rows], self.headline)

    @property
    def id(self) -> str:
        """Short name, determined by the protocols."""
        return "t" + json_digest([self.fingerprint, self.training.key])[:10]


@attrs.frozen(eq=False)
class Leaderboard:
    """All tables, and excluded results."""

    groups: Sequence[LeaderboardGroup]
    left_out: Sequence[LeftOut]

    @property
    def results(self) -> int:
        """Number of runs in the tables, including failed ones."""
        return len({id(c) for g in self.groups for r in g.rows for c in (*r.runs, *r.failures)})


def build(directories: Sequence[Path]) -> Leaderboard:
    """Read all results below the directories and build the tables; excluded results are listed with the reason."""
    runs, failures, left = read_all(directories)
    by_group: dict[tuple[str, str], list[Run]] = collections.defaultdict(list)
    places: dict[Any, set[tuple[str, str]]] = collections.defaultdict(set)
    for run in runs:
        by_group[run.fingerprint, run.training.key].append(run)
        for job in (_job(run), _budget_job(run)):
            places[job].add((run.fingerprint, run.training.key))
    lost: dict[tuple[str, str], list[FailedResult]] = collections.defaultdict(list)
    told: _Told = {}
    for failure in failures:
        job = _job(failure) if failure.knows_protocol else _budget_job(failure)
        for key in sorted(places.get(job, ())):
            lost[key].append(failure)
        if job not in places:
            why = f"{failure.kind}: {failure.reason or 'no reason given'}; no finished run shares its protocols"
            _leave_out(told, failure, why, "unplaced")
    for members in by_group.values():
        members[:], affected = comparable(members)
        for run, reason in affected:
            entry = LeftOut(run.path, reason, "conflict", run.digest)
            told[id(entry)] = entry
    groups = [_group(members, lost[key], told) for key, members in by_group.items()]
    groups.sort(key=lambda g: (g.dataset.casefold(), g.dataset, -len(g.rows), g.training.title, g.id))
    return Leaderboard(_tell_apart(groups), sorted([*left, *told.values()]))


_Told = dict[int, LeftOut]


def _leave_out(told: _Told, cell: ResultKey, reason: str, kind: str) -> None:
    # By identity: a failure that belongs to two tables is told once, two folders of one name are told twice.
    told[id(cell)] = LeftOut(cell.path, reason, kind, cell.digest)


def _job(cell: ResultKey) -> tuple[Any, ...]:
    # A failure was never scored. It belongs to the tables that the finished cells of its job went to.
    return "protocol", cell.training.key, cell.dataset, cell.scoring


def _budget_job(cell: ResultKey) -> tuple[Any, ...]:
    # Where it does not say which protocol file that was, its budget must tell.
    return "budget", *sorted((k, str(v)) for k, v in cell.budget.items()), cell.dataset, cell.scoring


def _group(runs: Iterable[Run], failures: Iterable[FailedResult], told: _Told) -> LeaderboardGroup:
    rows: dict[str, list[Run | FailedResult]] = collections.defaultdict(list)
    for run in runs:
        rows[run.row_key].append(run)
    of_model: dict[Any, dict[str, Run | FailedResult]] = collections.defaultdict(dict)
    for key, cells in rows.items():
        of_model[_version(cells[0])][key] = cells[0]
    for failure in failures:
        rows[_find_row(failure, of_model[_version(failure)])].append(failure)

    def leave_out(cell: ResultKey, reason: str, kind: str) -> None:
        _leave_out(told, cell, reason, kind)

    kept = {key: once_each(cells, leave_out) for key, cells in rows.items()}
    finished = [c for cells in kept.values() for c in cells if isinstance(c, Run)]
    headline = _most_common(run.headline for run in finished)
    floor = _floor(finished, headline)
    metrics = _names(finished, headline)
    second = second_opinion(metrics)
    labels = Labels([cells[0] for cells in kept.values()])
    made = [_row(cells, headline, floor, labels.of(cells[0]), metrics) for cells in kept.values()]
    first = min(finished, key=lambda run: run.digest)
    ranked = _ranked(made, headline, second)
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
        second_floor=None if second is None else _floor(finished, second),
    )


def _floor(runs: Iterable[Run], name: str) -> float | None:
    floors = sorted(f for run in runs if (f := run.scores.get(f"{name} floor")) is not None)
    return floors[len(floors) // 2] if floors else None


def _values(row: LeaderboardRow, name: str | None) -> dict[int, float]:
    return {run.seed: v for run in row.runs if name and (v := run.scores.get(name)) is not None}


def _version(cell: ResultKey) -> tuple[str, ...]:
    return cell.model, cell.package, cell.version


def _find_row(failure: FailedResult, rows: Mapping[str, ResultKey]) -> str:
    # What broke at once may know the options that it was given, and not yet those that it took from the defaults.
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


def _ranked(rows: Sequence[LeaderboardRow], headline: str, second: str | None) -> list[LeaderboardRow]:
    def by_name(row: LeaderboardRow) -> tuple[Any, ...]:
        return row.model, row.package, row.version, row.cell.row_key

    counted = [row for row in rows if row.headline is not None and row.failed * 2 <= row.seeds]
    unusual = [row.collapsed[0] > 0 for row in counted]
    spans = place([_values(row, headline) for row in counted], unusual, [row.headline for row in counted])
    placed = [attrs.evolve(row, rank=a, last_rank=b) for row, (a, b) in zip(counted, spans, strict=True)]
    if second is not None and all(second in row.metrics for row in placed):
        others = place([_values(row, second) for row in placed], unusual, [row.metrics[second] for row in placed])
        placed = [attrs.evolve(row, second_rank=span) for row, span in zip(placed, others, strict=True)]
    placed.sort(key=lambda row: (row.headline.mean if row.headline else 0.0, by_name(row)))
    unplaced = [row for row in rows if row.headline is None or row.failed * 2 > row.seeds]
    unplaced.sort(key=lambda row: (row.headline is None, row.headline.mean if row.headline else 0.0, by_name(row)))
    return [*placed, *unplaced]


def _names(runs: Iterable[Run], headline: str) -> list[str]:
    found = {name for run in runs for name in run.scores if shown(name, run.headline)}
    usual: dict[str, int] = {}
    # The order in which results write them; where two results disagree, the smaller place counts, then the name.
    for run in runs:
        for position, name in enumerate(run.scores):
            usual[name] = min(position, usual.get(name, position))
    return sorted(found, key=lambda name: (name != headline, usual[name], name))


def _most_common(names: Iterable[str]) -> str:
    counts = collections.Counter(names)
    return min(counts, key=lambda name: (-counts[name], name))


def _tell_apart(groups: Sequence[LeaderboardGroup]) -> list[LeaderboardGroup]:
    first: dict[str, LeaderboardGroup] = {}
    told = []
    for group in groups:
        against = first.setdefault(group.dataset, group)
        if against is not group:
            lines = [*group.training.explain(against.training), *group.protocol.explain(against.protocol)]
            group = attrs.evolve(group, apart=(against.id, lines))
        told.append(group)
    return told
