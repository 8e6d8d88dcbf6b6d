"""The leaderboard page in a browser: sorting, filtering, no requests to other hosts, size."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from results_by_hand import failure, metrics, png, protocol, result, write, write_many, write_rows
from test_leaderboard_untrusted import NASTY, nasty_result

from zoo.leaderboard import build, to_html

DESKTOP, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two data sets, with all that a row can hold, and with nasty names among them."""
    root = tmp_path_factory.mktemp("board")
    write_rows(root, {"vae": [12.0, 11.0, 13.0], "gan": [20.0, 22.0, 21.0], "aae": [5.0, 6.0, 7.0], "one": [9.0]})
    for seed in range(3):
        folder = root / "vae" / f"seed{seed}"
        metrics(folder / "metrics.jsonl")
        for name in ("samples", "reconstructions", "interpolations", "neighbors", "class_samples"):
            png(folder / f"{name}.png", 582, 582)
    write(root / "gan" / "seed9", failure("gan", 9))
    write_rows(root / "n", {"vae": [3.0]}, measured=protocol(n_generated=7))
    for i, text in enumerate(NASTY):
        write(root / "nasty" / str(i), nasty_result(text))
    write(root / "mnist", result("vae", measured=protocol("mnist")))
    (root / "broken").mkdir()
    (root / "broken" / "result.json").write_text("{")
    page = root / "page.html"
    page.write_text(to_html(build([root])), encoding="utf-8")
    return page


@pytest.fixture
def opened(open_page: Callable[..., Any], written: Path) -> Callable[..., Any]:
    """``opened(DESKTOP)``: the page in a window; at the end it must have been silent and alone."""

    def open_written(size: tuple[int, int], path: Path = written, **options: Any) -> Any:
        return open_page(size, path, **options)

    return open_written


def first_table(page: Any) -> Any:
    return page.locator("article", has=page.locator("tr", has_text="gan")).first


def models(table: Any) -> list[str]:
    return table.locator("tbody:not(.floor) tr[data-i]:visible .who button").all_inner_texts()


def test_rows_sort_by_any_column_and_back(opened):
    table = first_table(opened(DESKTOP))
    assert models(table) == ["aae", "one", "vae", "gan"]
    model, score = table.locator("thead th").nth(1), table.locator("thead th").nth(2)
    model.locator("button").click()
    assert models(table) == ["aae", "gan", "one", "vae"]
    assert model.get_attribute("aria-sort") == "ascending"
    model.locator("button").press("Enter")  # by keyboard, too
    assert models(table) == ["vae", "one", "gan", "aae"]
    assert model.get_attribute("aria-sort") == "descending"
    score.locator("button").click()
    assert models(table) == ["aae", "one", "vae", "gan"]
    assert model.get_attribute("aria-sort") is None
    assert table.locator(".floor tr").first.inner_text().startswith("training images") or (
        "training images" in table.locator("tbody").first.inner_text()
    )
    rate = table.locator("thead button", has_text="smallest class share")
    rate.click()  # where more is better, the most comes first
    assert table.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"


def test_the_filter_and_the_data_set_narrow_what_is_shown(opened):
    from playwright.sync_api import expect

    page = opened(DESKTOP)
    page.fill("#filter", "VAE latent-zoo")
    expect(page.locator("tr[data-i]:visible")).to_have_count(3)
    assert models(first_table(page)) == ["vae"]
    page.fill("#filter", "there is no such thing")
    page.wait_for_selector("text=No row matches the filter.")
    page.fill("#filter", "")
    expect(first_table(page).locator("tr[data-i]:visible")).to_have_count(4)
    page.select_option("#dataset", label="mnist")
    assert page.locator("section.set:visible h2").all_inner_texts() == ["mnist"]


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_a_row_opens_to_everything_there_is_of_it(opened, size):
    page = opened(size)
    table = first_table(page)
    button = table.locator(".who button", has_text="vae")
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    panel = table.locator(".detail .panel")
    text = panel.inner_text()
    for expected in (
        "Images of seed 0, the median by score",
        "samples by class",
        "interpolations",
        "nearest training images",
        "images with their reconstructions below",
        "Training curves of all seeds",
        "seed 2",
        "12.0 ± 2.5",  # t₂ = 4.303, sd 1, √3
        "encoder 1,000, decoder 2,000",
        "none in the critic.",
        "zoo run vae --dataset digits --epochs 3 --seed 0",
        "Nobody, 2020",
    ):
        assert expected in text, expected
    assert panel.locator("img").count() == 5
    assert page.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    assert panel.locator(".curves svg").count() == 2
    assert panel.locator(".curves").first.locator("path:not(.frame)").count() == 6
    assert panel.locator("section", has_text="Game").locator("td", has_text="−1").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert panel.bounding_box()["width"] <= size[0]
    button.click()
    assert table.locator(".detail").count() == 0


def test_a_failed_seed_says_why(opened):
    table = first_table(opened(DESKTOP))
    row = table.locator("tr[data-i]", has_text="gan")
    assert "1 of 4 failed (diverged)" in row.inner_text()
    row.locator("button").click()
    assert "the loss is NaN" in table.locator(".panel").inner_text()


def test_an_open_row_follows_its_row_when_the_table_is_sorted(opened):
    table = first_table(opened(DESKTOP))
    table.locator(".who button", has_text="vae").click()
    table.locator("thead button", has_text="model").click()
    before = table.locator(".detail").evaluate("row => row.previousElementSibling.querySelector('button').textContent")
    assert before == "vae"


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_it_is_light_or_dark_as_the_system_says_until_the_reader_does(opened, size):
    def luminance(page: Any) -> int:
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", color)[:3]))

    light, dark = opened(size, color_scheme="light"), opened(size, color_scheme="dark")
    assert luminance(dark) < 150 < 600 < luminance(light)
    dark.click("#theme")
    assert luminance(dark) > 600
    dark.reload()
    assert luminance(dark) > 600  # it is remembered
    assert dark.locator("#theme").inner_text() == "Dark"


def contrast(page: Any, selector: str) -> float:
    return page.evaluate(
        """(selector) => {
          const parse = (c) => c.match(/[\\d.]+/g).map(Number);
          const node = document.querySelector(selector);
          let back = node, color;
          do { color = parse(getComputedStyle(back).backgroundColor); back = back.parentElement; }
          while (color.length === 4 && color[3] === 0 && back);
          const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
            .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
          const [a, b] = [luminance(parse(getComputedStyle(node).color)), luminance(color)].sort((x, y) => y - x);
          return (a + 0.05) / (b + 0.05);
        }""",
        selector,
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_enough(opened, scheme):
    page = opened(DESKTOP, color_scheme=scheme)
    for selector in (".meta", ".who small", ".who em", "th button", ".score", ".bad", "a", ".floor small"):
        assert contrast(page, selector) >= 4.5, selector


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_nothing_is_wider_than_the_window_and_every_nasty_name_is_text(opened, size):
    page = opened(size)
    for button in page.locator("article").last.locator(".who button").all():
        button.click()
    for details in page.locator("footer summary").all():
        details.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert page.evaluate("document.scripts.length") == 2
    shown = page.evaluate("[...document.querySelectorAll('.who button')].map((b) => b.textContent)")
    assert set(NASTY) <= set(shown)


def test_without_scripts_every_row_can_be_read(opened):
    page = opened(DESKTOP, java_script_enabled=False)
    text = page.inner_text("main")
    assert "aae" in text
    assert "5.0 ± " in text or "6.0 ± 2.5" in text
    assert "Without JavaScript" in page.inner_text("body")


def test_a_link_to_a_protocol_opens_it(opened):
    from playwright.sync_api import expect

    page = opened(DESKTOP)
    page.locator(".meta a").first.click()
    expect(page.locator("#protocols[open]")).to_have_count(1)
    assert "extractor digest" in page.inner_text("#protocols")


def test_a_point_of_the_scatter_plot_says_whose_it_is(opened):
    page = opened(PHONE)
    point = first_table(page).locator(".pt").first
    point.locator(".hit").dispatch_event("click")
    assert re.match(r"aae: 6\.0 ± 2\.5 after 21\S* s", first_table(page).locator("output").inner_text())


# ---- size


def test_a_budget_drops_from_the_ends_and_says_so(tmp_path, monkeypatch):
    from zoo.leaderboard import page

    write_rows(tmp_path, {f"m{i:02}": [float(i + 1), float(i + 2)] for i in range(40)})
    for i in range(40):
        png(tmp_path / f"m{i:02}" / "seed1" / "samples.png", 300, 300)
    whole = to_html(build([tmp_path]))
    assert "to keep" not in whole.partition("<script")[0]
    monkeypatch.setattr(page, "LARGEST", 110_000)
    less = to_html(build([tmp_path]))
    assert len(less.encode()) <= 110_000 < len(whole.encode())
    assert re.search(r"\d+ rows at the ends of the tables have no images and curves", less)
    monkeypatch.setattr(page, "_DETAILS", 60_000)
    assert re.search(r"\d+ rows at the ends of the tables have no details", to_html(build([tmp_path])))
    monkeypatch.setattr(page, "_ROWS", 10_000)
    assert re.search(r"\d+ more rows are omitted from this page", to_html(build([tmp_path])))


@pytest.mark.slow
def test_twenty_thousand_results_are_quick_small_and_usable(tmp_path, opened):
    from playwright.sync_api import expect

    write_many(tmp_path / "many", 20_000)
    code = (
        "import re, sys, time; begin = time.process_time(); from zoo.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code\n"
        # Not ru_maxrss, which a process inherits from the one that started it.
        "peak = re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1]\n"
        "print(time.process_time() - begin, peak)"
    )
    for form in ("md", "json", "html"):
        command = [sys.executable, "-c", code, "leaderboard", tmp_path / "many", "--out", tmp_path / f"a.{form}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, kilobytes = map(float, done.stdout.splitlines()[-1].split())
        assert seconds < 20, form
        assert kilobytes < (1 << 20), form
    found = json.loads((tmp_path / "a.json").read_text())
    assert sum(row["seeds"] for group in found["groups"] for row in group["rows"]) == 20_000
    assert (tmp_path / "a.html").stat().st_size < 5_000_000
    page = opened(DESKTOP, tmp_path / "a.html")
    assert page.locator("tr[data-i]:visible").count() == 300  # a hundred a table
    spent = page.evaluate(
        """() => { const begin = performance.now(); document.querySelectorAll("thead button")[1].click();
                   document.body.offsetHeight; return performance.now() - begin; }"""
    )
    assert spent < 1000
    page.fill("#filter", "model-77")
    expect(page.locator("tr[data-i]:visible")).to_have_count(33)
    page.locator("tr[data-i]:visible button").first.click()
    assert "Seeds" in page.locator(".panel").inner_text()
