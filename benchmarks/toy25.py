"""25 Gaussians in the plane, as in Dumoulin et al., 2017: mode coverage and reconstruction of the models.

    python benchmarks/toy25.py                                  the table
    python benchmarks/toy25.py --models gan,ali --seeds 10
    python benchmarks/toy25.py --record FILE                    also write a JSON record

The models are those of the plugins, with fully connected networks of the same size for every model. A point is an image
of 1×1×2. Modes lie on a 5×5 grid in [−0.8, 0.8]² with σ = 0.02, a twentieth of their distance. A mode is covered when
at least 20 of 10,000 samples fall within 3σ of it; a sample is good when it lies within 3σ of any. The reconstruction
error is the mean square over coordinates of data that training did not see; answering every point by the grid's center
costs 0.32. The row ``uniform`` scores points spread evenly over the square: a model with no better a share of good
samples has found where the data lies, not its modes.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, nn

import zoo
from zoo.engine import Engine, Ranks
from zoo.registry import registry

SIDE, REACH, SIGMA = 5, 0.8, 0.02
LATENT, SAMPLES, ENOUGH = 2, 10_000, 20
# How the point encoders of each model bound their codes is part of the model: BiGAN's prior is U(−1, 1).
ENCODERS = {"bigan": "bounded", "aae": "point", "ali": "gaussian", "alice": "gaussian", "vaegan": "gaussian"}
CRITICS = {"gan": "x", "vaegan": "x", "aae": "z", "bigan": "xz", "ali": "xz", "alice": "xz"}


def centres() -> Tensor:
    """The 25 modes, (25, 2)."""
    line = torch.linspace(-REACH, REACH, SIDE)
    return torch.cartesian_prod(line, line)


def draw(n: int, generator: torch.Generator) -> Tensor:
    """N points of the mixture as images, (n, 1, 1, 2)."""
    chosen = torch.randint(SIDE**2, (n,), generator=generator)
    return (centres()[chosen] + SIGMA * torch.randn(n, 2, generator=generator)).view(n, 1, 1, 2)


class Points:
    """Batches of fresh points, each a function of seed and position: what the engine asks of a stream."""

    def __init__(self, batch: int, seed: int) -> None:
        self.batch, self.seed, self.device, self.ranks = batch, seed, torch.device("cpu"), Ranks()

    def fetch(self, position: int) -> list[Tensor]:
        """The batch at ``position``, float (B, 1, 1, 2)."""
        return [draw(self.batch, torch.Generator().manual_seed(self.seed * 1_000_003 + position))]

    @staticmethod
    def load(fetched: Sequence[Tensor], labels: bool = False) -> tuple[Tensor]:
        """The batch."""
        return (fetched[0],)


class Encoder(zoo.Encoder):
    """A point to a posterior over codes."""

    def __init__(self, hidden: int, posterior: str) -> None:
        super().__init__()
        self.posterior = posterior
        self.body = zoo.MLP([2, hidden, hidden, hidden, LATENT * (1 + (posterior == "gaussian"))], nn.ReLU)

    def forward(self, x: Tensor) -> zoo.Posterior:
        """The posterior of points x (B, 1, 1, 2)."""
        h = self.body(x.flatten(1))
        if self.posterior == "gaussian":
            return zoo.GaussianPosterior(*h.chunk(2, dim=1))
        return zoo.PointPosterior(h.tanh() if self.posterior == "bounded" else h)


class Decoder(zoo.Decoder):
    """A code to a point; nothing bounds it."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.body = zoo.MLP([LATENT, hidden, hidden, hidden, 2], nn.ReLU)

    def forward(self, z: Tensor) -> Tensor:
        """Points (B, 1, 1, 2) of codes z (B, 2)."""
        point: Tensor = self.body(z).view(-1, 1, 1, 2)
        return point


class Critic(zoo.Critic):
    """Critic of points, codes or both; its features are the normalized last hidden layer: Dis_l of VAE-GAN."""

    def __init__(self, hidden: int, inputs: Any) -> None:
        super().__init__()
        self.inputs = inputs
        self.body = zoo.MLP([2 * len(inputs), hidden, hidden, hidden], nn.ReLU)
        self.norm = nn.BatchNorm1d(hidden) if inputs == "x" else nn.Identity()
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, *seen: Tensor) -> zoo.CriticOutput:
        """Logits and features of points, codes or both."""
        features = self.norm(self.body(torch.cat([v.flatten(1) for v in seen], dim=1)))
        return zoo.CriticOutput(self.head(features).squeeze(1), features)


def toy(name: str, hidden: int, lr: float, cycle: float) -> zoo.Objective:
    """A registered model with networks for the plane."""

    def networks(self: zoo.Objective, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        found: dict[str, nn.Module] = {"decoder": Decoder(hidden), "critic": Critic(hidden, CRITICS[name])}
        return {"encoder": Encoder(hidden, ENCODERS[name]), **found} if name in ENCODERS else found

    base = registry().model(name)
    fields = {"networks": networks, "__doc__": base.__doc__}
    model: type[zoo.Objective] = zoo.frozen(type(base.__name__, (base,), fields))
    wanted = {"latent": LATENT, "lr": lr, "regularize_lr": lr, "cycle": cycle}
    known = {field.name for field in attrs.fields(model)}
    return model(**{k: v for k, v in wanted.items() if k in known})


def coverage(points: Tensor) -> dict[str, float]:
    """Modes covered by points (n, 2), and the share of good ones."""
    nearest, mode = torch.cdist(points, centres()).min(1)
    counts = mode[nearest <= 3 * SIGMA].bincount(minlength=SIDE**2)
    return {"modes": int((counts >= ENOUGH).sum()), "good": float(counts.sum()) / len(points)}


def uniform(seed: int) -> dict[str, Any]:
    """What evenly spread points score."""
    points = (2 * torch.rand(SAMPLES, 2, generator=torch.Generator().manual_seed(seed)) - 1) * REACH
    return {"model": "uniform", "seed": seed, **coverage(points), "mse": None, "CPU seconds": 0.0}


def score(model: Any, net: zoo.Networks, seed: int) -> dict[str, float | None]:
    """Modes covered, share of good samples, reconstruction error."""
    torch.manual_seed(seed + 1)
    net.eval()
    with torch.no_grad():
        scores: dict[str, float | None] = {**coverage(model.sample(net, SAMPLES).flatten(1)), "mse": None}
        if isinstance(model, zoo.Autoencoder):
            x = draw(SAMPLES, torch.Generator().manual_seed(2**40 + seed))
            scores["mse"] = float((model.reconstruct(net, x) - x).square().mean())
    net.train()
    return scores


def run(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train one model with one seed; the last step's scores, not the best step's."""
    start = time.process_time()
    torch.manual_seed(seed)
    model = toy(name, args.hidden, args.lr, args.cycle)
    net = zoo.Networks(model.networks(zoo.DataSpec("toy25", (1, 1, 2))))
    engine = Engine(model, net, Points(args.batch, seed))  # type: ignore[arg-type]
    for _ in range(args.steps):
        engine.step()
    engine.check_finite()
    scores = score(model, net, seed)
    return {"model": name, "seed": seed, **scores, "CPU seconds": round(time.process_time() - start, 1)}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds."""
    table: dict[str, Any] = {"model": rows[0]["model"], "seeds": len(rows)}
    for key in ("modes", "good", "mse"):
        values = [row[key] for row in rows]
        if None in values:
            table[key] = table[f"{key} ±"] = None
        else:
            table[key] = float(f"{statistics.mean(values):.3g}")
            table[f"{key} ±"] = float(f"{statistics.stdev(values):.2g}") if len(values) > 1 else None
    return table


def main() -> None:
    """Train, print the table, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="gan,bigan,ali,alice,vaegan,aae")
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1, help="seed 0 served to choose the settings")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--lr", type=float, default=3e-4, help="of every network")
    parser.add_argument("--cycle", type=float, default=1.0, help="λ of ALICE")
    parser.add_argument("--record", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = time.process_time()
    runs = []
    names = ["uniform", *args.models.split(",")]
    for name in names:
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            runs.append(uniform(seed) if name == "uniform" else run(name, seed, args))
            print(runs[-1], flush=True)
    table = [summary([r for r in runs if r["model"] == name]) for name in names]
    keys = list(table[0])
    print("| " + " | ".join(keys) + " |\n|" + "---|" * len(keys))
    for row in table:
        print("| " + " | ".join("n/a" if row[k] is None else str(row[k]) for k in keys) + " |")
    if args.record:
        facts = {
            "table": table,
            "runs": runs,
            "settings": {k: v for k, v in vars(args).items() if k not in ("models", "record")},
            "protocol": {"modes": SIDE**2, "reach": REACH, "sigma": SIGMA, "samples": SAMPLES, "enough": ENOUGH},
            "versions": {"zoo": zoo.__version__, "torch": torch.__version__, "python": platform.python_version()},
            "machine": platform.machine(),
            "threads": 1,
            "CPU seconds": round(time.process_time() - start),
        }
        args.record.write_text(json.dumps(facts, indent=2, default=str) + "\n")


if __name__ == "__main__":
    main()
