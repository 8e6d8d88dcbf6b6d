"""Conversion of the names that zoo 0.1.0 stored in run folders to today's names."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

__all__ = [
    "RENAMED_OPTIONS",
    "UNUSED_OPTIONS",
    "convert_metrics_line",
    "convert_options",
    "convert_protocol",
    "convert_result",
    "convert_settings",
    "picture_file",
]

RENAMED_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "aae": {"regularise_lr": "regularize_lr"},
    "avb": {"binarise": "binarize"},
    "beta-vae": {"binarise": "binarize"},
    "iwae": {"binarise": "binarize"},
    "vae": {"binarise": "binarize"},
    "vaegan": {"raw": "pre_norm"},
}
"""New names of options by model and old name."""

UNUSED_OPTIONS: Mapping[str, Mapping[str, Any]] = {"vae-wgan-gp": {"beta1": 0.0}}
"""Options that 0.1.0 stored without using them, by model, with the values that it used instead."""

_TRANSPOSED = ("conv", "conv-transposed")
"""Family whose decoders of images larger than 28 pixels have changed, and the family that has the old ones."""
_SMALL_IMAGES = ("digits", "emnist", "fashion-mnist", "kmnist", "mnist")
"""Data sets of at most 28 pixels, on which both families are the same."""

_EXTRACTOR = ("classifier", "classifier-v1", "3f5e68becd3ad72cb4d2495d13f9e77cd2b353408073ceb86c5f7f7cb1cbd7bc")
"""Old and new name of an extractor, and the digest of its weights; another extractor has the old name now."""
_TURNS = {
    "aae": {"judge": "critic", "regularise": "regularize"},
    "avb": {"judge": "critic"},
    "wae-gan": {"judge": "critic"},
}
_SCORES = {
    "memorisation": "memorization",
    "Bernoulli, binarised": "Bernoulli, binarized",
    "Bernoulli, grey": "Bernoulli, gray",
}
_PICTURES = {"neighbors": "neighbours"}


def convert_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run, without its model's options, under today's names."""
    # The extractor ``auto`` of 0.1.0 has no name of its own: it depends on the images.
    renamed = settings.get("extractor") == _EXTRACTOR[0] and _is_of_0_1_0(settings)
    return {**settings, "extractor": _EXTRACTOR[1]} if renamed else dict(settings)


def convert_options(
    model: str, options: Mapping[str, Any], settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Options of a model under today's names.

    Args:
        model: Name of the model.
        options: Values by name, old or new.
        settings: The stored settings of the run, by which those of 0.1.0 are recognized: their unused options get the
            values that were used, their networks the family that has them. None to keep both as they are.
    """
    renamed = RENAMED_OPTIONS.get(model, {})
    # With both names present the old one stays, to be reported as unknown.
    found = {new if (new := renamed.get(k, k)) == k or new not in options else k: v for k, v in options.items()}
    if settings is not None and _is_of_0_1_0(settings):
        found |= {k: v for k, v in UNUSED_OPTIONS.get(model, {}).items() if k in found}
        if found.get("family") == _TRANSPOSED[0] and settings.get("dataset") not in _SMALL_IMAGES:
            found["family"] = _TRANSPOSED[1]
    return found


def _is_of_0_1_0(settings: Mapping[str, Any]) -> bool:
    # A run stores all its settings, unlike a handwritten file; lr_schedule came after 0.1.0.
    return {"crop", "device", "extractor", "checkpoint_seconds"} <= set(settings) and "lr_schedule" not in settings


def convert_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """Content of ``result.json``, ``failed.json`` or ``eval-EXTRACTOR.json`` under today's names.

    Entries of the wrong type are returned unchanged. The protocol is as well, because its stored fingerprint is that of
    the stored entries; see :func:`convert_protocol`.
    """
    found = dict(result)
    model, settings, scores = found.get("model"), found.get("settings"), found.get("scores")
    if isinstance(scores, dict) and "score_info" not in found:
        renamed = isinstance(protocol := found.get("protocol"), dict) and _has_renamed_extractor(protocol)
        found["scores"] = {_score_name(k, renamed): v for k, v in scores.items()}
    if not (isinstance(model, str) and isinstance(settings, dict) and isinstance(settings.get("options"), dict)):
        return found
    options = settings["options"]
    found["settings"] = {**convert_settings(settings), "options": convert_options(model, options, settings)}
    unused = UNUSED_OPTIONS.get(model, {}) if _is_of_0_1_0(settings) else {}
    if isinstance(changed := found.get("options_changed"), dict):
        found["options_changed"] = {k: v for k, v in convert_options(model, changed).items() if k not in unused}
    transposed = found["settings"]["options"].get("family") != options.get("family")
    if transposed and isinstance(changed, dict):
        found["options_changed"] |= {"family": _TRANSPOSED[1]}
    if isinstance(command := found.get("command"), str):
        found["command"] = _convert_command(command, RENAMED_OPTIONS.get(model, {}), unused)
        if transposed:
            found["command"] += f" --family {_TRANSPOSED[1]}"
    if isinstance(card := found.get("card"), dict) and isinstance(game := card.get("game"), list):
        found["card"] = {**card, "game": [_convert_turn(model, turn) for turn in game]}
    return found


def _convert_turn(model: str, turn: Any) -> Any:
    if isinstance(turn, dict) and isinstance(name := turn.get("turn"), str):
        return {**turn, "turn": _TURNS.get(model, {}).get(name, name)}
    return turn


def _score_name(name: str, renamed_extractor: bool) -> str:
    for old, new in _SCORES.items():
        name = name.replace(old, new)
    old, new, _ = _EXTRACTOR
    return re.sub(rf"\b(FD|KID)-{old}(?![\w-])", rf"\1-{new}", name) if renamed_extractor else name


def _has_renamed_extractor(protocol: Mapping[str, Any]) -> bool:
    return (protocol.get("extractor"), protocol.get("extractor_digest")) == (_EXTRACTOR[0], _EXTRACTOR[2])


def _convert_command(command: str, renamed: Mapping[str, str], unused: Mapping[str, Any]) -> str:
    words, skip = [], False
    for word in command.split(" "):
        flag, equals, value = word.partition("=")
        if skip:
            skip = False
        elif flag in {_flag(name) for name in unused}:
            skip = not equals
        else:
            for old, new in renamed.items():
                for prefix in ("", "no-"):
                    flag = _flag(prefix + new) if flag == _flag(prefix + old) else flag
            words.append(flag + equals + value)
    return " ".join(words)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def convert_metrics_line(model: str, line: Mapping[str, Any]) -> dict[str, Any]:
    """A line of ``metrics.jsonl``, whose terms and gradients begin with the name of their turn, under today's names."""
    turns = _TURNS.get(model, {})
    found = dict(line)
    for key in ("terms", "gradients") if turns else ():
        if isinstance(entries := found.get(key), dict):
            parts = ((name.partition("/"), value) for name, value in entries.items())
            found[key] = {turns.get(turn, turn) + slash + rest: value for (turn, slash, rest), value in parts}
    return found


def convert_protocol(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of an evaluation protocol under today's names and in today's words.

    The words are part of the fingerprint: scores of 0.1.0 remain comparable to those measured now.
    """
    found = dict(entries)
    if "quantization" not in found and "quantisation" in found:
        found["quantization"] = found.pop("quantisation")
    if _has_renamed_extractor(found):
        found["extractor"] = _EXTRACTOR[1]
    if found.get("extractor") == _EXTRACTOR[1] and isinstance(channels := found.get("channels"), str):
        found["channels"] = channels.replace("3 to grey by ITU-R 601 luma", "3 to gray by ITU-R 601 luma")
    if isinstance(metrics := found.get("metrics"), dict):
        found["metrics"] = metrics = {"memorization" if k == "memorisation" else k: v for k, v in metrics.items()}
        if isinstance(probe := metrics.get("probe"), str):
            metrics["probe"] = probe.replace("standardised codes", "standardized codes")
    return found


def picture_file(name: str, files: Collection[str]) -> str:
    """File name of a picture such as ``neighbors``: its name of 0.1.0 if ``files`` has only that, else today's."""
    file, older = f"{name}.png", f"{_PICTURES.get(name, name)}.png"
    return older if older in files and file not in files else file
