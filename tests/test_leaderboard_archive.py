"""Archives of results: what is packed, that it gives the same tables, and that hostile archives are refused."""

from __future__ import annotations

import io
import json
import lzma
import os
import tarfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from results_by_hand import failure, metrics, png, result, write

from zoo.leaderboard import archive, build, pack, to_html, to_json
from zoo.leaderboard.archive import read_archive, write_archive
from zoo.leaderboard.untrusted import RefusedError


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """Three finished runs and a failed one, with pictures and curves."""
    root = tmp_path / "grid"
    for seed in range(3):
        folder = write(root / "digits" / "vae" / f"seed{seed}", result("vae", seed, 5.0 + seed))
        metrics(folder / "metrics.jsonl", lines=200)
        png(folder / "samples.png")
        png(folder / "neighbours.png")  # its name in 0.1.0
        png(folder / "other.png")
        (folder / "model.safetensors").write_bytes(b"weights")
    write(root / "digits" / "gan" / "seed0", failure("gan", 0))
    return root


def tar(*entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as written:
        for entry, content in entries:
            entry.size = len(content)
            written.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def entry(path: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(path)
    made.type, made.linkname = kind, target
    return made


RESULT = json.dumps(result()).encode()


# ---- what is packed


def test_an_archive_gives_the_tables_of_the_folder_that_it_was_made_of(grid, tmp_path):
    packed = tmp_path / "kept.tar.xz"
    packed.write_bytes(pack([grid]))
    before, after = build([grid]), build([packed])
    assert before.results == 4
    assert to_json(after) == to_json(before)
    assert to_html(after) == to_html(before)
    assert to_html(after).count("iVBORw0KGgo") == 2


def test_equal_results_give_equal_bytes(grid):
    content = pack([grid])
    for folder, _, files in os.walk(grid):
        for file in files:
            os.utime(Path(folder) / file, (0, 0))
            os.chmod(Path(folder) / file, 0o600)
    assert pack([grid]) == content


def test_an_archive_of_an_archive_is_the_same(grid, tmp_path):
    (tmp_path / "a.tar.xz").write_bytes(content := pack([grid]))
    assert pack([tmp_path / "a.tar.xz"]) == content


def test_results_are_unchanged_curves_thinned_and_only_shown_pictures_packed(grid):
    files = read_archive(pack([grid]))
    results = {path for path in files if path.endswith(".json")}
    assert results == {*(f"digits/vae/seed{seed}/result.json" for seed in range(3)), "digits/gan/seed0/failed.json"}
    assert all(files[path] == (grid / path).read_bytes() for path in results)
    pictures = {path for path in files if path.endswith(".png")}
    assert pictures == {"digits/vae/seed1/samples.png", "digits/vae/seed1/neighbours.png"}  # the median's
    lines = [json.loads(line) for line in files["digits/vae/seed0/metrics.jsonl"].splitlines()]
    assert len(lines) == 40
    assert lines[-1]["step"] == 200
    assert set(lines[-1]) == {"step", "images", "terms"}
    assert not any("safetensors" in path for path in files)


def test_an_archive_is_found_below_a_folder_by_its_name(grid, tmp_path):
    board = tmp_path / "board"
    (board / "quick").mkdir(parents=True)
    (board / "quick" / archive.ARCHIVE).write_bytes(pack([grid]))
    (board / "quick" / "unknown.tar.xz").write_bytes(b"not read")
    write(board / "new", result("aae"))
    found = build([board])
    assert (found.results, found.left_out) == (5, [])
    paths = {run.path for group in found.groups for row in group.rows for run in row.runs}
    assert paths == {"new", *(f"quick/results.tar.xz/digits/vae/seed{seed}" for seed in range(3))}
    assert build([board, board / "quick", board / "quick" / archive.ARCHIVE]).results == 5  # each is read once


def test_two_results_of_one_path_are_not_packed(grid, cli):
    other, packed = grid.parent / "other", grid.parent / "a.tar.xz"
    write(other / "digits" / "vae" / "seed0", result("vae", 0, 9.0))
    cli("leaderboard", grid, other, "--pack", packed).refused(2, "pack the folder above both")
    assert not packed.exists()


def test_the_command_packs_and_ranks(grid, cli, tmp_path):
    packed, page = tmp_path / "new" / "kept.tar.xz", tmp_path / "page.json"
    assert cli("leaderboard", grid, "--pack", packed).out == f"wrote {packed}\n"
    assert cli("leaderboard", packed, "--out", page).status == 0
    assert page.read_text() == to_json(build([grid]))
    assert "vae" in cli("leaderboard", packed).out


def test_other_files_are_no_archives(grid, cli, tmp_path):
    cli("leaderboard", grid, "--pack", tmp_path / "a.zip").refused(2, "must end in .tar.xz")
    cli("leaderboard", grid / "digits" / "vae" / "seed0" / "result.json").refused(2, "a .tar.xz archive")


# ---- what is refused


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "truncated"),
        (b"this is not an archive", "not a .tar.xz"),
        (lzma.compress(b"x" * 1024), "ustar"),
        (lzma.compress(b"x" * 100), "truncated"),
        (lzma.compress(tar((entry("a/result.json"), RESULT)))[:-20], "truncated"),
        (lzma.compress(tar((entry("a/result.json"), RESULT))) + b"x", "follow"),
        (lzma.compress(tar((entry("a/result.json"), RESULT)) + b"x"), "follow"),
        (lzma.compress(tar((entry("a/result.json"), RESULT))[:1000]), "truncated"),
        (lzma.compress(tar((entry("a/result.json"), RESULT))[:-10240]), "truncated"),
        (lzma.compress(tar((entry("a/result.json", tarfile.SYMTYPE, "/etc/passwd"), b""))), "link"),
        (lzma.compress(tar((entry("a/result.json", tarfile.LNKTYPE, "b"), b""))), "link"),
        (lzma.compress(tar((entry("a/result.json", tarfile.FIFOTYPE), b""))), "special"),
        (lzma.compress(tar((entry("a/result.json", tarfile.CHRTYPE), b""))), "special"),
        (lzma.compress(tar((entry("/a/result.json"), RESULT))), "path"),
        (lzma.compress(tar((entry("../result.json"), RESULT))), "leaves"),
        (lzma.compress(tar((entry("a/../../result.json"), RESULT))), "leaves"),
        (lzma.compress(tar((entry("./result.json"), RESULT))), "shortest"),
        (lzma.compress(tar((entry("a//result.json"), RESULT))), "path"),
        (lzma.compress(tar((entry("a\\..\\result.json"), RESULT))), "leaves"),
        (lzma.compress(tar((entry("C:/result.json"), RESULT))), "leaves"),
        (lzma.compress(tar((entry("a\x1b[31m/result.json"), RESULT))), "invisible"),
        (lzma.compress(tar((entry("a/x"), b"1"), (entry("a/x"), b"2"))), "same path"),
        (lzma.compress(tar((entry("a/" + "x" * 300), b"1"), form=tarfile.PAX_FORMAT)), "link or a special"),
        (lzma.compress(tar((entry("a/" + "x" * 300), b"1"), form=tarfile.GNU_FORMAT)), "ustar"),
        (lzma.compress(tar((entry("a/result.json"), RESULT)), format=lzma.FORMAT_ALONE), "not a .tar.xz"),
    ],
)
def test_an_archive_that_is_not_as_zoo_writes_it_is_refused_and_other_results_are_ranked(tmp_path, content, word):
    with pytest.raises(RefusedError, match=word):
        read_archive(content)
    (tmp_path / archive.ARCHIVE).write_bytes(content)
    write(tmp_path / "good", result())
    board = build([tmp_path])
    assert board.results == 1
    (left,) = board.left_out
    assert (left.path, left.kind) == (archive.ARCHIVE, "unreadable")
    assert word in left.reason
    assert sorted(p.name for p in tmp_path.iterdir()) == ["good", archive.ARCHIVE]


def test_a_small_archive_that_decompresses_to_much_is_refused(monkeypatch):
    monkeypatch.setattr(archive, "_MAX_CONTENT", 1 << 20)
    content = lzma.compress(bytes(8 << 20))
    assert len(content) < 2000
    with pytest.raises(RefusedError, match="after decompression"):
        read_archive(content)


def test_an_archive_that_needs_much_memory_is_refused():
    content = bytearray(lzma.compress(tar((entry("a/x"), b"1")), preset=0))
    header = slice(12, 12 + (content[12] + 1) * 4)
    size = content.index(b"\x21\x01", 12) + 2  # the dictionary size of filter LZMA2, in the header of the block
    content[size] = 40  # 4 GiB
    content[header] = content[header][:-4] + zlib.crc32(content[header][:-4]).to_bytes(4, "little")
    with pytest.raises(RefusedError, match="damaged"):
        read_archive(bytes(content))


def test_too_many_files_and_too_large_archives_are_refused(monkeypatch):
    content = write_archive({f"a/{i}": b"" for i in range(4)})
    monkeypatch.setattr(archive, "_MAX_FILES", 3)
    with pytest.raises(RefusedError, match="more than 3 files"):
        read_archive(content)
    monkeypatch.setattr(archive, "MAX_BYTES", 10)
    with pytest.raises(RefusedError, match="more than 10 bytes"):
        read_archive(content)


def test_an_archive_behind_a_link_is_refused(grid, tmp_path):
    (tmp_path / "outside.tar.xz").write_bytes(pack([grid]))
    board = tmp_path / "board"
    write(board / "good", result())
    (board / archive.ARCHIVE).symlink_to(tmp_path / "outside.tar.xz")
    found = build([board])
    assert found.results == 1
    assert [("link" in left.reason, left.path) for left in found.left_out] == [(True, archive.ARCHIVE)]


def test_files_in_an_archive_have_the_size_limits_of_files_in_a_folder(tmp_path):
    large = json.dumps({**result("gan"), "padding": "x" * (5 << 20)}).encode()
    (tmp_path / "a.tar.xz").write_bytes(write_archive({"large/result.json": large, "good/result.json": RESULT}))
    board = build([tmp_path / "a.tar.xz"])
    assert board.results == 1
    (left,) = board.left_out
    assert left.path == "large"
    assert "at most" in left.reason


@pytest.mark.parametrize("path", ["../a", "/a", "a//b", "", "a/\u202eb", "x/" * 200 + "y"])
def test_a_path_that_would_be_refused_is_not_written(path):
    with pytest.raises(RefusedError):
        write_archive({path: b"1"})


TAR = tar((entry("a/result.json"), RESULT), (entry("b/metrics.jsonl"), b"{}\n"))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2047), st.integers(0, 255)), min_size=1, max_size=4), st.booleans())
def test_damaged_headers_are_refused_or_give_paths_that_stay_inside(changes, repair):
    data = bytearray(TAR)
    for place, value in changes:
        data[place] = value
    if repair:  # a header that was forged with a valid checksum
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data[:512])
    try:
        files = read_archive(lzma.compress(bytes(data), preset=0))
    except RefusedError:
        return
    for path in files:
        assert not os.path.isabs(path)
        assert os.path.normpath(path) == path
        assert not path.startswith("..")
