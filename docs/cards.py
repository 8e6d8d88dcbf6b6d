"""Writes ``models.md``, the cards of all bundled models, from the models themselves: ``python docs/cards.py``."""

from __future__ import annotations

import inspect
from pathlib import Path

from zoo.game import rows_of, term_names
from zoo.interfaces import Objective
from zoo.options import options_of
from zoo.registry import registry

HEAD = """# The models

Generated from the plugins by `python docs/cards.py`; `zoo show MODEL` prints the same. A row of a game says
what a network minimises, with what weight. How the models are related: [family.md](family.md).
"""


def card(name: str, model: type[Objective]) -> str:
    """One model's card in Markdown."""
    summary = (inspect.getdoc(model) or "").partition("\n")[0]
    parts = [f"## `{name}`", f"{summary}", f"*{model.paper}*"]
    objective = model()
    for turn in objective.turns():
        names = term_names(turn)
        if turn.name != "step":
            parts.append(f"Turn *{turn.name}*" + (f", {turn.repeat} times a step:" if turn.repeat > 1 else ":"))
        lines = ["| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
        for row in rows_of(turn.players):
            weights = dict(row.weights)
            cells = [f"{weights[n]:g}".replace("-", "−") if n in weights else "·" for n in names]
            lines += [f"| {network} | " + " | ".join(cells) + " |" for network in row.networks]
        parts.append("\n".join(lines))
    lines = ["| option | default | what | allowed |", "|---|---|---|---|"]
    for info in options_of(model).values():
        what = info.help.replace("|", "\\|")
        lines.append(f"| `{info.flag}` | {info.default} | {what} | {info.allows} |")
    parts.append("\n".join(lines))
    if model.deviations:
        parts.append("Deviations from the paper:")
        parts.append("\n".join(f"- {what}: {why}." for what, why in model.deviations.items()))
    return "\n\n".join(parts)


def page() -> str:
    """The whole page."""
    bundled = {n: e.value for n, e in registry().models.items() if e.plugin.package == "latent-zoo"}
    return "\n\n".join([HEAD.strip(), *(card(n, bundled[n]) for n in sorted(bundled))]) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("models.md").write_text(page(), encoding="utf-8")
