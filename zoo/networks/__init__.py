"""Networks: ``encoder``, ``decoder`` and ``critic`` of a network family, and building blocks for families."""

from __future__ import annotations

from zoo.interfaces import Family
from zoo.networks.blocks import MLP, ConvStack, ConvTrunk, DeconvTrunk, UpsampledConv2d, init_
from zoo.networks.body import BodyCritic, BodyDecoder, BodyEncoder, PixelBias
from zoo.networks.builders import critic, decoder, encoder
from zoo.networks.default_families import Conv, FullyConnected, TransposedConv

__all__ = [
    "MLP",
    "BodyCritic",
    "BodyDecoder",
    "BodyEncoder",
    "Conv",
    "ConvStack",
    "ConvTrunk",
    "DeconvTrunk",
    "Family",
    "FullyConnected",
    "PixelBias",
    "TransposedConv",
    "UpsampledConv2d",
    "critic",
    "decoder",
    "encoder",
    "init_",
]
