"""Networks for any image size: ``encoder``, ``decoder`` and ``critic``, convolutional or fully connected."""

from __future__ import annotations

from zoo.networks.builders import critic, decoder, encoder
from zoo.networks.layers import MLP, ConvTrunk, DeconvTrunk, init_

__all__ = ["MLP", "ConvTrunk", "DeconvTrunk", "critic", "decoder", "encoder", "init_"]
