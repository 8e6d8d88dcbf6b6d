"""The papers' convolutional networks, for ``--family``. Sizes are theirs: ``--width`` and ``--norm`` change nothing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from torch import Tensor, nn

import zoo

Layers = list[nn.Module]


def conv(a: int, b: int, k: int, s: int, act: nn.Module, norm: bool = True, pad: int | None = None) -> Layers:
    """Convolution, batch normalisation, activation."""
    bias = not norm
    return [
        nn.Conv2d(a, b, k, s, (k - 1) // 2 if pad is None else pad, bias=bias),
        *([nn.BatchNorm2d(b)] if norm else []),
        act,
    ]


def deconv(a: int, b: int, k: int, s: int, act: nn.Module, pad: int | None = None) -> Layers:
    """Transposed convolution that multiplies the size by s exactly where k ≥ s; batch normalisation; activation."""
    p = (k - s + 1) // 2 if pad is None else pad
    out = 0 if pad is not None else s - k + 2 * p
    return [nn.ConvTranspose2d(a, b, k, s, p, out, bias=False), nn.BatchNorm2d(b), act]


def refuse(name: str, data: zoo.DataSpec, what: str) -> NoReturn:
    """Say which sizes fit."""
    c, h, w = data.shape
    raise zoo.UsageError(f"family: {name!r} is not allowed for images of {c}×{h}×{w}; {what}; --family conv fits any")


def codes_critic(latent: int, *hidden: int) -> zoo.Critic:
    """A critic of codes: ReLU layers without normalisation."""
    return zoo.BodyCritic("z", None, nn.Identity(), zoo.MLP([latent, *hidden, 1]))


class DCGAN(zoo.Family):
    """DCGAN's: 5×5 strided convolutions, 128 channels doubled at each stage, down to 4×4 (1511.06434)."""

    hidden = (512, 512)
    """Of the critic of codes, which DCGAN does not have."""

    def stages(self, data: zoo.DataSpec) -> int:
        """Halvings down to 4 pixels."""
        _, h, w = data.shape
        n = int(math.log2(h / 4))
        if h != w or h != 4 * 2**n or n < 2:
            refuse("dcgan", data, "sides must be 16, 32, 64 or 128 pixels, both the same")
        return n

    def trunk(self, data: zoo.DataSpec, tap: int | None = None, raw: bool = False) -> tuple[nn.Module, int]:
        """Shared by encoder and critic."""
        wide = [data.shape[0], *(128 * 2**i for i in range(self.stages(data)))]
        stages = [
            (nn.Conv2d(a, b, 5, 2, 2, bias=i == 0), nn.BatchNorm2d(b) if i else nn.Identity())
            for i, (a, b) in enumerate(itertools.pairwise(wide))
        ]
        return zoo.Tapped(stages, nn.LeakyReLU(0.2), tap, raw), 16 * wide[-1]

    def encoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, posterior: Any) -> zoo.Encoder:
        return initialised(zoo.BodyEncoder(*self.trunk(data), latent, posterior))

    def decoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, likelihood: Any) -> zoo.Decoder:
        wide = [128 * 2**i for i in reversed(range(self.stages(data)))]
        layers: Layers = [*project(latent, wide[0], 4, 4)]
        for a, b in itertools.pairwise(wide):
            layers += deconv(a, b, 5, 2, nn.ReLU())
        layers += [nn.ConvTranspose2d(wide[-1], data.shape[0], 5, 2, 2, 1)]
        return initialised(zoo.BodyDecoder(nn.Sequential(*layers), data.shape, likelihood))

    def critic(
        self, data: zoo.DataSpec, width: int, *, sees: Any, latent: int | None, norm: str, tap: int | None, raw: bool
    ) -> zoo.Critic:
        if sees == "z":
            return codes_critic(latent or 0, *self.hidden)
        trunk, features = self.trunk(data, tap, raw)
        head = nn.Linear(features + (latent or 0), 1) if sees == "x" else zoo.MLP([features + (latent or 0), 512, 1])
        return initialised(zoo.BodyCritic(sees, trunk, nn.Identity() if latent else None, head))


class AlphaGANConv(DCGAN):
    """α-GAN's: DCGAN's, with a critic of codes of 750-750 (1706.04987)."""

    hidden = (750, 750)


class VAEGANConv(zoo.Family):
    """VAE-GAN's as in its authors' code: 5×5, encoder 64-128-256 and FC 1024, critic 32-128-192-256 (1512.09300)."""

    def small(self, data: zoo.DataSpec) -> tuple[int, int]:
        """Size after three halvings."""
        _, h, w = data.shape
        if h % 8 or w % 8 or min(h, w) < 16:
            refuse("vaegan-conv", data, "sides must be multiples of 8 pixels, from 16 on")
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
        for a, b in ((256, 192), (192, 128), (128, 32)):
            layers += deconv(a, b, 5, 2, nn.ReLU())
        return zoo.BodyDecoder(nn.Sequential(*layers, nn.Conv2d(32, data.shape[0], 5, 1, 2)), data.shape, likelihood)

    def critic(
        self, data: zoo.DataSpec, width: int, *, sees: Any, latent: int | None, norm: str, tap: int | None, raw: bool
    ) -> zoo.Critic:
        if sees != "x":
            raise zoo.UsageError("family: 'vaegan-conv' has a critic of images only; --family conv judges codes too")
        h, w = self.small(data)
        stages: list[tuple[nn.Module, nn.Module]] = [(nn.Conv2d(data.shape[0], 32, 5, 1, 2), nn.Identity())]
        for a, b in ((32, 128), (128, 192), (192, 256)):
            stages.append((nn.Conv2d(a, b, 5, 2, 2, bias=False), nn.BatchNorm2d(b)))
        head = nn.Sequential(nn.Linear(256 * h * w, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1))
        return zoo.BodyCritic("x", zoo.Tapped(stages, nn.ReLU(), tap, raw), None, head)


class ALIConv(zoo.Family):
    """ALI's for CIFAR-10, its table of networks: unpadded convolutions of 32 pixels down to one (1606.00704)."""

    def trunk(self, data: zoo.DataSpec) -> Layers:
        """Shared by encoder and critic: (C, 32, 32) → (512, 1, 1)."""
        if data.shape[1:] != (32, 32):
            refuse("ali-conv", data, "images must be 32×32 pixels")
        plan = ((5, 1, 32), (4, 2, 64), (4, 1, 128), (4, 2, 256), (4, 1, 512), (1, 1, 512))
        layers: Layers = []
        channels = data.shape[0]
        for k, s, wide in plan:
            layers += conv(channels, wide, k, s, nn.LeakyReLU(0.1), pad=0)
            channels = wide
        return layers

    def encoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, posterior: Any) -> zoo.Encoder:
        return initialised(zoo.BodyEncoder(nn.Sequential(*self.trunk(data)), 512, latent, posterior), 0.01)

    def decoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, likelihood: Any) -> zoo.Decoder:
        if data.shape[1:] != (32, 32):
            refuse("ali-conv", data, "images must be 32×32 pixels")
        layers: Layers = [nn.Unflatten(1, (latent, 1, 1))]
        channels = latent
        for k, s, wide in ((4, 1, 256), (4, 2, 128), (4, 1, 64), (4, 2, 32), (5, 1, 32), (1, 1, 32)):
            layers += deconv(channels, wide, k, s, nn.LeakyReLU(0.1), pad=0)
            channels = wide
        bias = zoo.PixelBias(data, 1.0 if likelihood == "bernoulli" else 0.5)
        body = nn.Sequential(*layers, nn.Conv2d(32, data.shape[0], 1, bias=False), bias)
        return initialised(zoo.BodyDecoder(body, data.shape, likelihood), 0.01)

    def critic(
        self, data: zoo.DataSpec, width: int, *, sees: Any, latent: int | None, norm: str, tap: int | None, raw: bool
    ) -> zoo.Critic:
        trunk = nn.Sequential(nn.Dropout(0.2), *self.trunk(data)) if "x" in sees else None
        codes = None
        if latent:
            codes = nn.Sequential(*half(nn.Dropout(0.2), latent, 512), *half(nn.Dropout(0.5), 512, 512))
        features = 512 * ((trunk is not None) + (codes is not None))
        head = nn.Sequential(
            *half(nn.Dropout(0.5), features, 1024),
            *half(nn.Dropout(0.5), 1024, 1024),
            nn.Dropout(0.5),
            nn.Linear(1024, 1),
        )
        return initialised(zoo.BodyCritic(sees, trunk, codes, head), 0.01)


class WAEConv(zoo.Family):
    """WAE's for MNIST: 4×4, encoder 128-256-512-1024, decoder 1024-512-256; codes' critic 4 × 512 (1711.01558)."""

    def encoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, posterior: Any) -> zoo.Encoder:
        channels, h, w = data.shape
        layers: Layers = []
        for wide in (128, 256, 512, 1024):
            # Rounded up at each halving, as TensorFlow pads: one pixel more below and to the right of an odd side.
            layers += [nn.ZeroPad2d((1, 1 + w % 2, 1, 1 + h % 2)), *conv(channels, wide, 4, 2, nn.ReLU(), pad=0)]
            channels, h, w = wide, math.ceil(h / 2), math.ceil(w / 2)
        return initialised(zoo.BodyEncoder(nn.Sequential(*layers), 1024 * h * w, latent, posterior), 0.01)

    def decoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, likelihood: Any) -> zoo.Decoder:
        channels, h, w = data.shape
        if h % 4 or w % 4:
            refuse("wae-conv", data, "sides must be multiples of 4 pixels")
        layers: Layers = [
            nn.Linear(latent, 1024 * (h // 4) * (w // 4)),
            nn.Unflatten(1, (1024, h // 4, w // 4)),
            nn.ReLU(),
        ]
        for a, b in ((1024, 512), (512, 256)):
            layers += deconv(a, b, 4, 2, nn.ReLU())
        layers += [nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(256, channels, 4)]
        return initialised(zoo.BodyDecoder(nn.Sequential(*layers), data.shape, likelihood), 0.01)

    def critic(self, data: zoo.DataSpec, width: int, *, sees: Any, latent: int | None, **rest: Any) -> zoo.Critic:
        if sees != "z":
            raise zoo.UsageError("family: 'wae-conv' has a critic of codes only; --family conv judges images too")
        return codes_critic(latent or 0, 512, 512, 512, 512)


class WGANGPConv(zoo.Family):
    """WGAN-GP's for MNIST, as in its authors' code: 5×5, 64-128-256 channels, no normalisation (1704.00028)."""

    def trunk(self, data: zoo.DataSpec) -> tuple[nn.Module, int]:
        """Three halvings of 28 pixels."""
        if data.shape[1:] != (28, 28):
            refuse("wgan-gp-conv", data, "images must be 28×28 pixels")
        wide = (data.shape[0], 64, 128, 256)
        pairs = itertools.pairwise(wide)
        return nn.Sequential(*(m for a, b in pairs for m in conv(a, b, 5, 2, nn.LeakyReLU(0.2), norm=False))), 256 * 16

    def encoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, posterior: Any) -> zoo.Encoder:
        return zoo.BodyEncoder(*self.trunk(data), latent, posterior)

    def decoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, likelihood: Any) -> zoo.Decoder:
        self.trunk(data)
        body = nn.Sequential(
            nn.Linear(latent, 256 * 16),
            nn.Unflatten(1, (256, 4, 4)),
            nn.ReLU(),
            nn.ConvTranspose2d(256, 128, 5, 2, 2, 1),
            Crop(7),
            nn.ReLU(),
            nn.ConvTranspose2d(128, 64, 5, 2, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(64, data.shape[0], 5, 2, 2, 1),
        )
        return zoo.BodyDecoder(body, data.shape, likelihood)

    def critic(self, data: zoo.DataSpec, width: int, *, sees: Any, **rest: Any) -> zoo.Critic:
        if sees != "x":
            raise zoo.UsageError("family: 'wgan-gp-conv' has a critic of images only; --family conv judges codes too")
        trunk, features = self.trunk(data)
        return zoo.BodyCritic("x", trunk, None, nn.Linear(features, 1))


class BetaVAEConv(zoo.Family):
    """β-VAE's for 64-pixel images: 4×4 strided, 32-32-64-64, FC 256, ReLU (Higgins et al. 2017, table 1)."""

    def encoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, posterior: Any) -> zoo.Encoder:
        if data.shape[1:] != (64, 64):
            refuse("beta-vae-conv", data, "images must be 64×64 pixels")
        wide = (data.shape[0], 32, 32, 64, 64)
        stages = [m for a, b in itertools.pairwise(wide) for m in conv(a, b, 4, 2, nn.ReLU(), norm=False)]
        return zoo.BodyEncoder(
            nn.Sequential(*stages, nn.Flatten(), nn.Linear(1024, 256), nn.ReLU()), 256, latent, posterior
        )

    def decoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, likelihood: Any) -> zoo.Decoder:
        if data.shape[1:] != (64, 64):
            refuse("beta-vae-conv", data, "images must be 64×64 pixels")
        layers: Layers = [
            nn.Linear(latent, 256),
            nn.ReLU(),
            nn.Linear(256, 1024),
            nn.ReLU(),
            nn.Unflatten(1, (64, 4, 4)),
        ]
        for a, b in ((64, 64), (64, 32), (32, 32)):
            layers += [nn.ConvTranspose2d(a, b, 4, 2, 1), nn.ReLU()]
        layers += [nn.ConvTranspose2d(32, data.shape[0], 4, 2, 1)]
        return zoo.BodyDecoder(nn.Sequential(*layers), data.shape, likelihood)

    def critic(self, data: zoo.DataSpec, width: int, *, sees: str, **rest: Any) -> zoo.Critic:
        raise zoo.UsageError(f"family: 'beta-vae-conv' has no critic (of {sees}); --family conv has one")


class IntroVAEConv(zoo.Family):
    """Soft-IntroVAE's for MNIST: residual blocks of 64 and 128 channels, average pooling (2012.13253)."""

    def small(self, data: zoo.DataSpec) -> tuple[int, int]:
        """Size after two halvings."""
        _, h, w = data.shape
        if h % 4 or w % 4:
            refuse("soft-introvae-conv", data, "sides must be multiples of 4 pixels")
        return h // 4, w // 4

    def encoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, posterior: Any) -> zoo.Encoder:
        h, w = self.small(data)
        body = nn.Sequential(
            *conv(data.shape[0], 64, 5, 1, nn.LeakyReLU(0.2)),
            nn.AvgPool2d(2),
            Residual(64, 128),
            nn.AvgPool2d(2),
            Residual(128, 128),
        )
        return zoo.BodyEncoder(body, 128 * h * w, latent, posterior)

    def decoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, likelihood: Any) -> zoo.Decoder:
        h, w = self.small(data)
        body = nn.Sequential(
            nn.Linear(latent, 128 * h * w),
            nn.ReLU(),
            nn.Unflatten(1, (128, h, w)),
            Residual(128, 128),
            nn.Upsample(scale_factor=2),
            Residual(128, 64),
            nn.Upsample(scale_factor=2),
            Residual(64, 64),
            nn.Conv2d(64, data.shape[0], 5, 1, 2),
        )
        return zoo.BodyDecoder(body, data.shape, likelihood)

    def critic(self, data: zoo.DataSpec, width: int, *, sees: str, **rest: Any) -> zoo.Critic:
        raise zoo.UsageError(f"family: 'soft-introvae-conv' has no critic (of {sees}); --family conv has one")


class Residual(nn.Module):
    """Two 3×3 convolutions around which the input, made as wide by a 1×1 one, passes too."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.wide = nn.Identity() if a == b else nn.Conv2d(a, b, 1, bias=False)
        self.inner = nn.Sequential(*conv(a, b, 3, 1, nn.LeakyReLU(0.2)), nn.Conv2d(b, b, 3, 1, 1, bias=False))
        self.norm, self.activation = nn.BatchNorm2d(b), nn.LeakyReLU(0.2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.norm(self.inner(x) + self.wide(x)))
        return out


class Crop(nn.Module):
    """The upper left corner of so many pixels."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.side, : self.side]


def project(latent: int, channels: int, h: int, w: int) -> Layers:
    """Codes to the first image of a generator, normalised, ReLU."""
    size = channels * h * w
    return [nn.Linear(latent, size, bias=False), nn.Unflatten(1, (channels, h, w)), nn.BatchNorm2d(channels), nn.ReLU()]


def half(dropout: nn.Module, a: int, b: int) -> Layers:
    """Dropout, linear, LeakyReLU(0.1)."""
    return [dropout, nn.Linear(a, b), nn.LeakyReLU(0.1)]


def initialised(network: Any, std: float = 0.02) -> Any:
    """N(0, std²) weights."""
    zoo.init_(network, std)
    return network


@zoo.hookimpl
def zoo_families() -> Mapping[str, type[zoo.Family]]:
    return {
        "dcgan": DCGAN,
        "alpha-gan-conv": AlphaGANConv,
        "vaegan-conv": VAEGANConv,
        "ali-conv": ALIConv,
        "wae-conv": WAEConv,
        "wgan-gp-conv": WGANGPConv,
        "beta-vae-conv": BetaVAEConv,
        "soft-introvae-conv": IntroVAEConv,
    }
