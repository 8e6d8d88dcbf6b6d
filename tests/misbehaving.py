"""A plugin of models that fail, each in its own way, until a file ``mended`` exists in the folder TOYS.

Installed into a folder of its own by ``test_bench.py``; workers find it as they find any plugin.
"""

import importlib
import os
import resource
import signal
import time
from pathlib import Path

import torch
from torch import nn

import zoo

if os.environ.get("TOYS_WITHOUT_CURVES"):  # they cost more than the rest of such a run
    importlib.import_module("zoo.run.train").draw_curves = lambda folder: []


class Line(zoo.Decoder):
    def __init__(self, data, latent):
        super().__init__()
        self.shape = data.shape
        self.line = nn.Linear(latent, data.shape[0] * data.shape[1] * data.shape[2])
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, z):
        return self.line(z).tanh().view(-1, *self.shape)


@zoo.frozen
class Steady(zoo.Generator):
    """Does nothing wrong, slowly."""

    latent: int = zoo.option(3, "Dimensions of z.", zoo.at_least(1))
    good: int = zoo.option(5, "Steps that go well.", zoo.at_least(0))

    def networks(self, data):
        return {"decoder": Line(data, self.latent)}

    def players(self):
        return {"decoder": {"match": 1.0}}

    def terms(self, net, x):
        time.sleep(float(os.environ.get("TOYS_PAUSE", "0")))  # no option: it must not show in what a run leaves
        net.decoder.calls += 1
        match = zoo.half_sse(net.decoder(self.prior(x)), x)
        mended = (Path(os.environ["TOYS"]) / "mended").exists()
        if int(net.decoder.calls) <= self.good or mended:
            return {"match": match}
        return {"match": self.misbehave(match)}

    def misbehave(self, match):
        return match


@zoo.frozen
class Raises(Steady):
    """Has a bug."""

    def misbehave(self, match):
        raise ValueError("two lines\nof explanation")


@zoo.frozen
class Nan(Steady):
    """Diverges."""

    def misbehave(self, match):
        return match * torch.nan


@zoo.frozen
class Hangs(Steady):
    """Waits for what never comes, and does not hear a polite word."""

    def misbehave(self, match):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True:
            time.sleep(1)


@zoo.frozen
class Dies(Steady):
    """Is killed, as for want of memory."""

    def misbehave(self, match):
        os.kill(os.getpid(), signal.SIGKILL)


@zoo.frozen
class Fills(Steady):
    """Finds the disk full."""

    def misbehave(self, match):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return match


MODELS = {"steady": Steady, "raises": Raises, "nan": Nan, "hangs": Hangs, "dies": Dies, "fills": Fills}


@zoo.hookimpl
def zoo_models():
    return MODELS
