"""The leaderboard: grouping, ranking, intervals, and results that are left out with the reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import scipy.stats
from results_by_hand import failure, metrics, png, protocol, result, write, write_rows

from zoo.leaderboard import build, to_html, to_json, to_markdown
from zoo.leaderboard.intervals import Summary, summary, t_quantile
from zoo.leaderboard.number_format import plus_minus

FORMS = (to_markdown, to_json, to_html)


def board(*folders: Path):
    return build(folders)


def only(*folders: Path):
    found = build(folders)
    assert len(found.groups) == 1
    return found.groups[0]


# ---- statistics


def test_the_t_quantile_is_students():
    for df in (1, 2, 3, 4, 5, 9, 30, 199, 1000):
        assert t_quantile(df) == pytest.approx(scipy.stats.t.ppf(0.975, df), rel=1e-12)


def test_an_interval_by_hand():
    # 1, 2, 3, 4, 5: mean 3, variance 10/4, standard error √(2.5/5) = 0.70711, t₄ = 2.77645
    found = summary([5.0, 1.0, 3.0, 2.0, 4.0])
    assert (found.n, found.mean) == (5, 3.0)
    assert found.sd == pytest.approx(1.5811388)
    assert found.half == pytest.approx(2.77645 * 0.70711, rel=1e-5)
    assert summary([7.0]) == Summary(1, 7.0, None, None)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Summary(5, 11.0349, 1.0, 0.3104), "11.03 ± 0.31"),
        (Summary(5, 1234.5, 1.0, 56.7), "1,234 ± 57"),
        (Summary(5, 0.0123456, 1.0, 0.00045), "0.01235 ± 0.00045"),
        (Summary(5, -3.0, 1.0, 0.5), "−3.00 ± 0.50"),
        (Summary(5, 3.0, 0.0, 0.0), "3 ± 0"),
        (Summary(1, 12.3456, None, None), "12.35"),
        (None, "n/a"),
    ],
)
def test_means_and_half_widths_end_at_the_same_digit(found, text):
    assert plus_minus(found) == text


# ---- tables and rows


def test_a_row_is_a_model_with_its_options_and_all_its_seeds(tmp_path):
    write_rows(tmp_path, {"vae": [10.0, 11.0, 12.0], "gan": [20.0, 21.0, 22.0]})
    group = only(tmp_path)
    assert (group.dataset, group.headline, group.floor) == ("digits", "FD-classifier", 0.5)
    assert [(r.model, r.rank, r.seeds) for r in group.rows] == [("vae", 1, 3), ("gan", 2, 3)]
    assert group.rows[0].headline.mean == 11.0
    assert group.rows[0].metrics["reconstruction MSE"].mean == pytest.approx(0.021)
    assert group.rows[0].package == "latent-zoo"


def test_the_middle_seed_stands_for_the_row_never_the_best(tmp_path):
    write_rows(tmp_path, {"odd": [30.0, 10.0, 20.0], "even": [1.0, 4.0, 2.0, 3.0]})
    medians = {row.model: row.median.seed for row in only(tmp_path).rows}
    assert medians == {"odd": 2, "even": 3}  # of 2.0 and 3.0 the worse


def test_versions_and_options_are_rows_of_their_own_and_say_what_differs(tmp_path):
    write(tmp_path / "a", result("vae"))
    write(tmp_path / "b", result("vae", options={"latent": 8}))
    write(tmp_path / "c", result("vae", plugin={"name": "vae", "package": "latent-zoo", "version": "0.2.0"}))
    rows = {(r.version, json.dumps(dict(r.label))) for r in only(tmp_path).rows}
    assert rows == {("0.1.0", '{"latent": 16}'), ("0.1.0", '{"latent": 8}'), ("0.2.0", '{"latent": 16}')}


FILE = {"name": "quick", "version": 1, "digest": "abcd" * 16}


def test_what_a_protocol_file_sets_for_all_is_no_rows_peculiarity(tmp_path):
    wide = {"protocol_file": FILE, "options": {"width": 64}}
    write(tmp_path / "a", result("vae", **wide))
    write(tmp_path / "b", result("gan", protocol_file=FILE, options={"width": 64, "norm": "none"}))
    labels = {row.model: dict(row.label) for row in only(tmp_path).rows}
    assert labels == {"vae": {}, "gan": {"norm": "none"}}
    shutil.rmtree(tmp_path)
    write(tmp_path / "a", result("vae", options={"width": 64}))  # without a file it was this run's own choice
    assert dict(only(tmp_path).rows[0].label) == {"width": 64}


def test_another_budget_under_a_protocol_file_shows_in_the_row(tmp_path):
    write(tmp_path / "a", result("vae", protocol_file=FILE))
    write(tmp_path / "b", result("gan", protocol_file=FILE, epochs=30))
    assert {r.model: dict(r.label) for r in only(tmp_path).rows} == {"vae": {"epochs": 3}, "gan": {"epochs": 30}}


def test_results_without_the_newer_entries_are_ranked_too(tmp_path):
    old = result()
    for name in ("options_changed", "command", "card", "weights_sha256"):
        del old[name]
    write(tmp_path, old)
    row = only(tmp_path).rows[0]
    assert row.cell.command == (
        "zoo run vae --dataset digits --seed 0 --epochs 3 --batch 64 --precision fp32 --latent 16 --width 32"
    )
    assert row.cell.card is None
    for form in FORMS:
        assert "vae" in form(board(tmp_path))


def test_collapsed_and_failed_seeds_count(tmp_path):
    for seed, smallest in enumerate([0.01, 0.05, None]):
        write(tmp_path / f"vae{seed}", result("vae", seed, smallest=smallest))
    write(tmp_path / "vae3", failure("vae", 3))
    row = only(tmp_path).rows[0]
    assert row.collapsed == (1, 2)  # the third is not known
    assert (row.failed, row.seeds, row.rank) == (1, 4, 1)
    assert row.headline.n == 3
    text = to_markdown(board(tmp_path))
    assert "| 1/2 | 1/4 |" in text
    assert "the loss is NaN" in text


def test_a_row_that_mostly_failed_has_no_rank_and_stands_last(tmp_path):
    write_rows(tmp_path, {"good": [10.0, 11.0], "rare": [1.0]})
    for seed in (1, 2):
        write(tmp_path / "rare" / f"seed{seed}", failure("rare", seed))
        write(tmp_path / "lost" / f"seed{seed}", failure("lost", seed, "timeout"))
    assert [(r.model, r.rank) for r in only(tmp_path).rows] == [("good", 1), ("rare", None), ("lost", None)]


def test_half_failed_is_still_ranked(tmp_path):
    write(tmp_path / "0", result("vae", 0))
    write(tmp_path / "1", failure("vae", 1))
    assert only(tmp_path).rows[0].rank == 1


def test_a_seed_without_a_score_counts_as_failed(tmp_path):
    write(tmp_path / "0", result("vae", 0))
    write(tmp_path / "1", result("vae", 1, None))
    assert (only(tmp_path).rows[0].failed, only(tmp_path).rows[0].seeds) == (1, 2)


def test_a_failure_finds_its_row_though_it_knows_only_the_options_it_was_given(tmp_path):
    write(tmp_path / "0", result("vae", 0, options={"latent": 8}))
    early = failure("vae", 1)
    early["settings"]["options"] = {"latent": 8}
    write(tmp_path / "1", early)
    assert [row.seeds for row in only(tmp_path).rows] == [2]


def test_a_failure_counts_under_its_protocol_file_and_nowhere_else(tmp_path):
    write(tmp_path / "0", result("vae", 0, protocol_file=FILE))
    write(tmp_path / "1", result("vae", 0))
    write(tmp_path / "2", failure("vae", 1, protocol_file=FILE))
    write(tmp_path / "3", failure("vae", 2, protocol_file=None))
    by_file = {"training protocol" in g.training.entries: g.rows[0].failures for g in board(tmp_path).groups}
    assert [f.seed for f in by_file[True]] == [1]
    assert [f.seed for f in by_file[False]] == [2]


def test_a_failure_that_does_not_say_its_protocol_file_is_placed_by_its_budget(tmp_path):
    write(tmp_path / "0", result("vae", 0, protocol_file=FILE))
    write(tmp_path / "1", failure("vae", 1))
    assert only(tmp_path).rows[0].seeds == 2


def test_a_failure_that_no_table_fits_is_left_out(tmp_path):
    write(tmp_path / "0", result("vae", 0))
    stray = failure("gan", 1)
    stray["settings"]["epochs"] = 99
    write(tmp_path / "1", stray)
    (left,) = board(tmp_path).left_out
    assert (left.path, left.kind) == ("1", "unplaced")
    assert "the loss is NaN" in left.reason


def test_below_the_floor_is_a_warning(tmp_path):
    write_rows(tmp_path, {"copy": [0.4, 0.6], "vae": [10.0, 11.0]})
    assert [row.below_floor for row in only(tmp_path).rows] == [1, 0]
    assert "1 of 2 seeds below the floor: a bug or memorization" in to_markdown(board(tmp_path))
    assert "1 of 2 below the floor: a bug or memorization" in to_html(board(tmp_path))


# ---- protocols


def test_different_n_is_never_ranked_together_and_the_entry_is_named(tmp_path):
    write(tmp_path / "a", result("vae"))
    write(tmp_path / "b", result("gan", measured=protocol(n_generated=10_000)))
    found = board(tmp_path)
    assert [len(group.rows) for group in found.groups] == [1, 1]
    assert [group.apart is None for group in found.groups] == [True, False]
    assert found.groups[1].apart[0] == found.groups[0].id
    for form in FORMS:
        text = form(found).replace("\\", "").replace("_", " ")
        assert "n generated: 10,000 against 1,000" in text or "n generated: 1,000 against 10,000" in text


@pytest.mark.parametrize(
    ("other", "entry"),
    [
        ({"extractor_digest": "f" * 64}, "extractor_digest: "),
        ({"metrics": {"kid": "another"}}, "metrics, kid: "),
        ({"libraries": {"torch": "2.12.0"}}, "libraries, torch: "),
        ({"revision": 99}, "revision: "),
    ],
)
def test_every_entry_of_the_evaluation_protocol_parts_tables(tmp_path, other, entry):
    write(tmp_path / "a", result("vae"))
    write(tmp_path / "b", result("gan", measured=protocol(**other)))
    first, second = board(tmp_path).groups
    assert first.apart is None
    assert any(line.startswith(entry) for line in second.apart[1])


def test_another_budget_and_another_protocol_file_part_tables(tmp_path):
    write(tmp_path / "a", result("vae"))
    write(tmp_path / "b", result("vae", epochs=4))
    write(tmp_path / "c", result("vae", protocol_file=FILE))
    write(tmp_path / "d", result("vae", protocol_file={**FILE, "digest": "0" * 64}))
    found = board(tmp_path)
    assert len(found.groups) == 4
    lines = [line for group in found.groups if group.apart for line in group.apart[1]]
    assert len(lines) >= 3
    assert any(line.startswith("training protocol: ") for line in lines)


def test_a_protocol_that_was_tampered_with_is_refused(tmp_path):
    forged = result("vae")
    forged["protocol"]["n_generated"] = 50_000
    write(tmp_path / "a", forged)
    write(tmp_path / "b", result("gan"))
    (left,) = board(tmp_path).left_out
    assert left.path == "a"
    assert "fingerprint does not match the protocol" in left.reason


def test_the_fingerprint_is_the_one_that_a_real_run_writes(runs, tmp_path):
    found = build([runs])
    assert {row.model for group in found.groups for row in group.rows} == {"vae", "blind"}
    assert [left.path for left in found.left_out] == ["color"]
    assert "was not scored" in found.left_out[0].reason
    stored = json.loads((runs / "vae" / "result.json").read_text())["fingerprint"]
    assert found.groups[0].fingerprint == stored


# ---- merging


def test_folders_of_several_machines_are_one_board(tmp_path):
    write_rows(tmp_path / "here", {"vae": [10.0, 11.0]})
    write_rows(tmp_path / "there", {"gan": [20.0, 21.0]})
    assert [row.model for row in only(tmp_path / "here", tmp_path / "there").rows] == ["vae", "gan"]


def test_the_same_run_twice_counts_once(tmp_path):
    write(tmp_path / "a" / "x", result("vae"))
    write(tmp_path / "b" / "x", result("vae"))
    found = board(tmp_path / "a", tmp_path / "b")
    assert found.groups[0].rows[0].seeds == 1
    (left,) = found.left_out
    assert (left.path, left.kind) == ("x", "duplicate")
    assert "the same run again" in left.reason


def test_of_two_outcomes_of_one_cell_the_first_to_finish_counts_not_the_better(tmp_path):
    late = result("vae", 0, 5.0, weights_sha256="b" * 64, provenance={"finished": "2026-02-01T00:00:00+00:00"})
    early = result("vae", 0, 10.0, provenance={"finished": "2026-01-31T23:30:00-01:00"})  # is 00:30 UTC, later
    write(tmp_path / "a", late)
    write(tmp_path / "b", early)
    found = board(tmp_path)
    assert found.groups[0].rows[0].headline.mean == 5.0
    (left,) = found.left_out
    assert (left.path, left.kind) == ("b", "conflict")
    assert "finished first" in left.reason


def test_a_run_that_diverged_first_counts_though_it_later_finished(tmp_path):
    write(tmp_path / "a", failure("vae", 0))
    write(tmp_path / "b", result("vae", 0, provenance={"finished": "2026-01-02T00:00:00+00:00"}))
    write(tmp_path / "c", result("vae", 1))
    found = board(tmp_path)
    assert (found.groups[0].rows[0].failed, found.groups[0].rows[0].seeds) == (1, 2)
    assert [left.path for left in found.left_out] == ["b"]


@pytest.mark.parametrize("kind", ["error", "timeout", "killed"])
def test_a_machine_that_broke_says_nothing_against_a_finished_run(tmp_path, kind):
    write(tmp_path / "a", failure("vae", 0, kind))
    write(tmp_path / "b", result("vae", 0))
    found = board(tmp_path)
    assert found.groups[0].rows[0].failed == 0
    assert [left.path for left in found.left_out] == ["a"]


def test_a_result_goes_before_the_failure_in_its_own_folder(tmp_path):
    write(tmp_path, failure("vae", 0))
    write(tmp_path, result("vae", 0))
    found = board(tmp_path)
    assert (found.results, len(found.left_out)) == (1, 0)


def test_a_folder_given_twice_is_read_once(tmp_path):
    write(tmp_path / "a" / "b", result("vae"))
    for folders in ([tmp_path, tmp_path], [tmp_path / "a", tmp_path], [tmp_path, tmp_path / "a" / "b"]):
        found = build(folders)
        assert (found.results, len(found.left_out)) == (1, 0)


def test_a_folder_within_another_is_named_from_the_outer_one(tmp_path):
    write(tmp_path / "a" / "b", {"scores": 3})
    for folders in ([tmp_path / "a", tmp_path], [tmp_path, tmp_path / "a"]):
        assert [left.path for left in build(folders).left_out] == ["a/b"]


# ---- bytes


def a_bit_of_everything(root: Path) -> None:
    write_rows(root / "one", {"vae": [10.0, 11.0, 12.0], "gan": [20.0, 21.0]})
    write(root / "two" / "x", result("vae", 0, 3.0, weights_sha256="c" * 64))
    write(root / "two" / "y", failure("gan", 2))
    write(root / "two" / "z", result("aae", measured=protocol(n_generated=7)))
    write(root / "two" / "w", {"scores": None})
    for folder in (root / "one" / "vae" / "seed1", root / "two" / "z"):
        png(folder / "samples.png")
        metrics(folder / "metrics.jsonl")


@pytest.mark.parametrize("form", FORMS)
def test_equal_results_give_equal_bytes_wherever_they_lie_and_in_whatever_order(tmp_path, form):
    a_bit_of_everything(tmp_path / "first")
    shutil.copytree(tmp_path / "first" / "two", tmp_path / "elsewhere" / "deep" / "two")
    shutil.copytree(tmp_path / "first" / "one", tmp_path / "elsewhere" / "one")
    for folder, _, files in os.walk(tmp_path / "elsewhere"):
        for file in files:
            os.utime(Path(folder) / file, (0, 0))
    first = form(build([tmp_path / "first" / "one", tmp_path / "first" / "two"]))
    again = form(build([tmp_path / "elsewhere" / "deep" / "two", tmp_path / "elsewhere" / "one"]))
    assert first == again
    assert str(tmp_path) not in first
    assert tmp_path.name not in first


def test_the_json_says_what_the_tables_say(tmp_path):
    a_bit_of_everything(tmp_path)
    found = json.loads(to_json(board(tmp_path)))
    assert found["format"] == 1
    assert list(found) == sorted(found)
    first = next(g for g in found["groups"] if g["protocol"]["n_generated"] == 1000)
    assert first["protocol"]["n_generated"] == 1000
    vae = next(row for row in first["rows"] if row["model"] == "vae")
    assert vae["plugin"] == {"name": "vae", "package": "latent-zoo", "version": "0.1.0"}
    assert [run["seed"] for run in vae["runs"]] == [0, 1, 2]
    assert vae["metrics"]["FD-classifier"]["n"] == 3
    assert vae["runs"][1]["command"] == "zoo run vae --dataset digits --epochs 3 --seed 1"
    assert {entry["kind"] for entry in found["left_out"]} == {"conflict", "unreadable"}


# ---- the command


def test_the_command_writes_markdown_by_default_and_what_the_suffix_says(cli, tmp_path):
    write_rows(tmp_path / "runs", {"vae": [10.0, 11.0]})
    shown = cli("leaderboard", tmp_path / "runs")
    assert shown.status == 0
    assert shown.out.startswith("# Leaderboard\n")
    assert cli("leaderboard", tmp_path / "runs", "--format", "json").out.startswith("{")
    for name, begin in (("a.md", "# Lead"), ("a.json", "{"), ("deep/a.html", "<!doctype html>")):
        done = cli("leaderboard", tmp_path / "runs", "--out", tmp_path / name)
        assert (done.status, done.err) == (0, "")
        assert (tmp_path / name).read_text().startswith(begin)
    assert cli("leaderboard", tmp_path / "runs", "--out", tmp_path / "odd", "--format", "md").status == 0
    assert not list(tmp_path.glob(".*"))


def test_wrong_usage_is_2_and_no_results_is_1(cli, tmp_path):
    cli("leaderboard").refused(2, "DIR")
    cli("leaderboard", tmp_path / "none").refused(2, "none")
    cli("leaderboard", tmp_path).refused(1, "no results")
    write(tmp_path / "bad", {"scores": 3})
    cli("leaderboard", tmp_path).refused(1, "no results", "1 excluded", "format")
    write(tmp_path / "good", result())
    cli("leaderboard", tmp_path, "--out", tmp_path / "a.pdf").refused(2, ".html")
    cli("leaderboard", tmp_path, "--out", tmp_path / "good" / "result.json" / "a.md").refused(1, "cannot write")


def test_the_command_imports_no_torch(tmp_path):
    write(tmp_path, result())
    code = (
        "import sys\nfrom zoo.cli import main\n"
        "try:\n    main(['leaderboard', sys.argv[1], '--format', 'html'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "assert 'torch' not in sys.modules and 'scipy' not in sys.modules, 'slow'"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
