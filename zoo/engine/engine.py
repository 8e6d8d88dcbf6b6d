"""The training step of any game, and its state for checkpoints."""

from __future__ import annotations

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
        steps: steps of the run, for learning-rate schedules; None keeps the initial learning rates.
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
        self.turn_steps = [TurnStep(objective, t, networks, stream, bf16, optimization) for t in objective.turns()]
        names = [turn_step.turn.name for turn_step in self.turn_steps]
        if duplicates := [name for name in names if names.count(name) > 1]:
            raise ZooError(f"turns: {len(duplicates)} are named {duplicates[0]!r}; give each a name of its own")
        self.batches_per_step = max(turn_step.turn.repeat for turn_step in self.turn_steps)
        self._batches, self._schedule = self._plan_step()
        self.ema = WeightEMA(networks, optimization.ema_decay) if optimization.ema_decay is not None else None
        self._compiled = [CompiledGradients(turn_step) for turn_step in self.turn_steps] if compile else []
        for turn_step, compiled in zip(self.turn_steps, self._compiled, strict=False):
            turn_step.gradient_function = compiled
        captured = graphs and stream.device.type == "cuda" and self.ranks.size == 1
        self._graph = GraphedStep(self._run_step, CudaRecorder(stream.device)) if captured else None

    def _plan_step(self) -> tuple[list[tuple[BatchStream, int]], list[tuple[TurnStep, int]]]:
        """Batches of a step, as (stream, position in the step); and turns in order, each with its batch's index."""
        batches: list[tuple[BatchStream, int]] = []
        schedule: list[tuple[TurnStep, int]] = []
        for turn_step in self.turn_steps:
            for i in range(turn_step.turn.repeat):
                batch = (turn_step.stream, i)  # turns with one stream share their batches
                if batch not in batches:
                    batches.append(batch)
                schedule.append((turn_step, batches.index(batch)))
        return batches, schedule

    def step(self) -> None:
        """Run every turn (``repeat`` times) on fresh batches. Does not sync with the host."""
        if self.steps:
            for turn_step in self.turn_steps:
                turn_step.set_learning_rates(self.step_count / self.steps)
        position = self.step_count * self.batches_per_step
        fetched = [stream.fetch(position + i) for stream, i in self._batches]
        (self._graph or self._run_step)(fetched)
        self.step_count += 1
        self._steps_since_read += 1

    def _run_step(self, fetched: Sequence[Sequence[Tensor]]) -> None:
        """The part of a step that a CUDA graph captures: it reads the host's memory nowhere."""
        batches = [stream.load(tensors) for (stream, _), tensors in zip(self._batches, fetched, strict=True)]
        for turn_step, i in self._schedule:
            turn_step.step(*batches[i])
        if self.ema is not None:
            self.ema.update()

    def finish(self) -> None:
        """End training: give accelerated layers torch's kernels back."""
        restore(self.networks)

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
        words = ["compiled"] * compiled + ["graph"] * (self._graph is not None and self._graph.recorded)
        return " ".join(words) or "eager"

    @property
    def fallbacks(self) -> dict[str, str]:
        """Settings without effect (``compile``, ``graphs``), each with its reason."""
        reasons = {"compile": next((c.reason for c in self._compiled if c.reason), "")}
        reasons["graphs"] = self._graph.reason if self._graph else ""
        return {setting: reason for setting, reason in reasons.items() if reason}

    def step_turn(self, index: int, *batch: Tensor) -> None:
        """Run one turn, by its index among the model's turns, on a batch: x, and y if the turn has labeled images."""
        self.turn_steps[index].step(*batch)

    def first_batch(self, turn: Turn) -> tuple[Tensor, ...]:
        """Batch of the first step for a turn: (x,), or (x, y) if the turn has labeled images."""
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
            if turn_step.term_sums is None or not self._steps_since_read:
                continue
            values = turn_step.term_sums.div(self._steps_since_read * turn_step.turn.repeat).tolist()
            names = [self._prefix(turn_step) + name for name in turn_step.term_names]
            means |= dict(zip(names, values, strict=False))
        for name, value in means.items():
            if not math.isfinite(value):
                raise DivergedError(f"term {name!r}", f"{value} by step {self.step_count}", self.step_count)
        return means

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
            for names, optimizer in turn_step.optimizers.items():
                flat |= {f"update/{i}/{names}/{k}": v for k, v in optimizer.state().items()}
            if turn_step.term_sums is not None:
                flat[f"sum/{i}"] = turn_step.term_sums
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
        if self._graph:
            self._graph.reset()
        self.networks.load_state_dict(_without_prefix(flat, "net/"))
        if self.ema is not None:
            if not (average := _without_prefix(flat, "ema/")):
                raise ZooError(
                    "the checkpoint has no average of the weights; resume without --ema-decay, or start a new run"
                )
            self.ema.load_state(average)
        for i, turn_step in enumerate(self.turn_steps):
            for names, optimizer in turn_step.optimizers.items():
                optimizer.load_state(_without_prefix(flat, f"update/{i}/{names}/"))
            sums = flat.get(f"sum/{i}")
            turn_step.term_sums = None if sums is None else sums.to(self.stream.device, copy=True)
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


def _without_prefix(flat: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in flat.items() if k.startswith(prefix)}
