"""Hand-written training loops in PyTorch, to compare with the engine in speed and results.

Networks and losses are those of the models; the data set is resident as uint8, the optimizer is fused Adam, and
each player has one ``.backward(inputs=…)``. The loops do not count, check, save or print anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import zoo

Step = Callable[[], None]
Loop = Callable[["Resident | Loader", zoo.Networks, Any], Step]


class Resident:
    """Batches from images that lie on the device as uint8, in the order of the engine's own stream."""

    def __init__(self, images: Tensor, batch: int, device: torch.device) -> None:
        self.images, self.batch, self.device = images.to(device), batch, device
        self.i = self.epoch = 0
        self.order = torch.empty(0, dtype=torch.long)

    def next(self) -> Tensor:
        """The next batch, float (B, C, H, W) in [−1, 1]."""
        if self.i + self.batch > len(self.order):
            generator = torch.Generator().manual_seed(self.epoch)
            self.order = torch.randperm(len(self.images), generator=generator).to(self.device)
            self.i, self.epoch = 0, self.epoch + 1
        chosen = self.order[self.i : self.i + self.batch]
        self.i += self.batch
        return self.images[chosen].float() / 127.5 - 1


class Loader:
    """Batches from torch's DataLoader, as tutorials have them: image by image, collated, then moved."""

    def __init__(self, images: Tensor, batch: int, device: torch.device) -> None:
        floats = TensorDataset(images.float() / 127.5 - 1)
        self.batch, self.device = batch, device
        self.loader = DataLoader(floats, batch, shuffle=True, drop_last=True)
        self.iterator: Iterator[list[Tensor]] = iter(())

    def next(self) -> Tensor:
        """The next batch, float (B, C, H, W) in [−1, 1]."""
        try:
            (x,) = next(self.iterator)
        except StopIteration:
            self.iterator = iter(self.loader)
            (x,) = next(self.iterator)
        return x.to(self.device)


def adam(net: zoo.Networks, *names: str, lr: float, beta1: float, weight_decay: float = 0.0) -> torch.optim.Adam:
    """One fused Adam over these networks."""
    parameters = [p for name in names for p in net[name].parameters()]
    return torch.optim.Adam(parameters, lr=lr, betas=(beta1, 0.999), weight_decay=weight_decay, fused=True)


def get_parameters(net: zoo.Networks, *names: str) -> list[torch.nn.Parameter]:
    """All of them."""
    return [p for name in names for p in net[name].parameters()]


def vae(data: Resident | Loader, net: zoo.Networks, model: Any) -> Step:
    """A VAE's training step."""
    optimizer = adam(net, "encoder", "decoder", lr=model.lr, beta1=model.beta1)

    def step() -> None:
        x = data.next()
        q = net.encoder(x)
        z = torch.addcmul(q.mean, (0.5 * q.logvar).exp(), torch.randn_like(q.mean))
        logits = net.decoder(z).logits
        bce = F.binary_cross_entropy_with_logits(logits, x * 0.5 + 0.5, reduction="none")
        kl = 0.5 * (q.mean.square() + q.logvar.exp() - 1 - q.logvar).sum(1).mean()
        optimizer.zero_grad()
        (kl + bce.flatten(1).sum(1).mean()).backward()
        optimizer.step()

    return step


def vaegan(data: Resident | Loader, net: zoo.Networks, model: Any) -> Step:
    """A VAE-GAN's training step, each loss to its own network."""
    names = ("encoder", "decoder", "critic")
    adams = [adam(net, name, lr=model.lr, beta1=model.beta1) for name in names]
    parameters = {name: get_parameters(net, name) for name in names}

    def step() -> None:
        x = data.next()
        q = net.encoder(x)
        z = torch.addcmul(q.mean, (0.5 * q.logvar).exp(), torch.randn_like(q.mean))
        x_rec, x_new = net.decoder(torch.cat([z, torch.randn(len(x), model.latent, device=data.device)])).chunk(2)
        real, rec, new = net.critic(x), net.critic(x_rec), net.critic(x_new)
        kl = 0.5 * (q.mean.square() + q.logvar.exp() - 1 - q.logvar).sum(1).mean()
        like = 0.5 * ((rec.features - real.features).square().sum() / len(x))
        gan = F.softplus(-real.logits).mean() + (F.softplus(rec.logits).mean() + F.softplus(new.logits).mean())
        fool = F.softplus(-rec.logits).mean() + F.softplus(-new.logits).mean()
        for optimizer in adams:
            optimizer.zero_grad()
        (like + kl).backward(inputs=parameters["encoder"], retain_graph=True)
        (fool + model.gamma * like).backward(inputs=parameters["decoder"], retain_graph=True)
        gan.backward(inputs=parameters["critic"])
        for optimizer in adams:
            optimizer.step()

    return step


def aae(data: Resident | Loader, net: zoo.Networks, model: Any) -> Step:
    """An AAE's training step: its three phases one after the other."""
    autoencoder = adam(net, "encoder", "decoder", lr=model.lr, beta1=0.9)
    critic = adam(net, "critic", lr=model.regularize_lr, beta1=model.beta1)
    generator = adam(net, "encoder", lr=model.regularize_lr, beta1=model.beta1)
    encoder = get_parameters(net, "encoder")

    def blur(z: Tensor) -> Tensor:
        return z + model.noise * torch.randn_like(z)

    def step() -> None:
        x = data.next()
        x_rec = net.decoder(net.encoder(x).mean)
        autoencoder.zero_grad()
        (0.5 * ((x_rec - x).square().sum() / len(x))).backward()
        autoencoder.step()

        z = torch.randn(len(x), model.latent, device=data.device)
        with torch.no_grad():
            z_x = net.encoder(x).mean
        critic.zero_grad()
        real = F.softplus(-net.critic(blur(z)).logits).mean()
        (real + F.softplus(net.critic(blur(z_x)).logits).mean()).backward()
        critic.step()

        generator.zero_grad()
        F.softplus(-net.critic(blur(net.encoder(x).mean)).logits).mean().backward(inputs=encoder)
        generator.step()

    return step


def bigan(data: Resident | Loader, net: zoo.Networks, model: Any) -> Step:
    """A BiGAN's training step, both sides at once."""
    settings = {"lr": model.lr, "beta1": model.beta1, "weight_decay": model.weight_decay}
    adams = [adam(net, "encoder", "decoder", **settings), adam(net, "critic", **settings)]
    players, critic = get_parameters(net, "encoder", "decoder"), get_parameters(net, "critic")

    def step() -> None:
        x = data.next()
        z = torch.rand(len(x), model.latent, device=data.device) * 2 - 1
        q = net.critic(x, net.encoder(x).mean).logits
        p = net.critic(net.decoder(z), z).logits
        gan = (F.softplus(-q).mean() + F.softplus(p).mean()) / 2
        swap = (F.softplus(q).mean() + F.softplus(-p).mean()) / 2
        for optimizer in adams:
            optimizer.zero_grad()
        swap.backward(inputs=players, retain_graph=True)
        gan.backward(inputs=critic)
        for optimizer in adams:
            optimizer.step()

    return step


LOOPS: dict[str, Loop] = {"vae": vae, "aae": aae, "vaegan": vaegan, "bigan": bigan}
"""By the model's name."""
