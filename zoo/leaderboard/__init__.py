"""The leaderboard: ranks results of any origin in one table per protocol, as Markdown, JSON or HTML.

Nothing here imports torch: results are JSON. They are untrusted, so every value is checked when it is read
(:mod:`zoo.leaderboard.untrusted`) and escaped when it is written.
"""

from __future__ import annotations

from zoo.leaderboard.document import to_json
from zoo.leaderboard.markdown import to_markdown
from zoo.leaderboard.pack import pack
from zoo.leaderboard.page import to_html
from zoo.leaderboard.ranking import Leaderboard, LeaderboardGroup, LeaderboardRow, build

__all__ = ["Leaderboard", "LeaderboardGroup", "LeaderboardRow", "build", "pack", "to_html", "to_json", "to_markdown"]
