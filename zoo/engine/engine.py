"""The training step of any game, and its state for checkpoints."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from zoo.accelerators import accelerate, restore
from zoo.engine.batch_stream import BatchStream
from zoo.engine.compiled import CompiledGradients
from zoo.engine.cuda_graph import CudaRecorder, GraphedStep
from zoo.engine.ema import WeightEMA
from zoo.engine.turn_step import TurnStep
from zoo.errors import DivergedError, ZooError
from zoo.game import Turn
from zoo.interfaces import Networks, Objective
from zoo.optimizers import Optimization

__all__ = ["Engine"]


class Engine:
    """Trains the networks of a model.

    Args:
        objective: the model.
        networks: networks of the model, on the stream's device.
        stream: training images.
        precision: ``fp32``, or ``bf16`` for networks under autocast.
        steps: steps of the run, for schedules of learning rates and weights; None keeps the initial learning rates and
            the final weights.
        optimization: settings of the run that replace or extend the model's optimization.
        compile: compile each turn's terms and gradients; eager if that fails.
        graphs: on CUDA with one process, capture steps as CUDA graphs; eager if that fails.
        kernels: names of CPU kernels to use in place of torch's; None for those of a rule, see `zoo.accelerators`.
    """

    def __init__(
        self,
        objective: Objective,
        networks: Networks,
        stream: BatchStream,
        precision: str = "fp32",
        steps: int | None = None,
        *,
        optimization: Optimization | None = None,
        compile: bool = False,
        graphs: bool = True,
        kernels: Collection[str] | None = None,
    ) -> None:
        self.objective, self.networks, self.stream = objective, networks, stream
        self.ranks = stream.ranks
        self.step_count, self.steps = 0, steps
        self._steps_since_read = 0
        bf16 = precision == "bf16"
        self.accelerated_layers = accelerate(networks, stream.device, bf16=bf16, kernels=kernels)
        """Layers with faster kernels than torch's until :meth:`finish`: their number by class."""
        optimization = optimization or Optimization()
        source = stream.labeled() if objective.conditional else stream
        self.turn_steps = _turn_steps(objective, networks, source, bf16, optimization)
        self.batches_per_step = max(turn_step.turn.repeat for turn_step in self.turn_steps)
        self._plans: dict[tuple[TurnStep, ...], _Plan] = {}
        """Steps by the turns that run in them."""
        self.ema = WeightEMA(networks, optimization.ema_decay) if optimization.ema_decay is not None else None
        self._compiled = [CompiledGradients(turn_step) for turn_step in self.turn_steps] if compile else []
        for turn_step, compiled in zip(self.turn_steps, self._compiled, strict=False):
            turn_step.gradient_function = compiled
        captured = graphs and stream.device.type == "cuda" and self.ranks.size == 1
        self._recorder = CudaRecorder(stream.device) if captured else None

    def _plan(self) -> _Plan:
        """Plan of the next step."""
        due = tuple(t for t in self.turn_steps if self.step_count % t.turn.every == 0)
        if due not in self._plans:
            plan = _Plan(due)
            if self._recorder is not None:
                plan.graph = GraphedStep(functools.partial(self._run_turns, plan), self._recorder)
            self._plans[due] = plan
        return self._plans[due]

    def step(self) -> None:
        """Run the turns that are due (``repeat`` times) on fresh batches. Does not sync with the host."""
        if self.steps:
            progress = self.step_count / self.steps
            self.networks.progress.fill_(progress)
            for turn_step in self.turn_steps:
                turn_step.set_learning_rates(progress)
                turn_step.set_weights(progress)
        position = self.step_count * self.batches_per_step
        plan = self._plan()
        fetched = [stream.fetch(position + i) for stream, i in plan.batches]
        if plan.graph is None:
            self._run_turns(plan, fetched)
        else:
            plan.graph(fetched)
            if plan.graph.recorded:
                plan.point_to_gradients()
        self.step_count += 1
        self._steps_since_read += 1

    def _run_turns(self, plan: _Plan, fetched: Sequence[Sequence[Tensor]]) -> None:
        """The part of a step that a CUDA graph captures: it reads the host's memory nowhere."""
        batches = [stream.load(tensors) for (stream, _), tensors in zip(plan.batches, fetched, strict=True)]
        for turn_step, i in plan.schedule:
            turn_step.step(*batches[i])
        if self.ema is not None:
            self.ema.update()

    def finish(self) -> None:
        """End training: give accelerated layers torch's kernels back, and set the progress to 1."""
        restore(self.networks)
        self.networks.progress.fill_(1.0)

    @property
    def _graphs(self) -> list[GraphedStep]:
        return [plan.graph for plan in self._plans.values() if plan.graph is not None]

    @property
    def images_per_step(self) -> int:
        """Training images per step."""
        return self.batches_per_step * self.stream.batch

    @property
    def images_seen(self) -> int:
        """Training images seen so far."""
        return self.step_count * self.images_per_step

    @property
    def mode(self) -> str:
        """How a step runs: ``eager``, ``compiled``, ``graph``, or ``compiled graph``."""
        compiled = bool(self._compiled) and not any(c.reason for c in self._compiled)
        words = ["compiled"] * compiled + ["graph"] * any(graph.recorded for graph in self._graphs)
        return " ".join(words) or "eager"

    @property
    def fallbacks(self) -> dict[str, str]:
        """Settings without effect (``compile``, ``graphs``), each with its reason."""
        reasons = {"compile": next((c.reason for c in self._compiled if c.reason), "")}
        reasons["graphs"] = next((graph.reason for graph in self._graphs if graph.reason), "")
        return {setting: reason for setting, reason in reasons.items() if reason}

    def step_turn(self, index: int, *batch: Tensor) -> None:
        """Run one turn, by its index among the model's turns, on a batch: x, and y if the turn has labels."""
        self.turn_steps[index].step(*batch)

    def first_batch(self, turn: Turn) -> tuple[Tensor, ...]:
        """Batch of the first step for a turn: (x,), or (x, y) if the turn has labels."""
        return self._turn_step(turn).batch(0)

    def terms(self, turn: Turn, *batch: Tensor) -> Mapping[str, Tensor]:
        """Terms of a turn for a batch, at the precision of the run."""
        return self._turn_step(turn).terms(*batch)

    def _turn_step(self, turn: Turn) -> TurnStep:
        # By name: a model's turns() returns new objects at each call.
        return next(turn_step for turn_step in self.turn_steps if turn_step.turn.name == turn.name)

    def read_terms(self) -> dict[str, float]:
        """Mean of each term since the last call, by name (``turn/term`` if there are several turns). Syncs.

        Raises:
            DivergedError: if a term is not finite.
        """
        means = self._term_means()
        for turn_step in self.turn_steps:
            if turn_step.term_sums is not None:
                turn_step.term_sums.zero_()
        self._steps_since_read = 0
        return means

    def check_finite(self) -> None:
        """Check that all terms since the last :meth:`read_terms` are finite. Syncs.

        Raises:
            DivergedError: if a term is not finite.
        """
        self._term_means()

    def _term_means(self) -> dict[str, float]:
        means: dict[str, float] = {}
        for turn_step in self.turn_steps:
            runs = self._runs_since_read(turn_step.turn)
            if turn_step.term_sums is None or not runs:
                continue
            values = turn_step.term_sums.div(runs).tolist()
            names = [self._prefix(turn_step) + name for name in turn_step.term_names]
            means |= dict(zip(names, values, strict=False))
        for name, value in means.items():
            if not math.isfinite(value):
                raise DivergedError(f"term {name!r}", f"{value} by step {self.step_count}", self.step_count)
        return means

    def _runs_since_read(self, turn: Turn) -> int:
        """Number of runs of a turn since the last :meth:`read_terms`."""
        first, n = self.step_count - self._steps_since_read, turn.every
        return turn.repeat * ((self.step_count + n - 1) // n - (first + n - 1) // n)

    def _prefix(self, turn_step: TurnStep) -> str:
        return f"{turn_step.turn.name}/" if len(self.turn_steps) > 1 else ""

    def gradient_norms(self) -> dict[str, float]:
        """Norms of the last gradients, before clipping, by ``grad/`` and the names of the networks. Syncs."""
        return {
            f"grad/{self._prefix(turn_step)}{names}": norm
            for turn_step in self.turn_steps
            for names, norm in turn_step.gradient_norms().items()
        }

    def state(self, *, copy: bool = True) -> dict[str, Tensor]:
        """Networks, their average, optimizers, sums of terms and random state, as tensors on the CPU by name.

        Args:
            copy: Whether the tensors keep their values while training continues; False takes no memory on the CPU.
        """
        flat: dict[str, Tensor] = {f"net/{k}": v for k, v in self.networks.state_dict().items()}
        if self.ema is not None:
            flat |= {f"ema/{k}": v for k, v in self.ema.state().items()}
        for i, turn_step in enumerate(self.turn_steps):
            owned = turn_step.optimizers if turn_step.owns_optimizers else {}
            for names, optimizer in owned.items():
                flat |= {f"update/{i}/{names}/{k}": v for k, v in optimizer.state().items()}
            if turn_step.term_sums is not None:
                flat[f"sum/{i}"] = turn_step.term_sums
            if turn_step.term_names and any(t.turn.every > 1 for t in self.turn_steps):
                # The next line of metrics may come before the next run of the turn, which would give the names.
                text = "\n".join(turn_step.term_names).encode()
                flat[f"names/{i}"] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        flat["position"] = torch.tensor([self.step_count, self._steps_since_read])
        # Each process draws its own noise. The main process's state has no number.
        for rank, state in enumerate(self._gather_states(torch.get_rng_state())):
            flat[f"rng/cpu/{rank}" if rank else "rng/cpu"] = state
        if self.stream.device.type == "cuda":
            for rank, state in enumerate(self._gather_states(torch.cuda.get_rng_state(self.stream.device))):
                flat[f"rng/cuda/{rank}" if rank else "rng/cuda"] = state
        return {k: v.detach().to("cpu", copy=copy).contiguous() for k, v in flat.items()}

    def load_state(self, flat: Mapping[str, Tensor]) -> None:
        """Load tensors from :meth:`state`; training continues to the same bits.

        Raises:
            ZooError: if the state is of fewer processes, or has no average of the weights though this run keeps one.
        """
        self._plans.clear()  # tensors have new memory addresses
        self.networks.load_state_dict(_without_prefix(flat, "net/"))
        if self.ema is not None:
            if not (average := _without_prefix(flat, "ema/")):
                raise ZooError(
                    "the checkpoint has no average of the weights; resume without --ema-decay, or start a new run"
                )
            self.ema.load_state(average)
        for i, turn_step in enumerate(self.turn_steps):
            owned = turn_step.optimizers if turn_step.owns_optimizers else {}
            for names, optimizer in owned.items():
                optimizer.load_state(_without_prefix(flat, f"update/{i}/{names}/"))
            sums = flat.get(f"sum/{i}")
            turn_step.term_sums = None if sums is None else sums.to(self.stream.device, copy=True)
            if f"names/{i}" in flat:
                turn_step.term_names = tuple(bytes(flat[f"names/{i}"].tolist()).decode().split("\n"))
        self.step_count, self._steps_since_read = (int(v) for v in flat["position"])
        suffix = f"/{self.ranks.rank}" if self.ranks.rank else ""
        if f"rng/cpu{suffix}" not in flat:
            raise ZooError(f"the checkpoint is of fewer than {self.ranks.size} processes; resume with as many")
        torch.set_rng_state(flat[f"rng/cpu{suffix}"])
        if "rng/cuda" in flat and self.stream.device.type == "cuda":
            torch.cuda.set_rng_state(flat[f"rng/cuda{suffix}"], self.stream.device)

    def _gather_states(self, state: Tensor) -> list[Tensor]:
        if self.ranks.size == 1:
            return [state]
        # NCCL sends tensors on the GPU only.
        return [s.cpu() for s in self.ranks.all_gather(state.to(self.stream.device))]


class _Plan:
    """A step in which some of the turns run.

    Args:
        due: The turns that run, in the model's order.
    """

    def __init__(self, due: tuple[TurnStep, ...]) -> None:
        self.due = due
        self.batches: list[tuple[BatchStream, int]] = []
        """Batches of the step: stream and position in the step."""
        self.schedule: list[tuple[TurnStep, int]] = []
        """Turns in order, each with the index of its batch."""
        self.graph: GraphedStep | None = None
        self._gradients: list[Sequence[Tensor | None]] = []
        for turn_step in due:
            for i in range(turn_step.turn.repeat):
                batch = (turn_step.stream, i)  # turns with one stream share their batches
                if batch not in self.batches:
                    self.batches.append(batch)
                self.schedule.append((turn_step, self.batches.index(batch)))

    def point_to_gradients(self) -> None:
        """After a replay, have every turn's last gradients be those that this plan's graph writes."""
        if not self._gradients:  # of the capture, which has just been made
            self._gradients = [turn_step.last_gradients for turn_step in self.due]
        for turn_step, gradients in zip(self.due, self._gradients, strict=True):
            turn_step.last_gradients = gradients


def _turn_steps(
    objective: Objective, networks: Networks, stream: BatchStream, bf16: bool, optimization: Optimization
) -> list[TurnStep]:
    """Turns of a model with their optimizers, in the model's order."""
    given = objective.turns()
    turns = {turn.name: turn for turn in given}
    if len(turns) < len(names := [turn.name for turn in given]):
        name = next(name for name in names if names.count(name) > 1)
        raise ZooError(f"turns: {names.count(name)} are named {name!r}; give each a name of its own")
    built: dict[str, TurnStep] = {}
    for turn in sorted(turns.values(), key=lambda turn: turn.shares is not None):  # lenders first
        if turn.shares is not None and (turn.shares not in turns or turns[turn.shares].shares is not None):
            own = ", ".join(name for name, other in turns.items() if other.shares is None)
            raise ZooError(
                f"turn {turn.name!r}: shares={turn.shares!r} is no turn with optimizers of its own; those are {own}"
            )
        lender = built[turn.shares] if turn.shares is not None else None
        borrowers = [other for other in turns.values() if other.shares == turn.name]
        built[turn.name] = TurnStep(
            objective, turn, networks, stream, bf16, optimization, lender=lender, borrowers=borrowers
        )
    return [built[name] for name in turns]


def _without_prefix(flat: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in flat.items() if k.startswith(prefix)}
