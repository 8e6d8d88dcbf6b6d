from .data import DataOptions, Dataset, DataSource, DataSpec, Split, open_folder, to_uint8, to_unit
from .distributions import Bernoulli, Gaussian, Likelihood, Normal, Point, Posterior, log_normal
from .errors import UsageError, ZooError
from .evaluation import Classifier, Extractor
from .game import Row, Turn
from .hooks import hookimpl
from .interfaces import Autoencoder, Critic, Decoder, Encoder, Generator, Networks, Objective, Verdict
from .losses import fake, half_sse, l1, real, sse
from .networks import MLP, ConvTrunk, DeconvTrunk, critic, decoder, encoder, init_
from .optimisers import SGD, Adam, Optimiser, RMSprop
from .options import above, at_least, below, between, frozen, option, within
from .run import Trained, TrainedAutoencoder, load, train

__all__ = [
    "MLP",
    "SGD",
    "Adam",
    "Autoencoder",
    "Bernoulli",
    "Classifier",
    "ConvTrunk",
    "Critic",
    "DataOptions",
    "DataSource",
    "DataSpec",
    "Dataset",
    "Decoder",
    "DeconvTrunk",
    "Encoder",
    "Extractor",
    "Gaussian",
    "Generator",
    "Likelihood",
    "Networks",
    "Normal",
    "Objective",
    "Optimiser",
    "Point",
    "Posterior",
    "RMSprop",
    "Row",
    "Split",
    "Trained",
    "TrainedAutoencoder",
    "Turn",
    "UsageError",
    "Verdict",
    "ZooError",
    "__version__",
    "above",
    "at_least",
    "below",
    "between",
    "critic",
    "decoder",
    "encoder",
    "fake",
    "frozen",
    "half_sse",
    "hookimpl",
    "init_",
    "l1",
    "load",
    "log_normal",
    "open_folder",
    "option",
    "real",
    "sse",
    "to_uint8",
    "to_unit",
    "train",
    "within",
]

__version__: str
