"""One training step of any game, eager, compiled or as one CUDA graph; its state, to the bit, for a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from zoo.accelerators.cpu import accelerate, restore
from zoo.engine.compiled import Compiled
from zoo.engine.graphs import CudaRecorder, GraphedStep
from zoo.engine.stream import Stream
from zoo.engine.turn_step import TurnStep
from zoo.errors import ZooError
from zoo.game import Turn
from zoo.interfaces import Networks, Objective

__all__ = ["Engine"]


class Engine:
    """Trains networks by a model's game.

    Arguments:
        objective: the model.
        networks: its networks, already on the stream's device.
        stream: the training images.
        precision: ``fp32``, or ``bf16`` for autocast of the networks.
        steps: how many there will be, which schedules of the learning rate need; None where nobody knows: the rates
            then stay as they begin.
        compile: trace each turn's terms and gradients together and compile them; eager where that fails.
        graphs: on a GPU, capture the whole step as a CUDA graph; eager where that fails.
    """

    def __init__(
        self,
        objective: Objective,
        networks: Networks,
        stream: Stream,
        precision: str = "fp32",
        steps: int | None = None,
        *,
        compile: bool = False,
        graphs: bool = True,
    ) -> None:
        self.objective, self.networks, self.stream = objective, networks, stream
        self.step_count, self.steps = 0, steps
        self.accelerated: dict[str, int] = {}
        """Layers that compute through faster kernels than torch's own until :meth:`release`: how many, by class."""
        if stream.device.type == "cpu":
            # The CPU's convolutions are 4 to 21 % faster on channels that lie side by side; the mathematics stays.
            networks.to(memory_format=torch.channels_last)
            self.accelerated = accelerate(networks, bf16=precision == "bf16")
        self.ranks = stream.ranks
        self.plays = [TurnStep(objective, turn, networks, stream, precision == "bf16") for turn in objective.turns()]
        self._compiled = [Compiled(play) for play in self.plays] if compile else []
        for play, faster in zip(self.plays, self._compiled, strict=False):
            play.differentiate = faster
        names = [play.turn.name for play in self.plays]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ZooError(f"turns: {len(twice)} are named {twice[0]!r}; give each a name of its own")
        self.batches_per_step = max(play.turn.repeat for play in self.plays)
        self._draws, self._schedule = self._plan()
        self._counted = 0
        # With several processes the gradients' exchange lies inside the step, which is then not captured.
        captured = graphs and stream.device.type == "cuda" and self.ranks.size == 1
        self._graph = GraphedStep(self._whole, CudaRecorder(stream.device)) if captured else None

    def _plan(self) -> tuple[list[tuple[Stream, int]], list[tuple[TurnStep, int]]]:
        """The batches that a step draws (stream, offset), and who plays on which of them, in order."""
        draws: list[tuple[Stream, int]] = []
        schedule: list[tuple[TurnStep, int]] = []
        for play in self.plays:
            for i in range(play.turn.repeat):
                draw = (play.stream, i)
                if draw not in draws:
                    draws.append(draw)
                schedule.append((play, draws.index(draw)))
        return draws, schedule

    @property
    def images_seen(self) -> int:
        """Training images drawn so far."""
        return self.step_count * self.images_per_step

    @property
    def images_per_step(self) -> int:
        """Training images that one step draws."""
        return self.batches_per_step * self.stream.batch

    @property
    def mode(self) -> str:
        """How a step runs now: ``eager``, ``compiled``, ``graph``, or ``compiled graph``."""
        compiled = bool(self._compiled) and not any(c.reason for c in self._compiled)
        words = ["compiled"] * compiled + ["graph"] * (self._graph is not None and self._graph.recorded)
        return " ".join(words) or "eager"

    @property
    def fallbacks(self) -> dict[str, str]:
        """Where a step is slower than was asked for: ``compile`` or ``graphs`` and the reason."""
        reasons = {"compile": next((c.reason for c in self._compiled if c.reason), "")}
        reasons["graphs"] = self._graph.reason if self._graph else ""
        return {what: reason for what, reason in reasons.items() if reason}

    def release(self) -> None:
        """Training is over: the networks' layers are torch's own again, and compute what they will after loading."""
        restore(self.networks)

    def step(self) -> None:
        """Play every turn once (or its ``repeat``). Draws fresh batches; reads nothing back to the host."""
        if self.steps:
            for play in self.plays:
                for update in play.updates.values():
                    update.at(self.step_count / self.steps)
        first = self.step_count * self.batches_per_step
        places = [stream.places(first + offset) for stream, offset in self._draws]
        (self._graph or self._whole)(places)
        self.step_count += 1
        self._counted += 1

    def _whole(self, places: Sequence[Tensor]) -> None:
        drawn = [
            stream.batch_at(place, labels=stream is not self.stream)
            for (stream, _), place in zip(self._draws, places, strict=True)
        ]
        for play, which in self._schedule:
            play.play(*drawn[which])

    def play(self, index: int, *batch: Tensor) -> None:
        """Play one turn, by its place among the model's turns, on a batch: x, and y where the turn is labelled."""
        self.plays[index].play(*batch)

    def batch(self, turn: Turn) -> tuple[Tensor, ...]:
        """What the turn's terms take of the first step: x, or x and y."""
        return self._play_of(turn).batch(0)

    def terms(self, turn: Turn, *batch: Tensor) -> Mapping[str, Tensor]:
        """The turn's terms on a batch, under this engine's precision."""
        return self._play_of(turn).terms(*batch)

    def _play_of(self, turn: Turn) -> TurnStep:
        # By name: a model's turns() gives new turns at every call.
        return next(play for play in self.plays if play.turn.name == turn.name)

    def read(self) -> dict[str, float]:
        """Mean of each term since the last call, by name (``turn/term`` where there are several turns). Syncs.

        Raises:
            ZooError: when a term is not finite, with its name and the step.
        """
        means = self._means()
        for play in self.plays:
            if play.sums is not None:
                play.sums.zero_()
        self._counted = 0
        return means

    def check(self) -> None:
        """Raise a :class:`ZooError` when a term since the last :meth:`read` was not finite. Syncs."""
        self._means()

    def _means(self) -> dict[str, float]:
        means: dict[str, float] = {}
        for play in self.plays:
            if play.sums is None or not self._counted:
                continue
            values = play.sums.div(self._counted * play.turn.repeat).tolist()
            means |= {self._prefix(play) + name: value for name, value in zip(play.names, values, strict=False)}
        bad = [name for name, value in means.items() if not abs(value) < float("inf")]
        if bad:
            raise ZooError(
                f"diverged: term {bad[0]!r} is {means[bad[0]]} by step {self.step_count}; "
                "a lower --lr or another --norm is the usual remedy"
            )
        return means

    def _prefix(self, play: TurnStep) -> str:
        return f"{play.turn.name}/" if len(self.plays) > 1 else ""

    def gradient_norms(self) -> dict[str, float]:
        """Norm of the last gradient of each row's networks, by ``grad/`` and the networks' names. Syncs."""
        return {
            f"grad/{self._prefix(play)}{names}": norm
            for play in self.plays
            for names, norm in play.gradient_norms().items()
        }

    def state(self) -> dict[str, Tensor]:
        """Networks, optimizers, running sums and random state as flat tensors on the CPU, for a checkpoint."""
        flat: dict[str, Tensor] = {f"net/{k}": v for k, v in self.networks.state_dict().items()}
        for i, play in enumerate(self.plays):
            for key, update in play.updates.items():
                flat |= {f"update/{i}/{key}/{k}": v for k, v in update.state().items()}
            if play.sums is not None:
                flat[f"sum/{i}"] = play.sums
        flat["position"] = torch.tensor([self.step_count, self._counted])
        # Each process draws its own noise; those beside the first have their states beside the first's.
        for i, state in enumerate(self._gathered(torch.get_rng_state())):
            flat[f"rng/cpu/{i}" if i else "rng/cpu"] = state
        if self.stream.device.type == "cuda":
            for i, state in enumerate(self._gathered(torch.cuda.get_rng_state(self.stream.device))):
                flat[f"rng/cuda/{i}" if i else "rng/cuda"] = state
        return {k: v.detach().to("cpu", copy=True).contiguous() for k, v in flat.items()}

    def load_state(self, flat: Mapping[str, Tensor]) -> None:
        """Take up a :meth:`state`: training then goes on to the same bits."""
        if self._graph:
            self._graph.forget()
        self.networks.load_state_dict({k[4:]: v for k, v in flat.items() if k.startswith("net/")})
        for i, play in enumerate(self.plays):
            for key, update in play.updates.items():
                prefix = f"update/{i}/{key}/"
                update.load_state({k[len(prefix) :]: v for k, v in flat.items() if k.startswith(prefix)})
            play.sums = flat[f"sum/{i}"].to(self.stream.device, copy=True) if f"sum/{i}" in flat else None
        self.step_count, self._counted = (int(v) for v in flat["position"])
        mine = f"/{self.ranks.rank}" if self.ranks.rank else ""
        if f"rng/cpu{mine}" not in flat:
            raise ZooError(f"the checkpoint is of fewer than {self.ranks.size} processes; resume with as many")
        torch.set_rng_state(flat[f"rng/cpu{mine}"])
        if "rng/cuda" in flat and self.stream.device.type == "cuda":
            torch.cuda.set_rng_state(flat[f"rng/cuda{mine}"], self.stream.device)

    def _gathered(self, state: Tensor) -> list[Tensor]:
        # NCCL moves only what lies on its GPU.
        return [s.cpu() for s in self.ranks.gather(state.to(self.stream.device))] if self.ranks.size > 1 else [state]
