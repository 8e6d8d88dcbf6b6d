"""The report of a run: what it shows, in a browser, and that nothing of a file becomes markup or a failure."""

from __future__ import annotations

import importlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from test_leaderboard_untrusted import NASTY

import zoo
from zoo.report import write_report
from zoo.result_file import seal
from zoo.run.run_folder import RunFolder
from zoo.run.settings import RunSettings
from zoo.run.train import load_data

pytestmark = pytest.mark.usefixtures("own_cache")

DESKTOP, PHONE = (1280, 900), (390, 844)
HEALTH = {
    "findings": [{"kind": "critic-saturation", "message": "critic saturation (critic) at step 9: a remedy"}],
    "probes": [
        {"step": 10, "active_units": 9, "critics": {"critic": {"accuracy": 0.5}}},
        {"step": 20, "active_units": None, "critics": {"critic": {"accuracy": 1.0}}},
    ],
}


@pytest.fixture
def run(runs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs / "vae", tmp_path / "vae"))


@pytest.fixture(scope="module")
def page(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run with a health record, with both embeddings."""
    run = Path(shutil.copytree(runs / "vae", tmp_path_factory.mktemp("report") / "vae"))
    (run / "health.json").write_text(json.dumps(HEALTH))
    data = load_data(RunFolder(run).settings())
    return write_report(run, zoo.load(run), data, methods=("pca", "tsne"))


def sections(page: Any) -> list[str]:
    return page.locator("main h2").all_inner_texts()


def test_a_run_writes_its_report_and_names_it_in_the_last_line(cli, tmp_path):
    done = cli("run", "vae", "--images", 640, "--family", "mlp", "--width", 4, "--out", tmp_path / "run")
    assert done.status == 0, done.err
    assert done.out.splitlines()[-1].split() == ["open", str(tmp_path / "run" / "report.html")]
    assert "Samples over time" in (tmp_path / "run" / "report.html").read_text()
    again = cli("run", "--resume", "--out", tmp_path / "run")  # finished already
    assert again.status == 0
    without = cli("run", "vae", "--epochs", 0, "--no-report", "--out", tmp_path / "without")
    assert without.status == 0
    assert not (tmp_path / "without" / "report.html").exists()


def test_a_report_that_fails_fails_no_run(cli, tmp_path, monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("a decoder of a plugin")

    monkeypatch.setattr(importlib.import_module("zoo.report"), "write_report", fail)
    done = cli("run", "vae", "--epochs", 0, "--family", "mlp", "--width", 4, "--out", tmp_path / "run")
    assert done.status == 0
    assert "zoo: warning: report not written: a decoder of a plugin\n" in done.err
    assert (tmp_path / "run" / "result.json").is_file()


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_the_page_has_everything_and_fits(open_page, page, size):
    shown = open_page(size, page)
    assert sections(shown) == [
        *("Command that repeats the run", "Health", "Samples over time", "Scores", "Images", "Codes of test images"),
        *("Curves", "Game", "Settings", "Cost"),
    ]
    text = shown.inner_text("main")
    for expected in (
        "zoo run vae --dataset digits --epochs 1",
        "critic saturation (critic) at step 9: a remedy",
        "FD-classifier ↓",
        "FD-autoencoder (second opinion)",
        "500 codes in the plane, colored by class",
        "test images with their reconstructions below",
        "the most active of 16, from −3 to 3",
        "gradient norms",
        "critic accuracy",
        "encoder, decoder",
        "Kingma & Welling",
        "lr schedule",
    ):
        assert expected in text, expected
    assert re.search(r"\d ± \d", shown.inner_text("#scores"))
    assert shown.locator("#pictures img").count() == 6
    assert shown.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    assert shown.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert shown.locator(".codes:visible path[d*=M]").count() == 10


def test_samples_play_and_stop(open_page, page):
    from playwright.sync_api import expect

    shown = open_page(DESKTOP, page, reduced_motion="reduce")
    assert shown.inner_text("#play") == "Play"
    assert shown.locator(".frames img:visible").count() == 1
    assert shown.inner_text("#when") == "after 20 steps, 1,280 images"
    shown.locator("#moment").focus()
    shown.keyboard.press("Home")
    assert shown.inner_text("#when") == "untrained"
    shown.keyboard.press("ArrowRight")
    assert shown.inner_text("#when") == "after 1 step, 64 images"
    shown.click("#play")
    expect(shown.locator("#when")).not_to_have_text("after 1 step, 64 images")
    shown.keyboard.press("Space")  # the button has the focus
    assert shown.inner_text("#play") == "Play"
    moving = open_page(DESKTOP, page)
    assert moving.inner_text("#play") == "Pause"


def test_codes_by_method_and_class(open_page, page):
    shown = open_page(DESKTOP, page)
    assert shown.locator(".codes:visible figcaption").all_inner_texts() == ["PCA"]
    shown.get_by_role("button", name="t-SNE").press("Enter")
    assert shown.locator(".codes:visible figcaption").all_inner_texts() == ["t-SNE"]
    three = shown.locator(".legend button").nth(3)
    three.press("Space")
    assert three.get_attribute("aria-pressed") == "true"
    assert shown.locator(".codes:visible path.dim").count() == 9
    three.press("Space")
    assert shown.locator(".codes path.dim").count() == 0


def test_light_dark_and_without_scripts(open_page, page):
    def luminance(shown: Any) -> int:
        return sum(map(int, re.findall(r"\d+", shown.evaluate("getComputedStyle(document.body).backgroundColor"))[:3]))

    dark = open_page(DESKTOP, page, color_scheme="dark")
    assert luminance(dark) < 150
    dark.click("#theme")
    assert luminance(dark) > 600
    bare = open_page(DESKTOP, page, java_script_enabled=False)
    assert bare.locator(".frames img:visible").count() == 1
    assert not bare.locator("#play").is_visible()


def test_the_page_asks_for_nothing(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(
        r"""(?:src|href|url)\s*[=(]\s*["']?(?!data:)[a-z/]""", re.sub(r"<script>.*", "", text, flags=re.S)
    )
    assert "default-src 'none'; img-src data:; style-src 'sha256-" in text
    assert len(text) < 1_000_000


def test_an_unfinished_run_has_a_report(cli, run):
    for name in ("result.json", "model.safetensors", "samples.png"):
        (run / name).unlink()
    done = cli("report", run)
    assert done.out == f"wrote {run / 'report.html'}\n"
    text = (run / "report.html").read_text()
    assert "This run is not finished" in text
    assert "Curves" in text
    assert "<h2>Scores" not in text
    assert "Codes of test images" not in text
    assert "zoo run vae --dataset digits --epochs 1" in text


def test_a_model_without_an_encoder(cli, runs, tmp_path, toys):
    done = cli("report", runs / "blind", "--out", tmp_path / "made" / "page.html")
    assert done.status == 0, done.err
    text = (tmp_path / "made" / "page.html").read_text()
    assert "traversals of dimensions" in text
    assert "Codes of test images" not in text
    assert "active units" not in text


def test_a_report_without_its_data_or_its_model_says_so(cli, runs, run, tmp_path):
    color = Path(shutil.copytree(runs / "color", tmp_path / "color"))
    moved = color / "config.toml"
    moved.write_text(moved.read_text().replace(str(runs / "pictures"), str(tmp_path / "pictures")))
    done = cli("report", color)
    assert done.status == 0
    assert "note: Without codes, since the data set cannot be loaded" in done.err
    assert "Without codes" in (color / "report.html").read_text()
    (run / "model.safetensors").write_bytes(b"damaged")
    done = cli("report", run)
    assert "note: Without traversals and codes, since the model cannot be loaded" in done.err
    assert "FD-classifier" in (run / "report.html").read_text()


def test_wrong_usage(cli, run, tmp_path):
    cli("report", tmp_path / "none").refused(2, "is not a run folder")
    cli("report", run, "--out", "page.pdf").refused(2, "out: 'page.pdf' is not allowed; must end in .html")
    (run / "report.html").symlink_to(tmp_path / "elsewhere")
    cli("report", run).refused(1, "report.html", "symbolic link")


# ---- files from others


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_no_text_of_a_file_becomes_markup(open_page, run, size):
    result = json.loads((run / "result.json").read_text())
    result["command"] = " ".join(NASTY)
    result["card"] |= {"summary": NASTY[0], "paper": NASTY[3], "deviations": {text: text for text in NASTY}}
    result["scores"] |= dict.fromkeys(NASTY, 1.0)
    result["score_info"] |= {text: {**result["score_info"]["PSNR"], "description": text} for text in NASTY}
    result["cost"] |= {"device": NASTY[4], "parameters": {NASTY[1]: 3}}
    result["provenance"]["finished"] = NASTY[5]
    (run / "result.json").write_text(json.dumps(seal(result)))
    (run / "health.json").write_text(json.dumps({"findings": [{"message": text} for text in NASTY], "probes": []}))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line["terms"] |= dict.fromkeys(NASTY, 1.0)
        line["gradients"] |= dict.fromkeys(NASTY[:3], 1.0)
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    path = write_report(run, notes=NASTY)
    text = path.read_text(encoding="utf-8")
    assert text.count("<script") == 1
    shown = open_page(size, path)  # silent: no dialog, no request
    assert shown.evaluate("document.scripts.length") == 1
    assert shown.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert NASTY[0] in shown.inner_text("#health")
    assert NASTY[0] in shown.inner_text("#scores")


def test_settings_become_no_markup(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    settings = RunSettings(model=NASTY[0], dataset=f"folder:/{NASTY[3]}", options={"width": NASTY[4]})
    (run / "config.toml").write_text(tomli_w.dumps(settings.to_table()))
    text = write_report(run).read_text()
    assert text.count("<script") == 1
    assert "<img src=x" not in text
    assert "<svg onload" not in text


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.update(score_info={"PSNR": 3}),
        lambda r: r.update(cost=[1]),
        lambda r: r.update(cost={"seconds": "soon", "parameters": {"a": "b"}}),
        lambda r: r.update(card={"game": 3}),
        lambda r: r.update(protocol={"n_real": "many"}),
        lambda r: r.update(provenance=7),
        lambda r: r.update(command=["zoo"]),
        lambda r: r.update(fingerprint=None),
        lambda r: r["scores"].update({"huge": 10**300}),
    ],
)
def test_a_malformed_entry_costs_its_section_only(run, change):
    result = json.loads((run / "result.json").read_text())
    change(result)
    (run / "result.json").write_text(json.dumps(seal(result)))
    text = write_report(run).read_text()
    assert "FD-classifier" in text
    assert "Samples over time" in text


@pytest.mark.parametrize("health", ["", "[]", "{", '{"findings": 3, "probes": []}', '{"findings": [], "probes": [{}]}'])
def test_a_malformed_health_record_is_left_out(run, health):
    (run / "health.json").write_text(health)
    assert "<h2>Health" not in write_report(run).read_text()


def test_numbers_beyond_any_plot(run):
    line = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    huge = [{**line, "images": 10**400}, {**line, "step": 0}, {**line, "terms": {"nll": 10**400, "kl": 1e300}}]
    with (run / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in huge)
    assert "gradient norms" in write_report(run).read_text()


def test_malformed_pictures_are_left_out(run, tmp_path):
    (run / "samples.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 100)
    (run / "neighbors.png").unlink()
    (run / "neighbors.png").symlink_to(run / "curves.png")
    frame, *_ = sorted((run / "snapshots").iterdir())
    frame.write_bytes(b"GIF89a")
    (run / "snapshots" / "step-1.png").write_bytes(b"another name")
    text = write_report(run).read_text()
    assert "samples, the first of seed 0" not in text
    assert "nearest training images" not in text
    assert "untrained" not in text
    assert text.count("data-label=") == len(list((run / "snapshots").glob("step-0*.png"))) - 1
