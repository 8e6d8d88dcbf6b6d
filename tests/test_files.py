"""Atomic writing: a file is the old or the new one as a whole, and no write leaves its folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from conftest import SMALL

import zoo
from zoo.files import open_atomic, write_atomically
from zoo.run.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("own_cache")


def test_content_is_replaced_and_readable_by_all(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_atomically(target, b"old")
    write_atomically(target, b"new")
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_write_keeps_the_old_content_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def fail() -> None:
        with open_atomic(target) as file:
            file.write(b"half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("dangling", [False, True])
def test_a_symbolic_link_is_refused(tmp_path: Path, dangling: bool) -> None:
    other = tmp_path / "other"
    if not dangling:
        other.write_bytes(b"mine")
    link = tmp_path / "link"
    link.symlink_to(other)
    with pytest.raises(zoo.ZooError, match=r"cannot write .*link: it is a symbolic link"):
        write_atomically(link, b"new")
    assert link.is_symlink()
    assert other.exists() is not dangling


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_regular_file_is_refused(tmp_path: Path, make) -> None:
    make(tmp_path / "target")
    with pytest.raises(zoo.ZooError, match="not a regular file"):
        write_atomically(tmp_path / "target", b"new")


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl", "checkpoint", "model.safetensors", "result.json"])
def test_a_link_in_a_run_folder_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    """A run folder from somebody else must not direct writes to the user's own files."""
    out, outside = tmp_path / "run", tmp_path / "outside"
    with pytest.raises(zoo.ZooError, match="stopped"):
        zoo.train("vae", out=out, epochs=1, extractor="none", callbacks=[Stopper()], checkpoint_seconds=0.0, **SMALL)
    (out / name).rename(outside) if (out / name).exists() else outside.write_bytes(b"mine")
    (out / name).symlink_to(outside)
    before = {p: p.read_bytes() for p in [*outside.rglob("*"), outside, *out.rglob("*")] if p.is_file()}
    with pytest.raises(zoo.UsageError, match="is a symbolic link"):
        zoo.train(out=out, resume=True)
    after = {p: p.read_bytes() for p in [*outside.rglob("*"), outside, *out.rglob("*")] if p.is_file()}
    assert after == before


def test_a_log_that_becomes_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"mine")
    (tmp_path / "metrics.jsonl").symlink_to(tmp_path / "outside")
    with pytest.raises(zoo.ZooError, match="symbolic link"):
        RunFolder(tmp_path).append_metrics("{}\n")
    assert (tmp_path / "outside").read_bytes() == b"mine"


class Stopper(zoo.Callback):
    def step_logged(self, step, images_seen, epoch, terms, gradients):
        if step == 3:
            raise zoo.ZooError("stopped")
