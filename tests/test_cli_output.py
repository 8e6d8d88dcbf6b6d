"""What the command line prints for programs and shells: ``--json``, ``--quiet``, completion, estimated memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Outcome

from zoo.memory import format_bytes
from zoo.registry import registry
from zoo.run.dry_run import plan_run

pytestmark = pytest.mark.usefixtures("own_cache")

TINY = ("--family", "mlp", "--width", "4", "--images", "640", "--extractor", "none")


def parsed(outcome: Outcome) -> Any:
    assert outcome.status == 0, outcome.err
    assert outcome.out.isascii()
    return json.loads(outcome.out)


# --json


def test_run_prints_its_result(cli, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = cli("run", "vae", *TINY, "--out", out, "--json")
    stored = json.loads((out / "result.json").read_text())
    assert parsed(done) == {"folder": str(out), **stored}
    assert done.err == ""
    assert parsed(cli("run", "--resume", "--out", out, "--json")) == {"folder": str(out), **stored}


def test_run_prints_its_plan(cli, tmp_path: Path) -> None:
    plan = parsed(cli("run", "vae", *TINY, "--dry-run", "--json", "--out", tmp_path / "run"))
    assert (plan["steps"], plan["images"], plan["settings"]["options"]["width"]) == (10, 640, 4)
    assert plan["memory_bytes"] > plan["train_images"] * 64
    assert list(tmp_path.iterdir()) == []


def test_lists_are_objects_of_their_columns(cli) -> None:
    models = parsed(cli("list", "models", "--json"))
    assert [entry["model"] for entry in models] == list(registry().models)
    for kind in ("datasets", "extractors", "families", "metrics", "plugins"):
        entries = parsed(cli("list", kind, "--json"))
        assert entries
        assert all(entry.keys() == entries[0].keys() for entry in entries)


def test_show_is_the_model_card_with_options(cli) -> None:
    card = parsed(cli("show", "vaegan", "--json"))
    assert card["game"][0]["rows"][2] == {"networks": ["critic"], "weights": {"gan": 1.0}}
    assert {"--gamma", "--latent"} <= {option["flag"] for option in card["options"]}
    assert "paper" in card["presets"]


def test_eval_prints_what_it_writes(cli, runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    done = cli("eval", runs / "vae", "--metrics", "quick", "-n", "50", "--out", out, "--json")
    assert parsed(done) == json.loads(out.read_text())
    assert f"wrote {out}" in done.err


def test_compare_names_the_better_score(cli, runs: Path) -> None:
    found = parsed(cli("compare", runs / "vae", runs / "blind", "--json"))
    assert (found["a"]["model"], found["b"]["model"]) == ("vae", "blind")
    score = found["scores"]["FD-classifier"]
    assert score["better"] == ("a" if score["a"] < score["b"] else "b")
    assert found["scores"]["reconstruction MSE"]["b"] is None
    assert found["scores"]["reconstruction MSE"]["better"] is None


def test_bench_prints_its_cells(cli, tmp_path: Path) -> None:
    found = parsed(cli("bench", "--models", "vae,gan", "--seeds", "2", "--out", tmp_path / "b", "--dry-run", "--json"))
    assert [(cell["model"], cell["seed"], cell["state"]) for cell in found["cells"]] == [
        *(("vae", 0, "waiting"), ("gan", 0, "waiting"), ("vae", 1, "waiting"), ("gan", 1, "waiting"))
    ]
    assert not found["complete"]


def test_doctor_lists_subjects(cli) -> None:
    subjects = [entry["subject"] for entry in parsed(cli("doctor", "--json"))]
    assert {"zoo", "libraries", "cpu", "plugins"} <= set(subjects)


@pytest.mark.slow
def test_check_lists_checks(cli) -> None:
    found = parsed(cli("check", "vae", "--json"))
    assert all(entry["problem"] is None for entry in found)
    assert {tuple(entry["shape"]) for entry in found} == {(1, 28, 28), (3, 32, 32), (1, 17, 40)}


# --quiet


def test_a_quiet_run_prints_nothing_but_errors(cli, tmp_path: Path) -> None:
    done = cli("run", "vae", *TINY, "--quiet", "--out", tmp_path / "run")
    assert (done.status, done.out, done.err) == (0, "", "")
    assert (tmp_path / "run" / "result.json").is_file()
    cli("run", "vae", *TINY, "--quiet", "--out", tmp_path / "run").refused(2, "holds a finished run")


@pytest.mark.slow
def test_a_quiet_bench_prints_one_line(cli, tmp_path: Path) -> None:
    file = tmp_path / "protocol.toml"
    file.write_text('name = "tiny"\nversion = 1\n[train]\nimages = 640\n[evaluate]\nextractor = "none"\n')
    words = ("--models", "vae", "--datasets", "digits", "--seeds", "1", "--protocol", file, "--out", tmp_path / "b")
    done = cli("bench", *words, "--quiet")
    assert (done.status, done.out) == (0, "1 cells: 1 done\n"), done.err
    assert parsed(cli("bench", "--out", tmp_path / "b", "--json"))["complete"]


# Estimated memory


def test_a_dry_run_estimates_the_memory(cli, tmp_path: Path) -> None:
    done = cli("run", "vae", *TINY, "--dry-run", "--out", tmp_path / "run")
    assert "of the process, without scoring" in done.out


def test_training_images_count_unless_they_are_mapped() -> None:
    settings: dict[str, Any] = {"dataset": "mnist", "images": 128, "family": "mlp", "width": 1}
    mapped = plan_run("vae", data_memory="1MB", **settings).memory_bytes
    resident = plan_run("vae", data_memory="1GB", **settings).memory_bytes
    assert resident - mapped == pytest.approx(60_000 * 28 * 28, rel=0.1)


@pytest.mark.slow
def test_the_estimated_memory_is_that_of_a_run(tmp_path: Path) -> None:
    zoo = Path(sys.executable).with_name("zoo")
    words = [zoo, "run", "vaegan", "--images", "1280", "--extractor", "none", "--json", "--out", tmp_path / "run"]
    plan, result = (
        json.loads(subprocess.run([*words, *more], check=True, capture_output=True).stdout)
        for more in (["--dry-run"], [])
    )
    assert plan["memory_bytes"] == pytest.approx(result["cost"]["peak_memory_bytes"], rel=0.25), (
        format_bytes(plan["memory_bytes"]),
        format_bytes(result["cost"]["peak_memory_bytes"]),
    )


# Completion


def completions(line: str) -> list[str]:
    """What bash offers for a line whose last word is incomplete."""
    words = line.split(" ")
    environment = {
        **os.environ,
        "_ZOO_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [Path(sys.executable).with_name("zoo")], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stderr == ""
    return [entry.partition(",")[2] for entry in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("zoo com", ["compare", "completion"]),
        pytest.param("zoo run vaegan-", ["vaegan-twin"], marks=pytest.mark.slow),
        ("zoo run vaegan --gam", ["--gamma"]),
        pytest.param("zoo run vaegan --seed 3 --dataset kmn", ["kmnist"], marks=pytest.mark.slow),
        pytest.param("zoo run vaegan --norm g", ["group"], marks=pytest.mark.slow),
        pytest.param("zoo show wae-", ["wae-mmd", "wae-gan"], marks=pytest.mark.slow),
        pytest.param("zoo run --stop-on col", ["collapse"], marks=pytest.mark.slow),
    ],
)
def test_a_shell_completes(line: str, wanted: list[str]) -> None:
    assert completions(line) == wanted


def test_the_scripts_ask_zoo(cli) -> None:
    for shell in ("bash", "zsh", "fish"):
        script = cli("completion", shell).out
        assert f"_ZOO_COMPLETE={shell}_complete" in script
    subprocess.run(["bash", "-n"], input=cli("completion", "bash").out, text=True, check=True)
    cli("completion", "tcsh").refused(2, "'tcsh' is not one of")
