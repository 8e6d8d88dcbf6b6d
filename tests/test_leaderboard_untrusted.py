"""The leaderboard with results of unknown origin: no markup injection, no access outside the folder, size limits."""

from __future__ import annotations

import base64
import html.parser
import io
import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from PIL import Image
from results_by_hand import failure, metrics, png, result, write

from zoo.leaderboard import build, to_html, to_json, to_markdown
from zoo.leaderboard.commands import check_command
from zoo.leaderboard.markdown import escaped
from zoo.leaderboard.thumbnails import pictures
from zoo.leaderboard.untrusted import RefusedError, name, note

NASTY = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "[click](javascript:alert(1))",
    "![x](https://example.org/x.png)",
    "<https://example.org>",
    "https://example.org/x",
    "www.example.org",
    "a | b | c",
    "`code` **bold** _it_ ~~no~~",
    "{{ 7*7 }}{% raw %}",
    "# head",
    "../../../etc/passwd",
    "&lt;b&gt;&amp;",
    "\\| \\",
]


class Tags(html.parser.HTMLParser):
    """The elements of a page and their attributes, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def nasty_result(text: str, seed: int = 0) -> dict[str, Any]:
    found = result(text, seed, options={"norm": text, text: 3})
    found["plugin"] = {"name": text, "package": text, "version": text}
    found["command"] = f"zoo run {shlex.quote(text)}"
    found["cost"]["device"] = text
    found["cost"]["parameters"] = {text: 1}
    found["scores"][text] = 1.0
    found["protocol_file"] = {"name": text, "version": 1, "digest": "0" * 64}
    found["card"] = {
        "summary": text,
        "paper": text,
        "game": [{"turn": text, "repeat": 2, "terms": [text], "rows": [{"networks": [text], "weights": {text: 1.0}}]}],
        "deviations": {text: text},
    }
    return found


@pytest.fixture
def nasty(tmp_path: Path) -> Path:
    """Every nasty text in every place that takes text."""
    for i, text in enumerate(NASTY):
        folder = write(tmp_path / f"r{i}" / ("<script>" if i % 2 else "a|b`"), nasty_result(text))
        metrics(folder / "metrics.jsonl", terms=(text,))
        write(tmp_path / f"f{i}", {**failure("vae", i), "reason": text})
        write(tmp_path / f"x{i}", {**result("vae", i), "dataset": text})
    write(tmp_path / "plain", result())
    return tmp_path


def test_nothing_of_a_name_or_a_note_becomes_markup_of_the_page(nasty):
    text = to_html(build([nasty]))
    tags = Tags(text)
    scripts = [attributes for tag, attributes in tags.found if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}]
    assert {tag for tag, _ in tags.found}.isdisjoint({"img", "iframe", "object", "link", "base", "form", "embed"})
    for tag, attributes in tags.found:
        assert not any(k.startswith("on") or k in ("style", "src", "xlink:href") for k in attributes), tag
        assert (attributes.get("href") or "#").startswith("#")
    data = text.partition('<script type="application/json" id="data">')[2].partition("</script>")[0]
    assert not set("<>&") & set(data)
    shown = json.loads(data)
    assert {card["summary"] for card in shown["cards"]} >= set(NASTY)


def test_the_page_allows_itself_nothing_but_its_own_script_and_style(nasty):
    import hashlib

    text = to_html(build([nasty]))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text).group(1)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        for body in re.findall(rf"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL):
            assert base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() in policy
    # The one address is a name space, which nobody asks for.
    assert set(re.findall(r"https?://[\w./]+", re.sub(r"https://example\.org[\w./]*", "", text))) == {
        "http://www.w3.org/2000/svg"
    }


def test_nothing_of_a_name_or_a_note_becomes_markup_of_the_markdown(nasty):
    text = to_markdown(build([nasty]))
    tokens = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable(["table", "strikethrough"]).parse(text)
    kinds = {child.type for token in tokens for child in (token, *(token.children or []))}
    assert kinds.isdisjoint({"html_block", "html_inline", "link_open", "image", "code_inline", "fence", "code_block"})
    assert kinds.isdisjoint({"s_open", "hr", "ordered_list_open", "blockquote_open"})
    assert {token.tag for token in tokens if token.type == "heading_open"} <= {"h1", "h2", "h3"}
    words = [token.content for token in tokens if token.type == "inline"]
    shown = {"".join(c.content for c in token.children) for token in tokens if token.type == "inline"}
    assert words
    for nasty_text in NASTY:
        assert nasty_text in shown  # each is there, whole, as text


def test_a_table_of_markdown_has_as_many_cells_as_its_head(nasty):
    for block in to_markdown(build([nasty])).split("\n\n"):
        if block.startswith("|"):
            cells = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in block.splitlines()}
            assert len(cells) == 1


@pytest.mark.slow
@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_escaped_text_is_text_and_stays_the_same(text):
    clean = " ".join(text.split())
    if not clean.isprintable():
        return
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(f"at {escaped(clean)}.")
    assert [t.type for t in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    assert {c.type for c in tokens[1].children} <= {"text", "text_special"}
    assert "".join(c.content for c in tokens[1].children) == f"at {clean}."


def test_the_json_is_json_whatever_the_names(nasty):
    found = json.loads(to_json(build([nasty])))
    assert {row["model"] for group in found["groups"] for row in group["rows"]} >= set(NASTY)


# ---- what is refused


def refused(tmp_path: Path, found: Any, *words: str) -> None:
    (tmp_path / "bad").mkdir(exist_ok=True)
    (tmp_path / "bad" / "result.json").write_text(found if isinstance(found, str) else json.dumps(found))
    write(tmp_path / "good", result())
    board = build([tmp_path])
    assert board.results == 1
    (left,) = board.left_out
    assert left.path == "bad"
    for word in words:
        assert word in left.reason
    for form in (to_markdown, to_json, to_html):
        assert len(form(board)) < 100_000


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[1]", "not an object"),
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "Infinity"),
        ("[" * 100_000, "nested"),
        ('{"seed": ' + "9" * 5000 + "}", "not JSON"),
    ],
)
def test_a_file_that_is_no_result_is_left_out_with_the_reason(tmp_path, text, word):
    refused(tmp_path, text, word)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"format": 2}, "format"),
        ({"model": "x" * 101}, "at most 100"),
        ({"model": ""}, "empty"),
        ({"model": "vae\n"}, "invisible"),
        ({"model": "va\x1b[31me"}, "invisible"),
        ({"model": "va\u200be"}, "invisible"),
        ({"model": "\u202eeav"}, "invisible"),
        ({"model": "\ud800"}, "invisible"),
        ({"model": ["vae"]}, "not text"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"seed": 10**400}, "seed"),
        ({"scores": []}, "scores"),
        ({"scores": {"FD-classifier": "1"}}, "not a number"),
        ({"scores": {"FD-classifier": 1e300}}, "finite"),
        ({"scores": {"KID": 1.0}}, "neither FID nor FD"),
        ({"scores": {f"s{i}": 1.0 for i in range(300)}}, "300 entries"),
        ({"protocol": None}, "not scored"),
        ({"protocol": {"extractor": "x"}}, "protocol"),
        ({"fingerprint": "0" * 64}, "fingerprint"),
        ({"plugin": None}, "plugin"),
        ({"settings": {}, "cost": 3}, "cost"),
        ({"command": "rm -rf ~"}, "does not begin with zoo run"),
        ({"command": "zoo run 'vae"}, "cannot be split"),
        ({"card": {"game": [{"terms": []}]}}, "rows is missing"),
        ({"provenance": {"finished": "yesterday"}}, "ISO 8601"),
        ({"options_changed": 3}, "options_changed"),
        ({"dataset": "mnist"}, "dataset does not match the protocol"),
    ],
)
def test_a_value_that_cannot_be_is_left_out_with_the_reason(tmp_path, changes, word):
    refused(tmp_path, {**result(), **changes}, word)


def test_a_large_file_is_not_read(tmp_path):
    refused(tmp_path, json.dumps({**result(), "padding": "x" * (5 << 20)}), "at most")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def places(found: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    return [at, *(place for key, value in inner for place in places(value, (*at, key)))]


PLACES = [place for place in places(result()) if place]


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(PLACES), JSON, st.booleans())
def test_whatever_stands_wherever_the_others_are_ranked(tmp_path, place, value, remove):
    found: Any = result("odd", 1)
    inner = found
    for key in place[:-1]:
        inner = inner[key]
    if remove and isinstance(inner, dict):
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    write(tmp_path / "good", result())
    (tmp_path / "odd").mkdir(exist_ok=True)
    (tmp_path / "odd" / "result.json").write_text(json.dumps(found))
    board = build([tmp_path])
    assert board.results + len(board.left_out) == 2
    assert any(row.model == "vae" for group in board.groups for row in group.rows)
    for form in (to_markdown, to_json, to_html):
        form(board).encode()


@pytest.mark.parametrize(
    "content", [b"\0\xff", b"[]\n{}\n", b'{"images": 1e999, "terms": {"a": 1}}\n', b'{"images": 3}']
)
def test_curves_that_are_none_are_passed_over(tmp_path, content):
    write(tmp_path, result())
    (tmp_path / "metrics.jsonl").write_bytes(content)
    assert "vae" in to_html(build([tmp_path]))


# ---- commands and texts


@pytest.mark.parametrize(
    "end",
    [
        "; touch made",
        "$(touch made)",
        "`touch made`",
        "&& touch made",
        "| touch made",
        "> made",
        "\ntouch made",
        "~ * ?",
        "#x",
    ],
)
def test_a_command_pasted_into_a_shell_is_one_call_of_zoo(tmp_path, end):
    """The shell is a real one: what is smuggled in must be harmless, since a broken guard would let it run."""
    import os
    import subprocess

    made = check_command(f"zoo run vae --seed 1 {end}")
    printed = subprocess.run(
        ["bash", "-c", f'zoo() {{ printf "%s\\0" "$@"; }}; {made}'],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PATH": os.defpath, "HOME": str(tmp_path)},
        timeout=20,
    ).stdout.split("\0")
    assert printed[:4] == ["run", "vae", "--seed", "1"]
    assert printed[4:-1] == shlex.split(end.replace("\n", " "))
    assert not list(tmp_path.iterdir())


def test_names_that_look_alike_are_no_names_and_notes_are_cleaned():
    assert name("vae-größe 変", "model") == "vae-größe 変"
    for bad in ("a\u200bb", "a\u00a0", "a\u0301\u0301\u0301", "\ufeffa", "a\u2028b"):
        with pytest.raises(RefusedError):
            name(bad, "model")
    assert note("a\u202eb\n\tc\x00", "note") == "a b c"
    assert len(note("x" * 10_000, "note")) == 600


# ---- pictures


def run_with(tmp_path: Path):
    write(tmp_path / "run", result())
    board = build([tmp_path / "run"])
    return board.groups[0].rows[0].runs[0]


def decoded(picture: tuple[int, int, str]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(picture[2])))


def test_a_picture_is_written_anew_without_what_else_its_file_held(tmp_path):
    (tmp_path / "run").mkdir()
    source = png(tmp_path / "run" / "samples.png", text="<script>alert(1)</script>")
    found = pictures(run_with(tmp_path), 50_000)["samples"]
    assert found[:2] == (60, 40)
    assert decoded(found).tobytes() == Image.open(source).tobytes()
    assert b"script" not in base64.b64decode(found[2])
    assert b"tEXt" not in base64.b64decode(found[2])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "1", "LA", "I;16"])
def test_pictures_of_every_kind_are_shown(tmp_path, mode):
    (tmp_path / "run").mkdir()
    Image.new(mode if mode != "P" else "RGB", (30, 20), 1).convert(mode).save(tmp_path / "run" / "samples.png")
    found = pictures(run_with(tmp_path), 50_000)["samples"]
    assert decoded(found).size == (30, 20)


def test_a_picture_too_large_for_its_allowance_is_made_smaller_and_coarser(tmp_path):
    (tmp_path / "run").mkdir()
    noise = Image.frombytes("L", (800, 600), os.urandom(480_000))
    noise.save(tmp_path / "run" / "samples.png")
    found = pictures(run_with(tmp_path), 5_000)["samples"]
    small = decoded(found)
    assert found[:2] == (800, 600)
    assert small.size == (200, 150)
    assert len(set(small.convert("L").tobytes())) <= 16


def test_the_half_of_doubled_pixels_is_exact(tmp_path):
    (tmp_path / "run").mkdir()
    fine = Image.frombytes("L", (350, 350), os.urandom(350 * 350))
    fine.resize((700, 700), Image.Resampling.NEAREST).save(tmp_path / "run" / "samples.png")
    found = pictures(run_with(tmp_path), 1_000_000)["samples"]
    whole = decoded(found)
    assert whole.size == (700, 700)
    halved = decoded(pictures(run_with(tmp_path), 125_000)["samples"])
    assert halved.size == (350, 350)
    assert halved.tobytes() == fine.tobytes()


def test_only_ordinary_files_of_the_runs_own_folder_are_opened(tmp_path):
    secret = png(tmp_path / "secret.png")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "samples.png").symlink_to(secret)
    os.mkfifo(tmp_path / "run" / "neighbors.png")
    (tmp_path / "run" / "reconstructions.png").mkdir()
    png(tmp_path / "run" / "other.png")
    assert pictures(run_with(tmp_path), 50_000) == {}


def test_a_result_behind_a_link_is_left_out_and_folders_behind_links_are_not_entered(tmp_path):
    write(tmp_path / "outside", result("gan"))
    write(tmp_path / "in" / "a", result())
    (tmp_path / "in" / "b").mkdir()
    (tmp_path / "in" / "b" / "result.json").symlink_to(tmp_path / "outside" / "result.json")
    (tmp_path / "in" / "c").symlink_to(tmp_path / "outside")
    (tmp_path / "in" / "d").mkdir()
    os.mkfifo(tmp_path / "in" / "d" / "result.json")
    board = build([tmp_path / "in"])
    assert [row.model for group in board.groups for row in group.rows] == ["vae"]
    assert [(left.path, "link" in left.reason) for left in board.left_out] == [("b", True), ("d", False)]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a" + bytes(50),
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\xff\xff\xff\xff\xff\xff\xff\xff\x08\0\0\0\0\0\0\0\0",
    ],
)
def test_what_is_no_picture_is_not_shown(tmp_path, content):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "samples.png").write_bytes(content)
    assert pictures(run_with(tmp_path), 50_000) == {}
    assert "vae" in to_html(build([tmp_path]))


@pytest.mark.parametrize("kind", ["GIF", "JPEG", "BMP", "TIFF"])
def test_only_png_is_decoded_whatever_the_file_is_called(tmp_path, kind):
    (tmp_path / "run").mkdir()
    Image.new("L", (30, 20), 1).save(tmp_path / "run" / "samples.png", kind)
    assert pictures(run_with(tmp_path), 50_000) == {}


def test_a_small_file_of_many_pixels_is_not_unpacked(tmp_path):
    (tmp_path / "run").mkdir()
    Image.new("1", (9000, 9000)).save(tmp_path / "run" / "samples.png")
    assert pictures(run_with(tmp_path), 50_000) == {}
