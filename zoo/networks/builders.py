"""``zoo.encoder``, ``zoo.decoder`` and ``zoo.critic``: networks for the images of a data set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from zoo.errors import UnsupportedError, UsageError
from zoo.interfaces import Critic, Decoder, Encoder, Family
from zoo.registry import registry

if TYPE_CHECKING:
    from zoo.data import DataSpec

__all__ = ["critic", "decoder", "encoder"]


_ALLOWED: dict[str, tuple[str | None, ...]] = {
    "norm": ("batch", "group", "none"),
    "posterior": ("gaussian", "point"),
    "likelihood": ("bernoulli", "gaussian", None),
    "inputs": ("x", "z", "xz"),
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
) -> Encoder:
    """Return an encoder for the images of a data set.

    Args:
        data: Shape and mean of the images.
        latent: Dimension d of the code.
        width: Channels of the first stage (conv), or hidden units / 16 (mlp).
        family: Set of architectures, one of ``zoo list families``.
        norm: Normalization inside the network: ``"batch"``, ``"group"`` or ``"none"``.
        posterior: ``"gaussian"`` (mean and log σ², reparameterized) or ``"point"`` (deterministic).

    Raises:
        UsageError: If a value is not allowed or the family does not support the images.
    """
    _check(norm=norm, posterior=posterior)
    with _family(family, data) as found:
        return found.encoder(data, latent, width, norm=norm, posterior=posterior)


def decoder(
    data: DataSpec,
    latent: int,
    width: int,
    *,
    family: str = "conv",
    norm: str = "batch",
    likelihood: Literal["bernoulli", "gaussian"] | None = None,
) -> Decoder:
    """Return a decoder to the images of a data set.

    Args:
        data: Shape and mean of the images.
        latent: Dimension d of the code.
        width: Channels of the last stage (conv), or hidden units / 16 (mlp).
        family: Set of architectures, one of ``zoo list families``.
        norm: Normalization inside the network: ``"batch"``, ``"group"`` or ``"none"``.
        likelihood: ``"bernoulli"`` pixels, ``"gaussian"`` pixels with one learned σ, or None for images through tanh.

    Raises:
        UsageError: If a value is not allowed or the family does not support the images.
    """
    _check(norm=norm, likelihood=likelihood)
    with _family(family, data) as found:
        return found.decoder(data, latent, width, norm=norm, likelihood=likelihood)


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

    Raises:
        UsageError: If a value is not allowed or the family does not support the images.
    """
    _check(norm=norm, inputs=inputs)
    if tap is not None and tap < 1:
        raise UsageError(f"tap: {tap} is not allowed; must be at least 1, the first stage")
    if ("z" in inputs) != (latent is not None):
        raise UsageError(
            f"latent: {latent!r} is not allowed for a critic with inputs={inputs!r}; give it for z and xz only"
        )
    with _family(family, data) as found:
        return found.critic(data, width, inputs=inputs, latent=latent, norm=norm, tap=tap, pre_norm=pre_norm)
