"""A study: trials of equal budget, each a run folder, scored on held-out training images; resumable."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import tomli_w
from filelock import FileLock, Timeout

from zoo import options
from zoo.callbacks import Callback
from zoo.errors import UsageError, ZooError, unknown_name
from zoo.files import refuse_special, write_atomically
from zoo.metrics.score_lookup import stored_infos
from zoo.reading import read_toml
from zoo.registry import registry
from zoo.run.resolve import resolve
from zoo.run.run_folder import RunFolder
from zoo.run.settings import RunSettings
from zoo.run.train import train
from zoo.tune.search_space import Dimension, parse_space

if TYPE_CHECKING:
    import optuna

__all__ = ["Study", "TrialRow", "plan_study"]

VALIDATION = 0.1
"""Default fraction of the training images that trials are scored on."""
_MAX_FAILED = 3
_FILES = ("study.toml", "journal.log", "trials.csv", "best.toml", ".lock")


@attrs.frozen
class TrialRow:
    """A finished trial.

    Args:
        number: Its number, from 0.
        values: Values of the searched options.
        score: The score; None if the run failed.
        reason: Why the run failed; empty if it did not.
    """

    number: int
    values: Mapping[str, Any]
    score: float | None
    reason: str = ""


@attrs.frozen
class Study:
    """Search for options in trials, which :meth:`run` trains.

    Args:
        settings: Settings that all trials share.
        space: The searched options.
        score: Name of the score; empty for the first one, the ranking score.
        folder: The folder of the study.
    """

    settings: RunSettings
    space: tuple[Dimension, ...]
    score: str
    folder: Path

    def run(
        self,
        trials: int,
        *,
        resume: bool = False,
        report: Callable[[TrialRow], None] = lambda _: None,
        callbacks: Sequence[Callback] = (),
    ) -> list[TrialRow]:
        """Run trials until there are ``trials`` finished ones, failed ones included.

        Writes ``trials.csv`` and ``best.toml``, the settings of the best trial for ``zoo run --config``, after each.

        Args:
            trials: Number of trials.
            resume: Continue the study in the folder; an interrupted trial is resumed.
            report: Called with each finished trial.
            callbacks: Callbacks of every run.

        Returns:
            All trials, the best first, failed ones last.

        Raises:
            UsageError: If the folder holds another study, or one while ``resume`` is False.
            ZooError: If the first three trials fail.
        """
        optuna = _library()
        lock = self._open(resume)
        try:
            optuna.logging.set_verbosity(optuna.logging.ERROR)
            logging.getLogger("optuna").setLevel(logging.ERROR)
            storage = optuna.storages.JournalStorage(
                optuna.storages.journal.JournalFileBackend(str(self.folder / "journal.log"))
            )
            study = optuna.create_study(storage=storage, study_name="zoo", direction="minimize", load_if_exists=True)
            for number, values in self._ask(study, trials):
                row = self._try(number, values, callbacks)
                self._tell(study, row)
                rows = self._write(study)
                report(row)
                if len(rows) >= min(trials, _MAX_FAILED) and rows[0].score is None:
                    raise ZooError(f"no trial of {self.folder} succeeded; the last one: {row.reason}")
            return self._write(study)
        finally:
            lock.release()

    def _open(self, resume: bool) -> FileLock:
        plan = {
            "search": [str(dimension) for dimension in self.space],
            "score": self.score,
            "settings": self.settings.to_table(),
        }
        stored = self.folder / "study.toml"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in _FILES:
                refuse_special(self.folder / name)
            lock = FileLock(self.folder / ".lock")
            lock.acquire(timeout=0)
        except Timeout:
            raise ZooError(f"{self.folder} is in use: another process is working on this study") from None
        except OSError as error:
            raise UsageError(f"out: cannot write to {self.folder}: {error.strerror or error}") from None
        try:
            if stored.is_file():
                if not resume:
                    raise UsageError(
                        f"out: {self.folder} holds a study; --resume continues it, --out DIR begins another"
                    )
                there = read_toml(stored, "study")
                changed = [name for name in plan if there.get(name) != plan[name]]
                if changed:
                    raise UsageError(
                        f"resume: {self.folder} was begun with another {' and '.join(changed)}; "
                        "give the same arguments, or another --out"
                    )
            elif any(path.name != ".lock" for path in self.folder.iterdir()):
                raise UsageError(f"out: {self.folder} is not empty and not a study; choose another --out")
            else:
                write_atomically(stored, tomli_w.dumps(plan).encode())
        except BaseException:
            lock.release()
            raise
        return lock

    def _ask(self, study: optuna.Study, trials: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Number and values of the next trial, an interrupted one first."""
        optuna = _library()
        names = {dimension.name for dimension in self.space}
        distributions = {dimension.name: dimension.distribution() for dimension in self.space}
        for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            if set(trial.params) == names:
                yield trial.number, dict(trial.params)
            else:  # killed while its values were drawn
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        while sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False)) < trials:
            # A sampler per trial: a resumed study draws what an uninterrupted one would have drawn.
            seed = self.settings.seed + len(study.get_trials(deepcopy=False))
            study.sampler = optuna.samplers.TPESampler(seed=seed % 2**32)
            asked = study.ask(fixed_distributions=distributions)
            yield asked.number, dict(asked.params)

    def _try(self, number: int, values: Mapping[str, Any], callbacks: Sequence[Callback]) -> TrialRow:
        folder = RunFolder(self.folder / f"trial-{number:04}")
        settings = apply(self.settings, values)
        try:
            given = {**options.option_values(settings), **settings.options}
            train(settings.model, out=folder.path, resume=True, callbacks=callbacks, **given)
            result = folder.load_result()
        except ZooError as error:
            return TrialRow(number, values, None, str(error))
        except (RuntimeError, MemoryError) as error:  # such as too little memory on a device
            return TrialRow(number, values, None, f"{type(error).__name__}: {error}")
        name = self.score or next(iter(result["scores"]))
        if name not in result["scores"]:
            raise unknown_name("score", name, result["scores"])
        return TrialRow(
            number, values, result["scores"][name], "" if result["scores"][name] is not None else "no score"
        )

    def _tell(self, study: optuna.Study, row: TrialRow) -> None:
        optuna = _library()
        if row.score is None:
            study.tell(row.number, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(row.number, self._sign(row.number) * row.score)

    def _sign(self, number: int) -> int:
        """1 for a score to minimize, −1 for one to maximize."""
        result = RunFolder(self.folder / f"trial-{number:04}").load_result()
        name = self.score or next(iter(result["scores"]))
        better = stored_infos([name], result["score_info"])[name].better
        if better == "neither":
            raise UsageError(f"score: {name} is neither better lower nor better higher; choose another --score")
        return 1 if better == "lower" else -1

    def _write(self, study: optuna.Study) -> list[TrialRow]:
        found = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
        done = [(trial.value, trial.number, trial.params) for trial in found if trial.value is not None]
        rows = [
            TrialRow(number, values, self._sign(number) * value)
            for value, number, values in sorted(done, key=lambda entry: entry[:2])
        ]
        rows += [TrialRow(t.number, t.params, None, "failed") for t in found if t.value is None]
        buffer = io.StringIO()
        table = csv.writer(buffer)
        names = [dimension.name for dimension in self.space]
        table.writerow(["trial", "score", *names, "folder"])
        for row in rows:
            score = "" if row.score is None else row.score
            table.writerow([row.number, score, *(row.values.get(n, "") for n in names), f"trial-{row.number:04}"])
        write_atomically(self.folder / "trials.csv", buffer.getvalue().encode())
        if done:
            best = attrs.evolve(apply(self.settings, rows[0].values), validation=None)
            write_atomically(self.folder / "best.toml", best.to_toml().encode())
        return rows


def plan_study(
    model: str | None,
    *,
    search: Sequence[str] = (),
    score: str = "",
    config: str | Path | None = None,
    out: str | Path | None = None,
    **given: Any,
) -> Study:
    """Resolve the settings and the search space of a study; nothing is written.

    Args:
        model: Name of a registered model; None if ``config`` names it.
        search: Searched options, see :func:`parse_search`; by default those of :func:`default_space`.
        score: Name of the score to optimize; the ranking score of the run by default.
        config: A ``config.toml`` with settings that all trials share.
        out: Folder of the study; ``runs/tune-MODEL-DATASET`` by default.
        given: Settings that all trials share. ``validation`` is 0.1 by default.

    Raises:
        UsageError: If a setting or an option to search is not allowed, or Optuna is not installed.
    """
    _library()
    unused = Path(out or "runs") / ".unused"  # the folders of the trials have settings of their own
    settings = resolve(model, given, config=config, preset=None, out=unused, resume=False).settings
    if settings.extractor == "none":
        raise UsageError("extractor: 'none' is not allowed; trials are compared by their scores")
    if settings.validation is None:
        settings = attrs.evolve(settings, validation=VALIDATION)
    default = settings.default_folder()
    folder = default.with_name(f"tune-{default.name}") if out is None else Path(out)
    space = parse_space(search, registry().model(settings.model))
    for dimension in space:
        if dimension.name in given:
            raise UsageError(f"search: {dimension.name} is also set for all trials; omit one of the two")
    return Study(settings, space, score, folder)


def apply(settings: RunSettings, values: Mapping[str, Any]) -> RunSettings:
    """The settings with the values of a trial.

    Raises:
        UsageError: If a value is not allowed together with another.
    """
    own = {name: value for name, value in values.items() if name in options.get_options(RunSettings)}
    rest = {name: value for name, value in values.items() if name not in own}
    return attrs.evolve(settings, **own, options={**settings.options, **rest})


def _library() -> Any:
    try:
        import optuna
    except ImportError:
        raise UsageError("tune: needs Optuna; pip install 'latent-zoo[tune]'") from None
    return optuna
