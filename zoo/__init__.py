"""zoo: the reference model zoo for networks that join variational autoencoders to adversarial training.

Every public name lives here; a plugin needs no other import. Names are loaded on first use, so that
``import zoo`` does not import torch.

>>> import zoo
>>> zoo.__version__.count(".")
2
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "errors": ("UsageError", "ZooError"),
    "hooks": ("hookimpl",),
    "options": ("above", "at_least", "below", "between", "frozen", "option", "within"),
    "distributions": ("Bernoulli", "Gaussian", "Likelihood", "Normal", "Point", "Posterior"),
    "game": ("Row", "Turn"),
    "optimisers": ("SGD", "Adam", "Optimiser", "RMSprop"),
    "interfaces": ("Autoencoder", "Critic", "Decoder", "Encoder", "Generator", "Networks", "Objective", "Verdict"),
    "losses": ("fake", "half_sse", "l1", "real", "sse"),
    "networks": ("MLP", "critic", "decoder", "encoder"),
    "data": ("DataOptions", "DataSource", "DataSpec", "Dataset", "Split", "open_folder", "to_uint8", "to_unit"),
    "evaluation": ("Classifier", "Extractor"),
    "run": ("Trained", "TrainedAutoencoder", "load", "train"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"zoo.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from zoo.data import (
        DataOptions as DataOptions,
        Dataset as Dataset,
        DataSource as DataSource,
        DataSpec as DataSpec,
        Split as Split,
        open_folder as open_folder,
        to_uint8 as to_uint8,
        to_unit as to_unit,
    )
    from zoo.distributions import (
        Bernoulli as Bernoulli,
        Gaussian as Gaussian,
        Likelihood as Likelihood,
        Normal as Normal,
        Point as Point,
        Posterior as Posterior,
    )
    from zoo.errors import UsageError as UsageError, ZooError as ZooError
    from zoo.evaluation import Classifier as Classifier, Extractor as Extractor
    from zoo.game import Row as Row, Turn as Turn
    from zoo.hooks import hookimpl as hookimpl
    from zoo.interfaces import (
        Autoencoder as Autoencoder,
        Critic as Critic,
        Decoder as Decoder,
        Encoder as Encoder,
        Generator as Generator,
        Networks as Networks,
        Objective as Objective,
        Verdict as Verdict,
    )
    from zoo.losses import fake as fake, half_sse as half_sse, l1 as l1, real as real, sse as sse
    from zoo.networks import MLP as MLP, critic as critic, decoder as decoder, encoder as encoder
    from zoo.optimisers import SGD as SGD, Adam as Adam, Optimiser as Optimiser, RMSprop as RMSprop
    from zoo.options import (
        above as above,
        at_least as at_least,
        below as below,
        between as between,
        frozen as frozen,
        option as option,
        within as within,
    )
    from zoo.run import Trained as Trained, TrainedAutoencoder as TrainedAutoencoder, load as load, train as train
