"""Self-contained HTML pages: templates, embedded styles and scripts with their hashes, embedded data."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from zoo.weights import format_weight

__all__ = ["embed_sources", "environment", "escape_json", "read_asset", "read_script", "source_hash"]


def environment(load: Callable[[str], str]) -> jinja2.Environment:
    """Environment of templates in which every value is escaped, with the filter ``weight`` for game tables.

    Args:
        load: Returns the text of a template by name.
    """
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(load),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters["weight"] = format_weight
    return made


def read_asset(package: str, name: str) -> str:
    """Text of a file in a package."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def read_script(package: str, name: str) -> str:
    """Text of a script with the shared scripts that its lines ``// include FILE`` name."""
    shared = re.compile(r"^ *// include (\w+\.js)\n", flags=re.MULTILINE)
    return shared.sub(lambda found: read_asset("zoo.leaderboard", found[1]), read_asset(package, name))


def source_hash(text: str) -> str:
    """Hash of an embedded style or script, as a Content-Security-Policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def embed_sources(style: str, script: str, no_script_style: str) -> dict[str, Markup]:
    """Entries of a page's template for its embedded sources and their Content-Security-Policy.

    Args:
        style: Style sheet.
        script: Script.
        no_script_style: Further style where scripts are off.
    """
    return {
        "style": Markup(style),
        "script": Markup(script),
        "no_script_style": Markup(no_script_style),
        "style_hashes": Markup(" ".join([source_hash(style), source_hash(no_script_style)])),
        "script_hash": Markup(source_hash(script)),
    }


def escape_json(value: Any) -> str:
    """JSON for a script element."""
    # In a script element only `</script` and `<!--` have a meaning; without `<` there is neither.
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text
