"""Health monitoring of a run: probes the networks at some of the logged steps, and writes ``health.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.callbacks import Callback
from zoo.engine import Engine
from zoo.errors import DivergedError, ZooError
from zoo.health import Finding, HealthMonitor, Probe, probe_steps
from zoo.run.run_folder import RunFolder

__all__ = ["RunHealth"]


class RunHealth:
    """Health of one run, in its main process. What a resumed run finds is what it would have found uninterrupted.

    Args:
        folder: The run folder, open.
        engine: The engine, at the step from which the run starts or resumes.
        callback: Its ``note`` gets every new finding.
        steps: Number of steps of the run.
        every: Number of steps per logged line.
        stop_on: Kinds of findings that end the run.
    """

    def __init__(
        self, folder: RunFolder, engine: Engine, callback: Callback, steps: int, every: int, stop_on: frozenset[str]
    ) -> None:
        self._folder, self._callback, self._stop_on = folder, callback, stop_on
        self._monitor = HealthMonitor(steps)
        self._moments = probe_steps(steps, every)
        self._probe: Probe | None = None
        if self._moments:
            self._guarded(lambda: self._make_probe(engine))
        self._restore(engine.step_count)

    def _make_probe(self, engine: Engine) -> None:
        self._probe = Probe(engine)

    @property
    def stop(self) -> Finding | None:
        """The finding that ends the run; None without one."""
        return next((f for f in self._monitor.findings if f.kind in self._stop_on and not f.ended), None)

    def summary(self) -> dict[str, Any]:
        """Number of probes and the findings, for ``result.json``."""
        table = self._monitor.to_dict()
        return {"probes": len(table["probes"]), "findings": table["findings"]}

    def logged(self, step: int, gradients: Mapping[str, float], *, quiet: bool) -> None:
        """Check the gradient norms of a logged step and, at some steps, the networks.

        Args:
            step: Number of steps so far.
            gradients: Norm of the last gradient of each player.
            quiet: Do not call back.
        """
        new = self._monitor.add_gradients(step, gradients)
        if step in self._moments:
            new += self._measure(step)
        if new or step in self._moments:
            self._folder.save_health(self._monitor.to_dict())
        for finding in new if not quiet else ():
            self._callback.note(str(finding))

    def diverged(self, error: DivergedError) -> None:
        """Record that a term or a weight is not finite."""
        self._monitor.add_divergence(error.step, error.subject, error.evidence)
        self._folder.save_health(self._monitor.to_dict())

    def _measure(self, step: int) -> Sequence[Finding]:
        found: list[Finding] = []
        if (probe := self._probe) is not None:
            self._guarded(lambda: found.extend(self._monitor.add_measurements(probe.measure(step))))
        return found

    def _guarded(self, work: Any) -> None:
        # A model's code runs outside of a training step here, and may fail where the step does not.
        try:
            work()
        except Exception as error:
            self._probe = None
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            self._callback.note(f"health is not measured further: {reason}")

    def _restore(self, step: int) -> None:
        """Repeat the checks of the steps before a resumed run; the run itself repeats later ones."""
        there = self._folder.health.is_file()
        if not step:
            self._folder.health.unlink(missing_ok=True)
            return
        try:
            measured = {found.step: found for found in self._folder.load_health()}
        except ZooError as error:
            self._callback.note(f"{error}; its measurements are lost")
            measured = {}
        for line in self._folder.logged():
            self._monitor.add_gradients(line["step"], line["gradients"])
            if found := measured.get(line["step"]):
                self._monitor.add_measurements(found)
        if there:
            self._folder.save_health(self._monitor.to_dict())
