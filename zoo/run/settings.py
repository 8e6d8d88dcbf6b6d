"""Settings of a run, their TOML form, and their checks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import tomli_w

from zoo import options
from zoo.accelerators import parse_kernels
from zoo.compatibility import convert_options, convert_settings
from zoo.data.dataset_names import public_name, stem
from zoo.data.image_format import ImageFormat, parse_size
from zoo.data.memory_limit import parse_bytes
from zoo.errors import UsageError, unknown_name
from zoo.health import parse_stop_on
from zoo.optimizers import Optimization, make_schedule
from zoo.options import above, at_least, below, between, frozen, option, registered
from zoo.reading import read_toml

__all__ = ["RESULT_NEUTRAL_SETTINGS", "ImageOptions", "RunSettings", "differences", "public_settings"]


@frozen
class ImageOptions:
    """The image format as settings of a run and of a protocol file: base class of both."""

    image_size: str | None = option(None, "Resize images to N or HxW pixels; default: the data set's own size.")
    crop: Literal["center", "none"] = option(
        "center", "How to fit another aspect ratio: center crops the image, none stretches it."
    )
    channels: int | None = option(None, "Channels: 1 (gray) or 3 (color); default: that of the data set.")

    @property
    def image_format(self) -> ImageFormat:
        """The format that these settings ask for.

        Raises:
            UsageError: If a value is not allowed.
        """
        return ImageFormat(parse_size(self.image_size), self.channels, self.crop)


@frozen
class SourceOptions:
    """Source of the images of a run: base class of `RunSettings`."""

    dataset: str = option(
        "digits", "Data set: a name from `zoo list datasets`, folder:PATH for your own images, or hf:NAME."
    )
    data_dir: str | None = option(None, "Torchvision-style data root; default $ZOO_DATA.")
    data_memory: str | None = option(
        None,
        "Largest data set to keep in memory, such as 2GiB; others are mapped from disk. Default: half of what is free.",
    )


@frozen
class RunSettings(ImageOptions, SourceOptions):
    """Settings of a run: all that determines its result, together with ``model`` and its ``options``."""

    epochs: int | None = option(
        None,
        "Passes over the training images, 0 to score untrained networks; default: that of the data set.",
        at_least(0),
    )
    images: int | None = option(
        None, "Training images to process in total, counting repeats; replaces --epochs.", at_least(1)
    )
    batch: int = option(64, "Images per batch.", at_least(2))
    seed: int = option(0, "Seed of weights, noise and data order.", between(0, 2**32 - 1))
    device: Literal["auto", "cpu", "cuda"] = option("auto", "Device to train on.")
    precision: Literal["fp32", "bf16", "auto"] = option(
        "fp32", "Precision; bf16: networks under autocast, losses in float32; auto: the faster one in a short trial."
    )
    compile: bool = option(False, "Compile each turn's terms and gradients together: minutes once, then faster steps.")
    kernels: str = option(
        "auto",
        "CPU kernels: torch (its own), auto (those measured as faster here), rules (those expected to be), or names.",
    )
    graphs: bool = option(True, "On a GPU, capture whole steps as CUDA graphs.")
    lr_schedule: Literal["model", "constant", "linear", "cosine", "multistep"] = option(
        "model", "Learning-rate schedule of every optimizer; model: as the model or its preset defines it."
    )
    lr_milestones: str | None = option(None, "For multistep: ascending fractions of training, such as 0.5,0.75.")
    lr_gamma: float = option(0.1, "For multistep: factor at each milestone.", above(0))
    lr_warmup: float = option(0.0, "Fraction of training with a linear warm-up.", between(0, 1, inclusive="left"))
    clip_grad_norm: float | None = option(None, "Largest gradient norm of one player.", above(0))
    ema_decay: float | None = option(
        None,
        "Save and score an exponential moving average of the weights with this decay per step.",
        above(0),
        below(1),
    )
    extractor: str = option("auto", "Features for the Fréchet distance: auto, none, or from `zoo list extractors`.")
    samples: int | None = option(
        None,
        "Generated images to score; default: 10,000, or the number of training images if fewer.",
        between(2, 1_000_000),
    )
    stop_on: str | None = option(
        None,
        "Findings about the health of the run that end it: any, collapse, nan, mode-collapse, posterior-collapse, "
        "critic-saturation, exploding-gradients, dead-units, separated by commas, or none.",
    )
    validation: float | None = option(
        None,
        "Fraction of the training images to hold out; they replace the test images in scores and pictures.",
        above(0),
        below(1),
    )
    checkpoint_seconds: float = option(30.0, "Seconds between checkpoints.", at_least(0))
    tracker: str | None = option(
        None,
        "Trackers to log to, from `zoo list trackers`: separated by commas, or one per flag.",
        registered("tracker", "trackers", several=True),
    )
    snapshots: int = option(
        14, "Moments of training whose samples are kept, more of them early; 0 keeps none.", between(0, 100)
    )

    model: str = ""
    options: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)
    protocol: str = ""
    """``NAME@VERSION#DIGEST`` of the protocol file for runs of ``zoo bench``; else empty."""

    def __attrs_post_init__(self) -> None:
        if self.images is not None and self.epochs is not None:
            raise UsageError(
                f"images: {self.images} is not allowed together with epochs {self.epochs}; omit one of them"
            )
        if self.lr_milestones is not None and self.lr_schedule != "multistep":
            raise UsageError("lr_milestones: has no effect without lr_schedule multistep")
        self.optimization()  # checks the milestones
        parse_kernels(self.kernels)
        parse_stop_on(self.stop_on)
        if self.data_memory is not None:
            parse_bytes(self.data_memory, "data_memory")

    def optimization(self) -> Optimization:
        """Schedule, clipping and weight average of the run, for any model.

        Raises:
            UsageError: for milestones that are not ascending fractions in (0, 1).
        """
        schedule = None
        if self.lr_schedule != "model":
            schedule = make_schedule(self.lr_schedule, _fractions(self.lr_milestones), self.lr_gamma)
        return Optimization(schedule, self.lr_warmup, self.clip_grad_norm, self.ema_decay)

    def default_folder(self) -> Path:
        """``runs/MODEL-DATASET-seedK``."""
        return Path("runs") / f"{self.model}-{stem(self.dataset)}-seed{self.seed}"

    def to_table(self) -> dict[str, Any]:
        """The settings by name; the model's options under ``options``. :meth:`from_table` reads them back."""
        protocol = {"protocol": self.protocol} if self.protocol else {}
        return {"model": self.model, **protocol, **options.option_values(self), "options": dict(self.options)}

    def to_toml(self) -> str:
        """The content of ``config.toml``; :meth:`from_file` reads it back."""
        return "# zoo run --config THIS_FILE repeats this run.\n" + tomli_w.dumps(self.to_table())

    @classmethod
    def from_file(cls, path: Path) -> RunSettings:
        """Read a ``config.toml``.

        Raises:
            UsageError: If the file is missing, is not TOML, or has an unknown setting.
        """
        return cls.from_table(read_toml(path, "config"), str(path))

    @classmethod
    def from_table(cls, table: Mapping[str, Any], where: str = "settings") -> RunSettings:
        """Settings from a mapping such as :meth:`to_table` returns, or as zoo 0.1.0 wrote it.

        Raises:
            UsageError: If a setting is unknown or not allowed.
        """
        table = dict(table)
        model, chosen, protocol = table.pop("model", ""), table.pop("options", {}), table.pop("protocol", "")
        if not isinstance(model, str) or not isinstance(chosen, Mapping) or not isinstance(protocol, str):
            raise UsageError(f"{where}: 'model' and 'protocol' must be strings and 'options' a table")
        known = options.get_options(cls)
        for name in table:
            if name not in known:
                raise UsageError(f"{where}: {unknown_name('setting', name, [*known, 'model', 'options'])}")
        chosen = convert_options(model, chosen, table)
        return cls(model=model, options=chosen, protocol=protocol, **convert_settings(table))


def _fractions(text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in (text or "").split(",") if part.strip())
    except ValueError:
        raise UsageError(
            f"lr_milestones: {text!r} is not allowed; must be fractions of training, such as 0.5,0.75"
        ) from None


RESULT_NEUTRAL_SETTINGS = ("checkpoint_seconds", "data_dir", "data_memory", "snapshots", "stop_on", "tracker")
"""Settings that do not affect the result."""


def differences(old: RunSettings, new: RunSettings) -> list[str]:
    """Describe the settings in which two runs differ, except ``RESULT_NEUTRAL_SETTINGS``."""
    a, b = ({"model": s.model, **options.option_values(s), **s.options} for s in (old, new))
    keys = [k for k in {**a, **b} if k not in RESULT_NEUTRAL_SETTINGS and a.get(k) != b.get(k)]
    if "auto" in (old.kernels, new.kernels):  # not resolved, or of a run before the setting existed
        keys = [k for k in keys if k != "kernels"]
    return [f"{k} {a.get(k)!r}, here {b.get(k)!r}" for k in keys]


def public_settings(settings: RunSettings) -> dict[str, Any]:
    """The settings without paths and trackers of this machine, for publication."""
    values = options.option_values(settings)
    for name in ("data_dir", "tracker"):
        values.pop(name, None)
    return {**values, "dataset": public_name(settings.dataset), "options": dict(settings.options)}
