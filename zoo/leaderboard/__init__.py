"""The leaderboard: finished runs grouped by protocol and ranked, in three formats.

Nothing here imports torch: results are read as the JSON that they are. They come from strangers, so every value is
checked on the way in (:mod:`zoo.leaderboard.untrusted`) and escaped on the way out.
"""

from __future__ import annotations

from zoo.leaderboard.document import to_json
from zoo.leaderboard.markdown import to_markdown
from zoo.leaderboard.pack import pack
from zoo.leaderboard.page import to_html
from zoo.leaderboard.ranking import Leaderboard, LeaderboardGroup, LeaderboardRow, build

__all__ = ["Leaderboard", "LeaderboardGroup", "LeaderboardRow", "build", "pack", "to_html", "to_json", "to_markdown"]
