"""Base classes of networks (Encoder, Decoder, Critic) and of models (Objective, Generator, Autoencoder).

A model is a subclass of :class:`Objective`: settings, networks and turns. It holds no weights; its networks do.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, final

import torch
from torch import Tensor, nn

from zoo.data.spec import DataSpec
from zoo.distributions import Likelihood, Posterior
from zoo.errors import UnsupportedError
from zoo.game import Players, Turn, format_html
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
    """Network from images x (B, C, H, W) in [−1, 1] to a posterior over codes z (B, d).

    Encoders, decoders and critics of a conditional model also take the labels y, int64 (B,), as last argument.
    """

    @abc.abstractmethod
    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Posterior:
        """Posterior q(z | x), or q(z | x, y) of a conditional model."""


class Decoder(nn.Module, abc.ABC):
    """Network from codes z (B, d) to a likelihood of x or, in models without a density, to images."""

    @abc.abstractmethod
    def forward(self, z: Tensor, *args: Any, **kwargs: Any) -> Tensor | Likelihood:
        """Images (B, C, H, W) in [−1, 1], or a likelihood with images as its mean."""

    @final
    def image(self, z: Tensor, *y: Tensor) -> Tensor:
        """Mean images for codes z (B, d): (B, C, H, W) in [−1, 1]."""
        out = self(z, *y)
        return out.mean if isinstance(out, Likelihood) else out


class CriticOutput(NamedTuple):
    """Output of a critic on a batch.

    Attributes:
        logits: (B,), or (B, 1, h, w) of a critic of patches; not probabilities.
        features: Activations of stage ``tap`` of the critic, (B, …).
    """

    logits: Tensor
    features: Tensor


class Critic(nn.Module, abc.ABC):
    """Discriminator of images, codes, or pairs of both."""

    inputs: Literal["x", "z", "xz"] = "x"
    """Inputs of ``forward``: ``forward(x)``, ``forward(z)`` or ``forward(x, z)``."""

    @abc.abstractmethod
    def forward(self, *args: Any, **kwargs: Any) -> CriticOutput:
        """Logits and features; a high logit means real (x), from the prior (z) or from the encoder (x, z).

        The critic of a conditional model takes the labels y as last input.
        """


@final
class Networks(nn.Module):
    """Networks of a model by name: ``net.encoder``, ``net.decoder``, …

    ``net.progress`` is a scalar tensor: completed steps divided by the steps of the run, 1 after training.

    Args:
        networks: Networks by name.
    """

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.progress: Tensor
        # On the device, so that compiled and captured steps read its current value.
        self.register_buffer("progress", torch.ones(()), persistent=False)
        for name, network in networks.items():
            self.add_module(name, network)

    def names(self) -> tuple[str, ...]:
        """Names of the networks, in the order of the model."""
        return tuple(self._modules)

    def __getitem__(self, name: str) -> nn.Module:
        return self.get_submodule(name)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


@frozen
class Objective(abc.ABC):
    """Base class of models: settings (attrs fields), networks, and turns that train them.

    Decorate subclasses with :func:`zoo.frozen`; define ``networks`` and either ``players`` and ``terms`` (one turn that
    updates all networks) or ``turns``.
    """

    paper: ClassVar[str] = ""
    """Authors, venue, arXiv number."""
    deviations: ClassVar[Mapping[str, str]] = {}
    """Differences between the defaults and the paper, each with its reason."""
    presets: ClassVar[Mapping[str, Preset]] = {}
    """Presets by name; ``paper`` has the settings of the main experiment of :attr:`paper`."""
    conditional: ClassVar[bool] = False
    """Whether the model is conditional on labels y, int64 (B,): ``terms(net, x, y)``, ``decode(net, z, y)``, …"""

    lr: float = option(2e-4, "Learning rate of Adam.", above(0))
    beta1: float = option(0.5, "Decay of Adam's first moment.", between(0, 1, inclusive="left"))

    @abc.abstractmethod
    def networks(self, data: DataSpec) -> Mapping[str, nn.Module]:
        """Build the networks, by name, for the images of a data set."""

    def players(self) -> Players:
        """Weights of the terms that each network minimizes, by network and term."""
        raise TypeError(f"{type(self).__name__} defines turns(), not players()")

    def terms(self, net: Networks, x: Tensor, *args: Any, **kwargs: Any) -> Mapping[str, Tensor]:
        """Scalar losses by name for a batch x (B, C, H, W) in [−1, 1], and its labels if the model is conditional."""
        raise TypeError(f"{type(self).__name__} defines turns(), not terms()")

    def gate(self, terms: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Boolean scalars on the device by network; False skips the update of that network. Empty by default."""
        return {}

    def turns(self) -> tuple[Turn, ...]:
        """Turns of a training step; by default one that updates all players simultaneously."""
        gated = type(self).gate is not Objective.gate
        return (Turn(self.players(), self.terms, gate=self.gate if gated else None),)

    def optimizer(self, network: str, turn: str) -> Optimizer:
        """Settings of the optimizer of a network in a turn.

        Args:
            network: Name of the network.
            turn: Name of the turn.
        """
        return Adam(lr=self.lr, beta1=self.beta1)

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>{format_html(self.turns())}"

    @classmethod
    def problem(cls) -> str | None:
        """Reason why this class cannot be used as a model, or None."""
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
    """Base class of models that can sample; their network ``decoder`` maps codes to images."""

    latent: int = option(16, "Dimensions of the code z.", at_least(1))
    width: int = option(
        32,
        "Channels of the first stage, doubled in each further stage (conv); one sixteenth of the hidden units (mlp).",
        at_least(1),
    )
    family: str = option(
        "conv",
        "Family of networks: conv (strided convolutions), mlp (fully connected) or a published one.",
        registered("family", "families"),
    )
    norm: Literal["batch", "group", "none"] = option("batch", "Normalization layers of the networks.")

    @property
    def network_options(self) -> dict[str, Any]:
        """Keyword arguments of the network builders: ``zoo.encoder(data, self.latent, **self.network_options)``."""
        return {"width": self.width, "family": self.family, "norm": self.norm}

    def prior(self, like: Tensor, n: int | None = None) -> Tensor:
        """Sample codes from the prior N(0, I), (n, d).

        Args:
            like: Tensor (B, …) that gives the device.
            n: Number of codes; B by default.
        """
        return torch.randn(len(like) if n is None else n, self.latent, device=like.device)

    def sample(self, net: Networks, n: int, *y: Tensor) -> Tensor:
        """Sample n images, (n, C, H, W) in [−1, 1]; of the classes y (n,) if the model is conditional."""
        like = next(net.parameters())
        return self.decode(net, self.prior(like, n), *y)

    def decode(self, net: Networks, z: Tensor, *y: Tensor) -> Tensor:
        """Mean images for codes z (B, d), and labels if the model is conditional: (B, C, H, W) in [−1, 1]."""
        image: Tensor = net.decoder.image(z, *y)
        return image


@frozen
class Autoencoder(Generator):
    """Base class of models that can also encode; their network ``encoder`` maps images to posteriors."""

    def encode(self, net: Networks, x: Tensor, *y: Tensor) -> Tensor:
        """Posterior means (B, d) for images x (B, C, H, W) in [−1, 1], and their labels if the model is conditional."""
        mean: Tensor = net.encoder(x, *y).mean
        return mean

    def reconstruct(self, net: Networks, x: Tensor, *y: Tensor) -> Tensor:
        """Mean images for the posterior means of images x: (B, C, H, W) in [−1, 1]."""
        return self.decode(net, self.encode(net, x, *y), *y)


class Family(abc.ABC):
    """Family of networks for ``--family NAME``, registered by the hook ``zoo_families``; stateless.

    A family with the networks of a paper may ignore ``width`` and ``norm``. A family that supports some image sizes
    only raises :class:`zoo.UnsupportedError` for others.
    """

    @abc.abstractmethod
    def encoder(
        self, data: DataSpec, latent: int, width: int, *, norm: str, posterior: Literal["gaussian", "point"]
    ) -> Encoder:
        """Build an encoder; see :func:`zoo.encoder`."""

    @abc.abstractmethod
    def decoder(
        self, data: DataSpec, latent: int, width: int, *, norm: str, likelihood: Literal["bernoulli", "gaussian"] | None
    ) -> Decoder:
        """Build a decoder; see :func:`zoo.decoder`."""

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
        """Build a critic; see :func:`zoo.critic`. Optional.

        Raises:
            UnsupportedError: If the family has no such critic.
        """
        raise UnsupportedError(f"it has no critic of {inputs}")
