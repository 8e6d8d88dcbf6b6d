"""Networks: ``encoder``, ``decoder`` and ``critic`` by the name of a family, and what families are made from."""

from __future__ import annotations

from zoo.networks.builders import critic, decoder, encoder
from zoo.networks.families import Conv, FullyConnected
from zoo.networks.family import BodyCritic, BodyDecoder, BodyEncoder, Family, PixelBias
from zoo.networks.layers import MLP, ConvTrunk, DeconvTrunk, Tapped, init_

__all__ = [
    "MLP",
    "BodyCritic",
    "BodyDecoder",
    "BodyEncoder",
    "Conv",
    "ConvTrunk",
    "DeconvTrunk",
    "Family",
    "FullyConnected",
    "PixelBias",
    "Tapped",
    "critic",
    "decoder",
    "encoder",
    "init_",
]
