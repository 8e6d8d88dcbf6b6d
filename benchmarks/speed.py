"""How fast is the engine's step? Images/s as ratios to a bare PyTorch loop, measured in pairs within one run.

    python benchmarks/speed.py                      the table
    python benchmarks/speed.py --record FILE        and a JSON record

The bare loop is what one writes by hand: the same networks and losses, the data set resident as uint8, a fused Adam for
each network, ``.backward(inputs=...)`` for each player. Both take the same steps first, and must end with the same
weights to the bit, the loop's networks in the memory layout that the engine gives to its own: a ratio counts only where
the same mathematics was done. Blocks of steps then alternate, ours and those of the bare loop in torch's own layout,
and the median of the paired ratios is reported with its quartiles.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import zoo
from zoo import options
from zoo.data import load_dataset
from zoo.engine import Engine, Stream
from zoo.registry import registry
from zoo.run.trained import make_networks

Step = Callable[[], None]


class Bare:
    """What the two hand-written loops share: resident images, an epoch's permutation, fused Adams."""

    def __init__(self, net: zoo.Networks, images: Tensor, batch: int, device: torch.device) -> None:
        self.net, self.images, self.batch, self.device = net, images.to(device), batch, device
        self.i = self.epoch = 0
        self.order = torch.empty(0, dtype=torch.long)

    def adam(self, *names: str, lr: float, beta1: float) -> torch.optim.Adam:
        """One fused Adam."""
        parameters = [p for name in names for p in self.net[name].parameters()]
        return torch.optim.Adam(parameters, lr=lr, betas=(beta1, 0.999), fused=True)

    def next(self) -> Tensor:
        """The next batch, in the order that the engine's stream has too."""
        if self.i + self.batch > len(self.order):
            generator = torch.Generator().manual_seed(self.epoch)
            self.order = torch.randperm(len(self.images), generator=generator).to(self.device)
            self.i, self.epoch = 0, self.epoch + 1
        chosen = self.order[self.i : self.i + self.batch]
        self.i += self.batch
        return self.images[chosen].float() / 127.5 - 1


def bare_vae(net: zoo.Networks, images: Tensor, batch: int, device: torch.device, model: Any) -> Step:
    """A VAE's training step as one writes it by hand."""
    loop = Bare(net, images, batch, device)
    adam = loop.adam("encoder", "decoder", lr=model.lr, beta1=model.beta1)

    def step() -> None:
        x = loop.next()
        q = net.encoder(x)
        z = torch.addcmul(q.mean, (0.5 * q.logvar).exp(), torch.randn_like(q.mean))
        logits = net.decoder(z).logits
        bce = F.binary_cross_entropy_with_logits(logits, x * 0.5 + 0.5, reduction="none")
        kl = 0.5 * (q.mean.square() + q.logvar.exp() - 1 - q.logvar).sum(1).mean()
        adam.zero_grad()
        (kl + bce.flatten(1).sum(1).mean()).backward()
        adam.step()

    return step


def bare_vaegan(net: zoo.Networks, images: Tensor, batch: int, device: torch.device, model: Any) -> Step:
    """A VAE-GAN's training step as one writes it by hand, each loss to its own network."""
    loop = Bare(net, images, batch, device)
    names = ("encoder", "decoder", "critic")
    adams = [loop.adam(name, lr=model.lr, beta1=model.beta1) for name in names]
    parameters = {name: list(net[name].parameters()) for name in names}

    def step() -> None:
        x = loop.next()
        q = net.encoder(x)
        z = torch.addcmul(q.mean, (0.5 * q.logvar).exp(), torch.randn_like(q.mean))
        x_rec, x_new = net.decoder(torch.cat([z, torch.randn(len(x), model.latent, device=device)])).chunk(2)
        real, rec, new = net.critic(x), net.critic(x_rec), net.critic(x_new)
        kl = 0.5 * (q.mean.square() + q.logvar.exp() - 1 - q.logvar).sum(1).mean()
        like = 0.5 * ((rec.features - real.features).square().sum() / len(x))
        gan = F.softplus(-real.logits).mean() + (F.softplus(rec.logits).mean() + F.softplus(new.logits).mean())
        fool = F.softplus(-rec.logits).mean() + F.softplus(-new.logits).mean()
        for adam in adams:
            adam.zero_grad()
        (like + kl).backward(inputs=parameters["encoder"], retain_graph=True)
        (fool + model.gamma * like).backward(inputs=parameters["decoder"], retain_graph=True)
        gan.backward(inputs=parameters["critic"])
        for adam in adams:
            adam.step()

    return step


LOOPS = {"vae": bare_vae, "vaegan": bare_vaegan}


def timed(step: Step, steps: int, device: torch.device) -> float:
    """Seconds that so many steps take."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(name: str, family: str, dataset: str, batch: int, device: torch.device, args: Any) -> dict[str, Any]:
    """One row of the table."""
    model = options.build(registry().model(name), {"family": family})
    data = load_dataset(dataset, zoo.DataOptions(data_dir=args.data_dir), registry().sources())
    images = data.train.images
    nets = []
    for _ in range(3):
        torch.manual_seed(0)
        nets.append(make_networks(model, data.spec).to(device))
    ours = Engine(model, nets[0], Stream(images, batch, 0, device)).step
    if device.type == "cpu":
        nets[1].to(memory_format=torch.channels_last)
    laid_out, bare = (LOOPS[name](net, images, batch, device, model) for net in nets[1:])
    for step in (ours, laid_out, bare):
        torch.manual_seed(1)
        timed(step, args.check_steps, device)
    same = all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))
    steps = max(2, round(args.block_seconds / (timed(ours, 5, device) / 5)))
    pairs = []
    for i in range(args.pairs):
        order = (ours, bare) if i % 2 == 0 else (bare, ours)
        seconds = {step: timed(step, steps, device) for step in order}
        pairs.append((seconds[ours], seconds[bare]))
    ratios = sorted(b / a for a, b in pairs)
    rate = steps * batch / statistics.median(a for a, _ in pairs)
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "model": name,
        "networks": family,
        "data set": dataset,
        "batch": batch,
        "images/s": round(rate),
        "ratio to bare": round(middle, 3),
        "quartiles": [round(low, 3), round(high, 3)],
        "same weights": same,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(LOOPS))
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="default: torch's own")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--block-seconds", type=float, default=0.5)
    parser.add_argument("--check-steps", type=int, default=20)
    parser.add_argument("--record", type=Path)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = [
        measure(name, family, args.dataset, args.batch, torch.device(args.device), args)
        for name in args.models.split(",")
        for family in ("mlp", "conv")
    ]
    keys = list(rows[0])
    print("| " + " | ".join(keys) + " |\n|" + "---|" * len(keys))
    for row in rows:
        print("| " + " | ".join(str(row[k]) for k in keys) + " |")
    facts = {
        "rows": rows,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }
    if args.record:
        args.record.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
