"""Published convolutional networks with normalization, for ``--family``; ``--width`` and ``--norm`` have no effect."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from torch import nn

import zoo

from .layers import Halve, ToUnitRange, conv, deconv, initialized

Layers = list[nn.Module]


def codes_critic(latent: int, *hidden: int) -> zoo.Critic:
    """A critic of codes: ReLU layers without normalization."""
    return zoo.BodyCritic("z", None, nn.Identity(), zoo.MLP([latent, *hidden, 1]))


class DCGAN(zoo.Family):
    """DCGAN: 5×5 strided convolutions, 128 channels doubled in each stage, down to 4×4 (arXiv:1511.06434)."""

    hidden = (512, 512)
    """Hidden units of the critic of codes, which DCGAN does not have."""

    def stages(self, data: zoo.DataSpec) -> int:
        """Number of halvings down to 4 pixels."""
        _, h, w = data.shape
        n = int(math.log2(h / 4))
        if h != w or h != 4 * 2**n or n < 2:
            raise zoo.UnsupportedError("sides must be 16, 32, 64 or 128 pixels, both the same")
        return n

    def trunk(self, data: zoo.DataSpec, tap: int | None = None, pre_norm: bool = False) -> tuple[nn.Module, int]:
        """Trunk of encoder and critic, and its number of features."""
        wide = [data.shape[0], *(128 * 2**i for i in range(self.stages(data)))]
        stages = [
            (nn.Conv2d(a, b, 5, 2, 2, bias=i == 0), nn.BatchNorm2d(b) if i else nn.Identity())
            for i, (a, b) in enumerate(itertools.pairwise(wide))
        ]
        return zoo.ConvStack(stages, nn.LeakyReLU(0.2), tap, pre_norm), 16 * wide[-1]

    def encoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, posterior: Any) -> zoo.Encoder:
        return initialized(zoo.BodyEncoder(*self.trunk(data), latent, posterior))

    def decoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, likelihood: Any) -> zoo.Decoder:
        wide = [128 * 2**i for i in reversed(range(self.stages(data)))]
        layers: Layers = [*project(latent, wide[0], 4, 4)]
        for a, b in itertools.pairwise(wide):
            layers += deconv(a, b, 5, 2, nn.ReLU())
        layers += [nn.ConvTranspose2d(wide[-1], data.shape[0], 5, 2, 2, 1)]
        return initialized(zoo.BodyDecoder(nn.Sequential(*layers), data.shape, likelihood))

    def critic(
        self,
        data: zoo.DataSpec,
        width: int,
        *,
        inputs: Any,
        latent: int | None,
        norm: str,
        tap: int | None,
        pre_norm: bool,
    ) -> zoo.Critic:
        if inputs == "z":
            return codes_critic(latent or 0, *self.hidden)
        trunk, features = self.trunk(data, tap, pre_norm)
        head = nn.Linear(features + (latent or 0), 1) if inputs == "x" else zoo.MLP([features + (latent or 0), 512, 1])
        return initialized(zoo.BodyCritic(inputs, trunk, nn.Identity() if latent else None, head))


class AlphaGANConv(DCGAN):
    """α-GAN: DCGAN with a critic of codes of 750-750 units (arXiv:1706.04987)."""

    hidden = (750, 750)


class VAEGANConv(zoo.Family):
    """VAE-GAN, authors' code: 5×5, encoder 64-128-256 and 1024, critic 32-128-256-256 (arXiv:1512.09300).

    Below 64 pixels the middle stage of decoder and critic has 192 channels.
    """

    def middle(self, data: zoo.DataSpec) -> int:
        """Channels of the middle stage of decoder and critic."""
        return 256 if min(data.shape[1:]) >= 64 else 192

    def small(self, data: zoo.DataSpec) -> tuple[int, int]:
        """Size after three halvings."""
        _, h, w = data.shape
        if h % 8 or w % 8 or min(h, w) < 16:
            raise zoo.UnsupportedError("sides must be multiples of 8 pixels and at least 16")
        return h // 8, w // 8

    def encoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, posterior: Any) -> zoo.Encoder:
        h, w = self.small(data)
        stages = [
            layer for a, b in ((data.shape[0], 64), (64, 128), (128, 256)) for layer in conv(a, b, 5, 2, nn.ReLU())
        ]
        top = (nn.Flatten(), nn.Linear(256 * h * w, 1024, bias=False), nn.BatchNorm1d(1024), nn.ReLU())
        return zoo.BodyEncoder(nn.Sequential(*stages, *top), 1024, latent, posterior)

    def decoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, likelihood: Any) -> zoo.Decoder:
        layers: Layers = [*project(latent, 256, *self.small(data))]
        for a, b in itertools.pairwise((256, self.middle(data), 128, 32)):
            layers += deconv(a, b, 5, 2, nn.ReLU())
        return zoo.BodyDecoder(nn.Sequential(*layers, nn.Conv2d(32, data.shape[0], 5, 1, 2)), data.shape, likelihood)

    def critic(
        self,
        data: zoo.DataSpec,
        width: int,
        *,
        inputs: Any,
        latent: int | None,
        norm: str,
        tap: int | None,
        pre_norm: bool,
    ) -> zoo.Critic:
        if inputs != "x":
            raise zoo.UnsupportedError("it has a critic of images only")
        h, w = self.small(data)
        stages: list[tuple[nn.Module, nn.Module]] = [(nn.Conv2d(data.shape[0], 32, 5, 1, 2), nn.Identity())]
        for a, b in itertools.pairwise((32, 128, self.middle(data), 256)):
            stages.append((nn.Conv2d(a, b, 5, 2, 2, bias=False), nn.BatchNorm2d(b)))
        head = nn.Sequential(nn.Linear(256 * h * w, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1))
        return zoo.BodyCritic("x", zoo.ConvStack(stages, nn.ReLU(), tap, pre_norm), None, head)


class WAEConv(zoo.Family):
    """WAE for MNIST: 4×4, encoder 128-256-512-1024, decoder 1024-512-256, critic 4 × 512 (arXiv:1711.01558)."""

    def encoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, posterior: Any) -> zoo.Encoder:
        channels, h, w = data.shape
        layers: Layers = [ToUnitRange()]
        for wide in (128, 256, 512, 1024):
            # Odd sides are rounded up as by TensorFlow's padding: one more pixel below and to the right.
            layers += [nn.ZeroPad2d((1, 1 + w % 2, 1, 1 + h % 2)), *conv(channels, wide, 4, 2, nn.ReLU(), pad=0)]
            channels, h, w = wide, math.ceil(h / 2), math.ceil(w / 2)
        return initialized(zoo.BodyEncoder(nn.Sequential(*layers), 1024 * h * w, latent, posterior), 0.01)

    def decoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, likelihood: Any) -> zoo.Decoder:
        channels, h, w = data.shape
        if h % 4 or w % 4:
            raise zoo.UnsupportedError("sides must be multiples of 4 pixels")
        layers: Layers = [
            nn.Linear(latent, 1024 * (h // 4) * (w // 4)),
            nn.Unflatten(1, (1024, h // 4, w // 4)),
            nn.ReLU(),
        ]
        for a, b in ((1024, 512), (512, 256)):
            layers += deconv(a, b, 4, 2, nn.ReLU())
        layers += [
            nn.ZeroPad2d((2, 1, 2, 1)),
            nn.Conv2d(256, channels, 4),
            *([] if likelihood == "bernoulli" else [Halve()]),
        ]
        return initialized(zoo.BodyDecoder(nn.Sequential(*layers), data.shape, likelihood), 0.01)

    def critic(self, data: zoo.DataSpec, width: int, *, inputs: Any, latent: int | None, **rest: Any) -> zoo.Critic:
        if inputs != "z":
            raise zoo.UnsupportedError("it has a critic of codes only")
        return codes_critic(latent or 0, 512, 512, 512, 512)


def project(latent: int, channels: int, h: int, w: int) -> Layers:
    """Codes to the first image of a generator, normalized, ReLU."""
    size = channels * h * w
    return [nn.Linear(latent, size, bias=False), nn.Unflatten(1, (channels, h, w)), nn.BatchNorm2d(channels), nn.ReLU()]


@zoo.hookimpl
def zoo_families() -> Mapping[str, type[zoo.Family]]:
    return {
        "dcgan": DCGAN,
        "alpha-gan-conv": AlphaGANConv,
        "vaegan-conv": VAEGANConv,
        "wae-conv": WAEConv,
    }
