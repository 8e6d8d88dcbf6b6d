"""``zoo.encoder``, ``zoo.decoder`` and ``zoo.critic``: networks for the images of a data set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from zoo.errors import UnsupportedError, UsageError
from zoo.interfaces import Critic, Decoder, Encoder, Family
from zoo.networks.conditional import (
    ConditionalCritic,
    ConditionalDecoder,
    ConditionalEncoder,
    ProjectionCritic,
    count_classes,
    with_planes,
)
from zoo.registry import registry

if TYPE_CHECKING:
    from zoo.data import DataSpec

__all__ = ["critic", "decoder", "encoder"]


_ALLOWED: dict[str, tuple[str | None, ...]] = {
    "norm": ("batch", "group", "none"),
    "posterior": ("gaussian", "point"),
    "likelihood": ("bernoulli", "gaussian", None),
    "inputs": ("x", "z", "xz"),
    "labels": ("concatenate", "projection", None),
}


def _check(**given: str | None) -> None:
    # An unknown value must not silently mean another: norm="layer" would mean none.
    for name, value in given.items():
        if value not in _ALLOWED[name]:
            allowed = ", ".join(map(str, _ALLOWED[name]))
            raise UsageError(f"{name}: {value!r} is not allowed; must be one of {allowed}")


@contextlib.contextmanager
def _family(name: str, data: DataSpec) -> Iterator[Family]:
    try:
        yield registry().family(name)()
    except UnsupportedError as error:
        c, h, w = data.shape
        raise UsageError(
            f"family: {name!r} is not allowed for images of {c}×{h}×{w}; {error}; --family conv fits any"
        ) from None


def encoder(
    data: DataSpec,
    latent: int,
    width: int,
    *,
    family: str = "conv",
    norm: str = "batch",
    posterior: Literal["gaussian", "point"] = "gaussian",
    labels: bool = False,
) -> Encoder:
    """Return an encoder for the images of a data set.

    Args:
        data: Shape and mean of the images.
        latent: Dimension d of the code.
        width: Channels of the first stage (conv), or hidden units / 16 (mlp).
        family: Set of architectures, one of ``zoo list families``.
        norm: Normalization inside the network: ``"batch"``, ``"group"`` or ``"none"``.
        posterior: ``"gaussian"`` (mean and log σ², reparameterized) or ``"point"`` (deterministic).
        labels: Whether the encoder also takes labels: ``encoder(x, y)``.

    Raises:
        UsageError: If a value is not allowed or the family does not support the images.
    """
    _check(norm=norm, posterior=posterior)
    with _family(family, data) as found:
        images = with_planes(data) if labels else data
        network = found.encoder(images, latent, width, norm=norm, posterior=posterior)
        return ConditionalEncoder(network, count_classes(data)) if labels else network


def decoder(
    data: DataSpec,
    latent: int,
    width: int,
    *,
    family: str = "conv",
    norm: str = "batch",
    likelihood: Literal["bernoulli", "gaussian"] | None = None,
    labels: bool = False,
) -> Decoder:
    """Return a decoder to the images of a data set.

    Args:
        data: Shape and mean of the images.
        latent: Dimension d of the code.
        width: Channels of the last stage (conv), or hidden units / 16 (mlp).
        family: Set of architectures, one of ``zoo list families``.
        norm: Normalization inside the network: ``"batch"``, ``"group"`` or ``"none"``.
        likelihood: ``"bernoulli"`` pixels, ``"gaussian"`` pixels with one learned σ, or None for images through tanh.
        labels: Whether the decoder also takes labels: ``decoder(z, y)``.

    Raises:
        UsageError: If a value is not allowed or the family does not support the images.
    """
    _check(norm=norm, likelihood=likelihood)
    with _family(family, data) as found:
        extra = count_classes(data) if labels else 0
        network = found.decoder(data, latent + extra, width, norm=norm, likelihood=likelihood)
        return ConditionalDecoder(network, extra) if labels else network


def critic(
    data: DataSpec,
    width: int,
    *,
    inputs: Literal["x", "z", "xz"] = "x",
    latent: int | None = None,
    family: str = "conv",
    norm: str = "batch",
    tap: int | None = None,
    pre_norm: bool = False,
    labels: Literal["concatenate", "projection"] | None = None,
) -> Critic:
    """Return a critic of images (``x``), codes (``z``) or pairs (``xz``).

    Args:
        data: Shape of the images.
        width: Channels of the first stage (conv), or hidden units / 16 (mlp).
        inputs: Inputs of ``forward``: images, codes, or both.
        latent: Dimension of the codes; required if ``inputs`` contains z, not allowed otherwise.
        family: Set of architectures, one of ``zoo list families``.
        norm: Normalization inside the network: ``"batch"``, ``"group"`` or ``"none"``.
        tap: Stage of the image trunk, from 1, whose output before the activation is ``CriticOutput.features``. The last
            stage by default and if the trunk has fewer stages.
        pre_norm: Take the features before the normalization of their stage, hence with the scale of the weights.
        labels: How the critic uses labels: ``"concatenate"`` them to the image as constant planes, or by
            ``"projection"`` of its last features; None for a critic without labels.

    Raises:
        UsageError: If a value is not allowed or the family does not support the images.
    """
    _check(norm=norm, inputs=inputs, labels=labels)
    if tap is not None and tap < 1:
        raise UsageError(f"tap: {tap} is not allowed; must be at least 1, the first stage")
    if ("z" in inputs) != (latent is not None):
        raise UsageError(
            f"latent: {latent!r} is not allowed for a critic with inputs={inputs!r}; give it for z and xz only"
        )
    if labels is not None and (inputs == "z" or (labels == "projection" and inputs != "x")):
        raise UsageError(f"labels: {labels!r} is not allowed for a critic with inputs={inputs!r}")
    with _family(family, data) as found:
        images = with_planes(data) if labels == "concatenate" else data
        network = found.critic(images, width, inputs=inputs, latent=latent, norm=norm, tap=tap, pre_norm=pre_norm)
        if labels is None:
            return network
        wrap = ConditionalCritic if labels == "concatenate" else ProjectionCritic
        return wrap(network, count_classes(data))
