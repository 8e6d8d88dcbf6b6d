"""Intervals, paired tests, ranks and the stability of an order, against scipy, values by hand and simulated tables."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
import scipy.special
import scipy.stats
from results_by_hand import result, write

from zoo.leaderboard import build, paired_tests, to_html, to_json, to_markdown
from zoo.leaderboard.intervals import Summary, summary, t_cdf, t_quantile
from zoo.leaderboard.paired_tests import Prior, estimate_prior, p_values, separated
from zoo.leaderboard.ranks import MOST_TESTED, place
from zoo.leaderboard.stability import discordant_share, kendall_tau, stability

Row = dict[int, float]


def row(*values: float) -> Row:
    return dict(enumerate(values))


def places(rows: list[Row], unusual: list[bool] | None = None) -> list[int]:
    summaries = [summary(list(r.values())) for r in rows]
    return [first for first, _ in place(rows, unusual or [False] * len(rows), summaries)]


def table(
    rng: random.Random, rows: int, seeds: int, spread: list[float], step: float = 0.0, seed_effect: float = 0.05
) -> list[Row]:
    """Log-normal scores whose logarithms differ by ``step`` from row to row, with an effect of the seed."""
    common = [rng.gauss(0, seed_effect) for _ in range(seeds)]
    return [{k: math.exp(step * i + common[k] + rng.gauss(0, spread[i])) for k in range(seeds)} for i in range(rows)]


# ---- intervals


def test_the_interval_adds_the_error_of_the_test_images_which_more_seeds_do_not_reduce() -> None:
    values = [5.0, 1.0, 3.0, 2.0, 4.0]
    found = summary(values, 0.5)
    # Var = 2.5/5 + 0.25 = 0.75; Satterthwaite: 0.75² / (0.5²/4) = 9 degrees of freedom.
    assert found.half == pytest.approx(t_quantile(9) * math.sqrt(0.75))
    assert found.sd == summary(values).sd
    assert summary([3.0, 3.0, 3.0], 0.5).half == pytest.approx(1.96 * 0.5, rel=0.01)
    assert summary([3.0], 0.5).half is None  # one seed says nothing about others
    assert summary(values, 0.0).half == summary(values).half


def test_the_interval_covers_the_mean_over_seeds_and_test_images() -> None:
    rng = random.Random(0)
    hits = 0
    for _ in range(2000):
        images = rng.gauss(0, 0.3)
        found = summary([images + rng.gauss(0, 0.5) for _ in range(3)], 0.3)
        hits += found.low <= 0 <= found.high
    assert hits / 2000 == pytest.approx(0.95, abs=0.02)


# ---- tests


@pytest.mark.parametrize("x", [0.3, 0.5, 1.0, 2.5, 7.0, 30.0])
def test_digamma_trigamma_and_its_inverse_are_scipys(x: float) -> None:
    assert paired_tests._digamma(x) == pytest.approx(scipy.special.digamma(x), rel=1e-7)
    assert paired_tests._trigamma(x) == pytest.approx(scipy.special.polygamma(1, x), rel=1e-7)
    assert paired_tests._inverse_trigamma(scipy.special.polygamma(1, x)) == pytest.approx(x, rel=1e-6)


def test_two_rows_have_the_paired_t_test_of_scipy_on_logarithms() -> None:
    a, b = row(10.0, 11.0, 12.5, 9.0), row(14.0, 13.0, 16.0, 12.0)
    found, prior = p_values([a, b])
    expected = scipy.stats.ttest_rel([math.log(v) for v in a.values()], [math.log(v) for v in b.values()]).pvalue
    assert prior.df == 0  # two rows tell nothing about the variances of others
    assert found[0, 1] == pytest.approx(expected, rel=1e-6)
    assert t_cdf(2.0, 5) == pytest.approx(scipy.stats.t.cdf(2.0, 5), rel=1e-12)


def test_pairs_are_compared_on_their_common_seeds() -> None:
    found, _ = p_values([{0: 1.0, 1: 2.0, 7: 99.0}, {0: 2.0, 1: 5.0, 3: 0.1}, {5: 1.0, 6: 2.0}])
    expected = scipy.stats.ttest_1samp([math.log(0.5), math.log(0.4)], 0).pvalue
    assert found == {(0, 1): pytest.approx(expected)}  # the third row shares at most one seed with the others


def test_values_that_are_not_positive_are_compared_as_they_are() -> None:
    found, _ = p_values([row(0.0, 1.0, 2.0), row(3.0, 5.0, 4.0)])
    assert found[0, 1] == pytest.approx(scipy.stats.ttest_rel([0, 1, 2], [3, 5, 4]).pvalue)


def test_the_prior_is_that_of_variances_drawn_from_it() -> None:
    rng = random.Random(1)
    df0, variance, df = 8.0, 0.04, 4
    drawn = []
    for _ in range(4000):
        true = df0 * variance / rng.gammavariate(df0 / 2, 2)
        drawn.append(true * rng.gammavariate(df / 2, 2) / df)
    found = estimate_prior(drawn, [df] * len(drawn))
    assert found.df == pytest.approx(df0, rel=0.15)
    assert found.variance == pytest.approx(variance, rel=0.05)
    assert estimate_prior([0.1], [2]).df == 0
    assert math.isinf(estimate_prior([0.1] * 50, [2] * 50).df)
    assert Prior(0.1, 4).moderate(0.4, 2) == (pytest.approx(0.2), 6)


def test_holms_correction_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {(0, 1): 0.01, (0, 2): 0.02, (1, 2): 0.04}
    monkeypatch.setattr(paired_tests, "p_values", lambda rows, unusual: (values, Prior()))
    assert separated([]) == {(0, 1), (0, 2), (1, 2)}  # 0.01 ≤ 0.05/3, 0.02 ≤ 0.05/2, 0.04 ≤ 0.05
    values[0, 2] = 0.03
    assert separated([]) == {(0, 1)}  # stops at 0.03 > 0.05/2, although 0.04 ≤ 0.05


@pytest.mark.parametrize(("rows", "seeds"), [(2, 3), (3, 3), (5, 3), (18, 3), (18, 5)])
def test_equal_rows_are_rarely_separated(rows: int, seeds: int) -> None:
    rng = random.Random(rows * seeds)
    tables = 300 if rows < 18 else 100
    wrong = sum(bool(separated(table(rng, rows, seeds, [0.1] * rows))) for _ in range(tables))
    assert wrong / tables <= 0.08  # nominal 0.05


def test_equal_rows_of_unequal_spread_are_rarely_separated() -> None:
    rng = random.Random(5)
    spread = [0.1 * math.exp(rng.gauss(0, 0.7)) for _ in range(18)]
    found = [p_values(table(rng, 18, 3, spread))[0] for _ in range(60)]
    single = [p for values in found for p in values.values()]
    assert sum(p < 0.05 for p in single) / len(single) == pytest.approx(0.05, abs=0.02)
    wrong = sum(bool(separated(table(rng, 18, 3, spread))) for _ in range(100))
    assert wrong / 100 <= 0.08


def test_rows_that_differ_obviously_are_separated_with_three_seeds() -> None:
    rng = random.Random(2)
    # With a spread of 10 % over seeds, neighbors that differ by a factor of 1.65.
    found = [places(table(rng, 18, 3, [0.1] * 18, step=0.5)) for _ in range(30)]
    assert sum(ranks == list(range(1, 19)) for ranks in found) >= 24
    assert all(max(abs(rank - i - 1) for i, rank in enumerate(ranks)) <= 1 for ranks in found)


def test_rows_that_differ_little_share_a_rank() -> None:
    rng = random.Random(3)
    found = [places(table(rng, 6, 3, [0.1] * 6, step=0.02)) for _ in range(30)]
    assert sum(ranks == [1] * 6 for ranks in found) >= 27


def test_a_collapsed_row_does_not_widen_the_others() -> None:
    rng = random.Random(4)
    rows = table(rng, 8, 3, [0.05] * 8, step=0.5)
    collapsed = row(2.0, 2.1, 400.0)
    ranks = places([*rows, collapsed], [False] * 8 + [True])
    assert ranks[:8] == list(range(1, 9))
    assert ranks[8] == 8  # its mean is the highest, and its rank is no better than that of a lower mean


# ---- places


def test_ranks_by_hand() -> None:
    near, far = row(1.0, 1.1, 1.2), row(10.0, 11.0, 12.0)
    assert places([near, far]) == [1, 2]
    assert places([far, near]) == [2, 1]
    assert places([row(1.0, 2.0, 3.0), row(3.0, 1.5, 2.0)]) == [1, 1]
    assert places([near, row(1.0)]) == [1, 1]  # one seed pushes nobody down
    assert places([near, row(9.0)]) == [1, 2]
    assert places([row(1.0), row(9.0)]) == [1, 1]
    assert place([], [], []) == []


def test_the_span_of_a_rank_reaches_as_far_as_the_rows_that_share_it() -> None:
    rows = [row(1.0, 1.02, 0.99), row(1.01, 1.0, 1.0), row(5.0, 5.1, 5.2), row(20.0, 21.0, 22.0)]
    spans = place(rows, [False] * 4, [summary(list(r.values())) for r in rows])
    assert spans == [(1, 2), (1, 2), (3, 3), (4, 4)]


def test_a_rank_is_never_better_than_that_of_a_lower_mean() -> None:
    rng = random.Random(6)
    for _ in range(50):
        rows = [row(*(math.exp(rng.gauss(0, rng.choice([0.05, 1.0]))) for _ in range(3))) for _ in range(7)]
        means = [sum(r.values()) / 3 for r in rows]
        ranks = places(rows)
        order = sorted(range(7), key=means.__getitem__)
        assert [ranks[i] for i in order] == sorted(ranks)
        assert min(ranks) == 1


def test_large_tables_are_separated_by_intervals() -> None:
    count = MOST_TESTED + 1
    rows = [row(i + 1.0, i + 1.1, i + 1.2) for i in range(count)]
    summaries = [Summary(3, i + 1.1, 0.1, 0.25) for i in range(count)]
    spans = place(rows, [False] * count, summaries)
    assert spans == [(i + 1, i + 1) for i in range(count)]


# ---- stability


def test_kendalls_tau_is_scipys_and_ties_count_half() -> None:
    rng = random.Random(7)
    x, y = ([rng.random() for _ in range(40)] for _ in range(2))
    assert kendall_tau(x, y) == pytest.approx(scipy.stats.kendalltau(x, y).statistic)
    assert discordant_share(x, y) == pytest.approx((1 - kendall_tau(x, y)) / 2)
    assert kendall_tau([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / 3)
    assert discordant_share([1, 1, 2], [1, 2, 3]) == pytest.approx(0.5 / 3)


def test_stability_by_hand() -> None:
    first = [row(1.0, 1.1), row(2.0, 2.1), row(3.0, 3.1), row(4.0, 4.1)]
    swapped = [row(1.0), row(3.0), row(2.0), row(4.0)]
    found = stability(first, swapped)
    assert (found.rows, found.tau, found.discordant) == (4, pytest.approx(2 / 3), pytest.approx(1 / 6))
    assert found.reseeded == 0  # no resampling changes that order
    assert stability(first, [{}] * 4).tau is None
    assert stability(first[:2], swapped[:2]).tau is None  # two rows have no order to speak of
    assert stability([row(1.0)] * 4, [row(1.0)] * 4).reseeded is None


def test_resampled_seeds_change_the_order_of_rows_that_overlap() -> None:
    rng = random.Random(8)
    first = [row(*(rng.gauss(10, 1) for _ in range(3))) for _ in range(10)]
    found = stability(first, [{}] * 10)
    assert found.reseeded is not None
    assert 0.1 < found.reseeded < 0.5
    assert found == stability(first, [{}] * 10)  # no chance in it


# ---- tables with a second opinion

SECOND = "FD-autoencoder (second opinion)"


def board(root: Path, rows: dict[str, tuple[float, float | None]], seeds: int = 3, error: float | None = None) -> Path:
    """Rows with a mean by the first and by the second extractor, each with a small spread over seeds."""
    for i, (model, (first, second)) in enumerate(rows.items()):
        for seed in range(seeds):
            found = result(model, seed, first * (1 + 0.01 * ((seed + i) % 3)))
            if second is not None:
                found["scores"] |= {SECOND: second * (1 + 0.01 * ((seed + i) % 3)), f"{SECOND} floor": 0.25}
                found["score_info"][SECOND] = {"description": "another", "higher_is_better": False, "group": "samples"}
            if error is not None:
                found["scores"] |= {"FD-classifier standard error": 2 * error}
                found["scores"] |= {"FD-classifier standard error (test images)": error}
            write(root / model / f"seed{seed}", found)
    return root


MEANS = {"a": 2.0, "b": 4.0, "c": 8.0, "d": 16.0, "e": 32.0, "f": 64.0}


def test_the_second_opinion_never_ranks_and_marks_rows_that_it_places_elsewhere(tmp_path: Path) -> None:
    agreed = {model: (mean, 3 * mean) for model, mean in MEANS.items()}
    (group,) = build([board(tmp_path / "agreed", agreed)]).groups
    assert [(r.model, r.rank, r.second_rank, r.disputed) for r in group.rows] == [
        (model, i, (i, i), False) for i, model in enumerate(MEANS, 1)
    ]
    assert (group.stability.tau, group.stability.discordant) == (1, 0)
    assert group.second_floor == 0.25
    (group,) = build([board(tmp_path / "other", {**agreed, "b": (4.0, 500.0)})]).groups
    assert [r.rank for r in group.rows] == [1, 2, 3, 4, 5, 6]
    assert {r.model: r.second_rank for r in group.rows}["b"] == (6, 6)
    assert [r.model for r in group.rows if r.disputed] == ["b", "c", "d", "e", "f"]
    assert group.stability.discordant == pytest.approx(4 / 15)


def test_places_that_overlap_are_no_dispute(tmp_path: Path) -> None:
    rows = {**{m: (v, v) for m, v in MEANS.items()}, "b": (4.0, 8.1), "c": (8.0, 8.0), "d": (16.0, 8.05)}
    (group,) = build([board(tmp_path, rows)]).groups
    assert {r.model: r.second_rank for r in group.rows if r.model in "bcd"} == dict.fromkeys("bcd", (2, 4))
    assert not any(r.disputed for r in group.rows)


def test_results_without_new_scores_are_ranked_with_the_others(tmp_path: Path) -> None:
    rows: dict[str, tuple[float, float | None]] = {m: (v, v) for m, v in MEANS.items()}
    (group,) = build([board(tmp_path, {**rows, "old": (3.0, None)}, error=0.1)]).groups
    assert [r.model for r in group.rows][:3] == ["a", "old", "b"]
    assert all(r.second_rank is None for r in group.rows)  # no order of some rows only
    assert group.stability.rows == 6
    for text in (to_markdown(build([tmp_path])), to_html(build([tmp_path]))):
        assert "n/a" in text
    old = next(r for r in json.loads(to_json(build([tmp_path])))["groups"][0]["rows"] if r["model"] == "old")
    assert SECOND not in old["metrics"]


def test_the_formats_show_the_second_opinion_its_floor_and_the_stability(tmp_path: Path) -> None:
    found = build([board(tmp_path, {**{m: (v, 3 * v) for m, v in MEANS.items()}, "b": (4.0, 500.0)}, error=0.2)])
    table = json.loads(to_json(found))["groups"][0]
    assert table["second_opinion"] == {"name": SECOND, "floor": 0.25}
    assert set(table["stability"]) == {"rows", "tau", "discordant", "reseeded"}
    row = table["rows"][1]
    assert (row["rank"], row["last_rank"], row["second_rank"], row["disputed"]) == (2, 2, [6, 6], True)
    assert row["metrics"]["FD-classifier"]["image_error"] == pytest.approx(0.2)
    assert not any("standard error" in name or name.endswith("floor") for name in row["metrics"])
    markdown, page = to_markdown(found), to_html(found)
    assert "**b**: rank 2, but place 6 by the second opinion." in markdown
    assert "Stability of the order" in markdown
    floor = next(line for line in markdown.splitlines() if "*training images*" in line)
    head = next(line for line in markdown.splitlines() if line.startswith("| rank"))
    assert floor.split("|")[head.split("|").index(" FD-autoencoder \\(second opinion\\) ")].strip() == "0.2500"
    assert len(floor.split("|")) == len(head.split("|"))
    assert "place 6 by the second opinion" in page
    assert 'data-group="samples"' in page


def test_the_interval_of_the_score_that_ranks_contains_the_test_images(tmp_path: Path) -> None:
    rows: dict[str, tuple[float, float | None]] = {m: (v, None) for m, v in MEANS.items()}
    (plain,) = build([board(tmp_path / "plain", rows)]).groups
    (wide,) = build([board(tmp_path / "wide", rows, error=0.5)]).groups
    for a, b in zip(plain.rows, wide.rows, strict=True):
        assert a.headline is not None
        assert b.headline is not None
        assert b.headline.half is not None
        assert b.headline.half > 0.9 > (a.headline.half or 0) / 10
        assert a.rank == b.rank  # what all rows share separates none of them


def test_columns_without_any_value_are_left_out(tmp_path: Path) -> None:
    for seed in range(2):
        found = result("gan", seed)
        found["scores"] |= {"reconstruction MSE": None, "PSNR": None}
        write(tmp_path / f"gan{seed}", found)
    (group,) = build([tmp_path]).groups
    assert group.columns == ["smallest class share"]
    head = next(line for line in to_markdown(build([tmp_path])).splitlines() if line.startswith("| rank"))
    assert "PSNR" not in head
