"""The four interfaces of the zoo: Encoder, Decoder, Critic, Objective; and its two abilities, to sample and to encode.

A model is an :class:`Objective`: its settings, its networks and its game. It holds no weights; the networks do.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, final

import torch
from torch import Tensor, nn

from zoo.data.spec import DataSpec
from zoo.distributions import Likelihood, Posterior
from zoo.errors import UnsupportedError
from zoo.game import Players, Turn
from zoo.optimizers import Adam, Optimizer
from zoo.options import above, at_least, between, frozen, option, registered
from zoo.preset import Preset

__all__ = [
    "Autoencoder",
    "Critic",
    "CriticOutput",
    "Decoder",
    "Encoder",
    "Family",
    "Generator",
    "Networks",
    "Objective",
]


class Encoder(nn.Module, abc.ABC):
    """Maps images x (B, C, H, W) in [−1, 1] to a posterior over codes z (B, d)."""

    @abc.abstractmethod
    def forward(self, x: Tensor) -> Posterior:
        """The posterior q(z | x)."""


class Decoder(nn.Module, abc.ABC):
    """Maps codes z (B, d) to a likelihood of x, or, where the model has no density, straight to images."""

    @abc.abstractmethod
    def forward(self, z: Tensor) -> Tensor | Likelihood:
        """Images (B, C, H, W) in [−1, 1], or a likelihood whose mean is such images."""

    @final
    def image(self, z: Tensor) -> Tensor:
        """The mean image of z (B, d): (B, C, H, W) in [−1, 1]."""
        out = self(z)
        return out.mean if isinstance(out, Likelihood) else out


class CriticOutput(NamedTuple):
    """What a critic says of a batch: logits (B,), never probabilities, and the features of its tapped stage."""

    logits: Tensor
    features: Tensor


class Critic(nn.Module, abc.ABC):
    """Judges images, codes, or pairs of both."""

    inputs: Literal["x", "z", "xz"] = "x"
    """Inputs of ``forward``: ``forward(x)``, ``forward(z)`` or ``forward(x, z)``."""

    @abc.abstractmethod
    def forward(self, *seen: Tensor) -> CriticOutput:
        """The verdict on a batch; a high logit says «real» (x), «prior» (z) or «from the encoder» (x, z)."""


@final
class Networks(nn.Module):
    """A model's networks by name: ``net.encoder``, ``net.decoder``, …"""

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name, network in networks.items():
            self.add_module(name, network)

    def names(self) -> tuple[str, ...]:
        """The networks' names, in the model's order."""
        return tuple(self._modules)

    def __getitem__(self, name: str) -> nn.Module:
        return self.get_submodule(name)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


@frozen
class Objective(abc.ABC):
    """A model: settings (its attrs fields), networks, and the game among them.

    A subclass is decorated with :func:`zoo.frozen` and defines ``networks`` and either ``players`` and ``terms``
    (one simultaneous turn) or ``turns``.
    """

    paper: ClassVar[str] = ""
    """Authors, venue, arXiv number."""
    deviations: ClassVar[Mapping[str, str]] = {}
    """Where the defaults leave the paper: what → why."""
    presets: ClassVar[Mapping[str, Preset]] = {}
    """Settings by the name that ``--preset`` takes; ``paper`` is the main experiment of :attr:`paper`."""

    lr: float = option(2e-4, "Learning rate of Adam.", above(0))
    beta1: float = option(0.5, "Decay of Adam's first moment.", between(0, 1, inclusive="left"))

    @abc.abstractmethod
    def networks(self, data: DataSpec) -> Mapping[str, nn.Module]:
        """Fresh networks by name for a data set's shape."""

    def players(self) -> Players:
        """For each network, the terms it minimizes and their weights: the rows of the game table."""
        raise TypeError(f"{type(self).__name__} defines turns(), not players()")

    def terms(self, net: Networks, x: Tensor) -> Mapping[str, Tensor]:
        """The named scalar losses of a batch x (B, C, H, W) in [−1, 1]: the columns of the game table."""
        raise TypeError(f"{type(self).__name__} defines turns(), not terms()")

    def gate(self, terms: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """For some networks a boolean scalar on the device; False holds that network's update. None by default."""
        return {}

    def turns(self) -> tuple[Turn, ...]:
        """The turns of one training step; by default a single one in which all players move at once."""
        gated = type(self).gate is not Objective.gate
        return (Turn(self.players(), self.terms, gate=self.gate if gated else None),)

    def optimizer(self, network: str, turn: str) -> Optimizer:
        """The optimizer settings of one network in one turn."""
        return Adam(lr=self.lr, beta1=self.beta1)

    @classmethod
    def problem(cls) -> str | None:
        """Why this class cannot be used as a model, or None."""
        missing = sorted(getattr(cls, "__abstractmethods__", ()))
        if missing:
            return f"{cls.__name__} does not define {', '.join(missing)}"
        own_turns = cls.turns is not Objective.turns
        if not own_turns and (cls.players is Objective.players or cls.terms is Objective.terms):
            return f"{cls.__name__} defines neither players() and terms() nor turns()"
        decorated = "__attrs_attrs__" in cls.__dict__
        return None if decorated else f"{cls.__name__} is not decorated with @zoo.frozen"


@frozen
class Generator(Objective):
    """A model that can sample: it has a network ``decoder`` that maps codes to images."""

    latent: int = option(16, "Dimensions of the code z.", at_least(1))
    width: int = option(
        32, "Channels of the first stage, doubled at each next (conv); hidden units / 16 (mlp).", at_least(1)
    )
    family: str = option(
        "conv",
        "Networks: conv (strided convolutions), mlp (fully connected), or a paper's.",
        registered("family", "families"),
    )
    norm: Literal["batch", "group", "none"] = option("batch", "Normalization inside the networks.")

    @property
    def network_options(self) -> dict[str, Any]:
        """Options of the network builders: ``zoo.encoder(data, self.latent, **self.network_options)``."""
        return {"width": self.width, "family": self.family, "norm": self.norm}

    def prior(self, like: Tensor, n: int | None = None) -> Tensor:
        """Codes from the prior, (n, d), as many as ``like`` (B, …) has rows by default, on its device: N(0, I)."""
        return torch.randn(len(like) if n is None else n, self.latent, device=like.device)

    def sample(self, net: Networks, n: int) -> Tensor:
        """N new images, (n, C, H, W) in [−1, 1]."""
        like = next(net.parameters())
        return self.decode(net, self.prior(like, n))

    def decode(self, net: Networks, z: Tensor) -> Tensor:
        """The mean images of codes z (B, d): (B, C, H, W) in [−1, 1]."""
        image: Tensor = net.decoder.image(z)
        return image


@frozen
class Autoencoder(Generator):
    """A model that can also encode: it has a network ``encoder`` that maps images to posteriors."""

    def encode(self, net: Networks, x: Tensor) -> Tensor:
        """The posterior mean of images x (B, C, H, W) in [−1, 1]: codes (B, d)."""
        mean: Tensor = net.encoder(x).mean
        return mean

    def reconstruct(self, net: Networks, x: Tensor) -> Tensor:
        """X through encoder (its mean) and decoder: (B, C, H, W) in [−1, 1]."""
        return self.decode(net, self.encode(net, x))


class Family(abc.ABC):
    """What ``--family NAME`` names; a plugin announces it by ``zoo_families``. Built without arguments, no state.

    A family that stands for a paper's networks may leave ``width`` and ``norm`` aside: its sizes are the paper's. One
    that fits some image sizes only raises a :class:`zoo.UnsupportedError` that says which.
    """

    @abc.abstractmethod
    def encoder(
        self, data: DataSpec, latent: int, width: int, *, norm: str, posterior: Literal["gaussian", "point"]
    ) -> Encoder:
        """As :func:`zoo.encoder`."""

    @abc.abstractmethod
    def decoder(
        self, data: DataSpec, latent: int, width: int, *, norm: str, likelihood: Literal["bernoulli", "gaussian"] | None
    ) -> Decoder:
        """As :func:`zoo.decoder`."""

    def critic(
        self,
        data: DataSpec,
        width: int,
        *,
        inputs: Literal["x", "z", "xz"],
        latent: int | None,
        norm: str,
        tap: int | None,
        pre_norm: bool,
    ) -> Critic:
        """As :func:`zoo.critic`; a family may have none."""
        raise UnsupportedError(f"it has no critic (of {inputs})")
