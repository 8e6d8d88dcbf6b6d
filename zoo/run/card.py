"""The model card of a run: README.md for the Hugging Face Hub, from ``result.json``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from zoo.data import DataSpec
from zoo.errors import UsageError
from zoo.metrics.score_lookup import stored_infos
from zoo.weights import format_weight

__all__ = ["make_card"]

_TASK = "unconditional-image-generation"


def make_card(result: Mapping[str, Any], data: DataSpec, name: str, *, license: str | None, pictures: bool) -> str:
    """Write the model card of a run.

    Args:
        result: The content of ``result.json``.
        data: The data set.
        name: Name of the repository, ``user/name``.
        license: SPDX identifier of the license of the weights; None leaves the field out, for the user to add.
        pictures: Whether ``samples.png`` is beside the card.

    Raises:
        UsageError: If huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import EvalResult, ModelCardData
    except ImportError:
        raise UsageError("hf: needs huggingface_hub; pip install 'latent-zoo[hub]'") from None
    model, dataset, protocol = result["model"], result["dataset"], result["protocol"] or {}
    fingerprint = (result.get("fingerprint") or "")[:16]
    ranking = next(((k, v) for k, v in result["scores"].items() if v is not None), None)
    head = ModelCardData(
        model_name=name.partition("/")[2],
        library_name="latent-zoo",
        pipeline_tag=_TASK,
        license=license,
        tags=["latent-zoo", model],
        eval_results=[
            EvalResult(
                task_type=_TASK,
                dataset_type=dataset,
                dataset_name=dataset,
                dataset_split=protocol.get("reference_split"),
                metric_type=ranking[0].lower(),
                metric_name=f"{ranking[0]} (protocol {fingerprint})",
                metric_value=ranking[1],
            )
        ]
        if ranking
        else None,
    )
    card, cost, provenance = result["card"], result["cost"], result["provenance"]
    plugin = result["plugin"]
    shape = "×".join(map(str, data.shape))
    parts = [
        f"# {model} on {dataset}",
        f"{card['summary']} {card['paper']}".strip(),
        "![Samples](samples.png)" if pictures else "",
        f"Images: {shape} (channels, height, width), in [−1, 1]. "
        + (f"Classes: {', '.join(data.classes[:20])}." if data.classes else "No classes."),
        "## Use",
        f"```sh\npip install latent-zoo{'' if plugin['package'] == 'latent-zoo' else ' ' + plugin['package']}\n```",
        f'```python\nimport zoo\n\nmodel = zoo.load("hf:{name}")\nimages = model.sample(64)\n```',
        "## Scores",
        *_scores(result, protocol, fingerprint),
        "## Game",
        "Each network minimizes the weighted sum of the terms in its row.",
        *(_turn(turn) for turn in card["game"]),
        "## Training",
        f"```sh\n{result['command']}\n```",
        f"{cost['images_seen']:,} images in {cost['seconds']:,.0f} s on {cost['device']}; zoo {provenance['zoo']}, "
        f"torch {provenance['torch']}, plugin {plugin['name']} of {plugin['package']} {plugin['version']}.",
    ]
    if card["deviations"]:
        listed = "\n".join(f"- {_cell(what)}: {_cell(why)}" for what, why in card["deviations"].items())
        parts += ["Differences between the defaults and the paper:", listed]
    return f"---\n{head.to_yaml().strip()}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _scores(result: Mapping[str, Any], protocol: Mapping[str, Any], fingerprint: str) -> list[str]:
    infos = stored_infos(result["scores"], result.get("score_info"))
    rows = []
    for name, value in result["scores"].items():
        if value is None or " standard error" in name:
            continue
        error = result["scores"].get(f"{name} standard error")
        rows.append((name, f"{value:.4g}" + (f" ± {error:.2g}" if error is not None else ""), infos[name].better))
    if not rows:
        return ["The run was not scored."]
    return [
        _table(("Score", "Value", "Better"), rows),
        f"Protocol `{fingerprint}`: extractor {protocol['extractor']}, {protocol['n_generated']:,} generated against "
        f"{protocol['n_real']:,} real images of the {protocol['reference_split']} split. Scores of other protocols "
        f"cannot be compared with these. One seed ({result['seed']}).",
    ]


def _turn(turn: Mapping[str, Any]) -> str:
    rows = [
        [
            ", ".join(row["networks"]),
            *(format_weight(row["weights"][t]) if t in row["weights"] else "" for t in turn["terms"]),
        ]
        for row in turn["rows"]
    ]
    return _table((", ".join([turn["turn"], *turn.get("notes", ())]), *turn["terms"]), rows)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(str(text).replace("|", "\\|").split())
