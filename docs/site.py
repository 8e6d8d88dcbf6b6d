"""Hooks of the site's build, ``mkdocs build --strict``: what lies beside ``docs/`` becomes part of it, with its links.

In the repository a page links to ``../benchmarks/records/x.json`` and README.md to ``docs/models.md``; on the site both
are below one root.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.zh-CN.md": "zh.md",
    "CHANGELOG.md": "changelog.md",
}
BESIDE = (
    "benchmarks/**/*.json",
    "benchmarks/**/*.toml",
    "benchmarks/**/*.py",
    "benchmarks/**/*.html",
    "benchmarks/**/*.md",
)
SOURCES = ("plugins/**/*.py", "zoo/**/*.py", "tests/*.py")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the root, and the records that pages link to."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for pattern in (*BESIDE, *SOURCES):
        for path in sorted(ROOT.glob(pattern)):
            if "results" not in path.parts:
                files.append(File.generated(config, str(path.relative_to(ROOT)), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links to where their targets are on the site."""
    from_root = page.file.src_uri in PAGES.values()

    def moved(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        target = target.removeprefix("docs/") if from_root else target.removeprefix("../")
        return f"]({PAGES.get(target, target)}{anchor})"

    return re.sub(r"\]\(((?!https?:|#)[^)#\s]+)(#[^)\s]*)?\)", moved, markdown)
