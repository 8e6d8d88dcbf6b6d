"""Networks of conditional models: they take the labels y, int64 (B,), as last argument."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import attrs
import torch
from torch import Tensor, nn

from zoo.distributions import Likelihood, Posterior
from zoo.errors import UnsupportedError, UsageError
from zoo.interfaces import Critic, CriticOutput, Decoder, Encoder
from zoo.networks.body import BodyCritic

if TYPE_CHECKING:
    from zoo.data import DataSpec

__all__ = [
    "ConditionalCritic",
    "ConditionalDecoder",
    "ConditionalEncoder",
    "ProjectionCritic",
    "count_classes",
    "with_planes",
]


def count_classes(data: DataSpec) -> int:
    """Number of classes of a data set.

    Raises:
        UsageError: If it has no labels.
    """
    if not data.classes:
        raise UsageError(
            f"dataset: {data.name!r} is not allowed; it has no labels, and the model is conditional on them"
        )
    return len(data.classes)


def with_planes(data: DataSpec) -> DataSpec:
    """The same images with one more channel per class, for networks that receive the label as constant planes."""
    c, h, w = data.shape
    classes = count_classes(data)
    mean = None if data.mean is None else torch.cat([data.mean, data.mean.new_zeros(classes, h, w)])
    return attrs.evolve(data, shape=(c + classes, h, w), mean=mean)


def _append_planes(x: Tensor, y: Tensor, classes: int) -> Tensor:
    planes = _one_hot(y, classes, x)[:, :, None, None].expand(-1, -1, *x.shape[2:])
    return torch.cat([x, planes], dim=1)


def _one_hot(y: Tensor, classes: int, like: Tensor) -> Tensor:
    # torch.nn.functional.one_hot would wait for the device, to check the range of y.
    return (y[:, None] == torch.arange(classes, device=y.device)).to(like.dtype)


@final
class ConditionalEncoder(Encoder):
    """Encoder q(z | x, y) that sees the label as one constant plane per class.

    Args:
        encoder: Encoder of images with ``classes`` more channels.
        classes: Number of classes.
    """

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder, self.classes = encoder, classes

    def forward(self, x: Tensor, y: Tensor) -> Posterior:
        """Posterior of codes for images x (B, C, H, W) with labels y (B,)."""
        posterior: Posterior = self.encoder(_append_planes(x, y, self.classes))
        return posterior


@final
class ConditionalDecoder(Decoder):
    """Decoder p(x | z, y) whose code is followed by the one-hot label.

    Args:
        decoder: Decoder of codes with ``classes`` more dimensions.
        classes: Number of classes.
    """

    def __init__(self, decoder: Decoder, classes: int) -> None:
        super().__init__()
        self.decoder, self.classes = decoder, classes

    def forward(self, z: Tensor, y: Tensor) -> Tensor | Likelihood:
        """Images, or their likelihood, for codes z (B, d) and labels y (B,)."""
        out: Tensor | Likelihood = self.decoder(torch.cat([z, _one_hot(y, self.classes, z)], dim=1))
        return out


@final
class ConditionalCritic(Critic):
    """Critic of pairs (x, y) that sees the label as one constant plane per class (Mirza & Osindero, arXiv:1411.1784).

    Args:
        critic: Critic of images with ``classes`` more channels.
        classes: Number of classes.
    """

    def __init__(self, critic: Critic, classes: int) -> None:
        super().__init__()
        self.critic, self.classes, self.inputs = critic, classes, critic.inputs

    def forward(self, x: Tensor, *rest: Tensor) -> CriticOutput:
        """Logits and features for images x (B, C, H, W), codes if the critic takes pairs, and labels y (B,)."""
        *codes, y = rest
        out: CriticOutput = self.critic(_append_planes(x, y, self.classes), *codes)
        return out


@final
class ProjectionCritic(Critic):
    """Critic of pairs (x, y): logit ψ(h) + ⟨v_y, h⟩ with h the last features of x (Miyato & Koyama, arXiv:1802.05637).

    Args:
        critic: Critic of images with one linear layer after its last features.
        classes: Number of classes.

    Raises:
        UnsupportedError: If the critic has another form.
    """

    def __init__(self, critic: Critic, classes: int) -> None:
        super().__init__()
        if not isinstance(critic, BodyCritic) or critic.inputs != "x" or not isinstance(critic.head, nn.Linear):
            raise UnsupportedError("its critic has no single linear layer to which a projection could be added")
        self.critic = critic
        self.embedding = nn.Embedding(classes, critic.head.in_features)
        nn.init.zeros_(self.embedding.weight)  # unconditional at first, whatever the scale of the features

    def forward(self, x: Tensor, y: Tensor) -> CriticOutput:
        """Logits (B,) and features for images x (B, C, H, W) with labels y (B,)."""
        h, features = self.critic.last_features(x)
        logits = self.critic.head(h).squeeze(1) + (self.embedding(y) * h).sum(1)
        return CriticOutput(logits.float(), features)
