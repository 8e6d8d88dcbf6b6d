"""All scores in one call of ``evaluate``: cached statistics, the protocol, ``zoo eval`` and ``zoo compare``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor

from zoo.data import DataOptions, Dataset, Split, bundled_sources, from_uint8, load_dataset, to_uint8
from zoo.distributions import GaussianLikelihood, GaussianPosterior
from zoo.errors import UsageError, ZooError
from zoo.evaluation import (
    AutoencoderFeatures,
    Codes,
    EvaluationSettings,
    Extractor,
    ModelFunctions,
    PinnedClassifier,
    Protocol,
    ReferenceSamples,
    Scores,
    evaluate,
    evaluate_images,
)
from zoo.metrics import (
    AnnealedLogLikelihood,
    Density,
    annealed,
    find_score,
    likelihood,
    protocol_entries,
)
from zoo.run.scoring import Scorer, scores_to_dict
from zoo.run.trained import load


@pytest.fixture(autouse=True)
def _own_cache(own_cache: None) -> None:
    """No test reads or fills the user's cache."""


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", DataOptions(), {s.name: s for s in bundled_sources()})


class Counting(Extractor):
    """A fixed projection that counts what it was shown."""

    name, features, resize, channels = "counting", 6, "none", "as is"
    seen = 0

    @property
    def digest(self) -> str:
        return "7" * 64

    def extract(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        mix = torch.randn(64, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        return (images.flatten(1).double() / 255 @ mix).float()


BASIS = torch.linalg.qr(torch.randn(64, 4, generator=torch.Generator().manual_seed(0))).Q
CODES = Codes(
    encode=lambda x, y: from_uint8(x).flatten(1) @ BASIS,
    decode=lambda z, y: to_uint8((z @ BASIS.T).view(-1, 1, 8, 8)),
    prior=lambda n: torch.randn(n, 4),
)
DENSITY = Density(
    posterior=lambda x: GaussianPosterior(x.flatten(1) @ BASIS, torch.zeros(len(x), 4)),
    likelihood=lambda z: GaussianLikelihood((z @ BASIS.T).view(-1, 1, 8, 8), torch.tensor(-0.5)),
    observation="Gaussian",
)


def score(images: Tensor, digits: Dataset, extractor: Extractor, **more: object) -> Scores:
    settings = EvaluationSettings(n=len(images), metric_set="full")
    return evaluate_images(images.split(100), digits, extractor, settings, ModelFunctions(**more))


@pytest.fixture
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound of 20 samples: what is tested here is not its tightness."""
    real = likelihood.log_likelihood
    monkeypatch.setattr(likelihood, "log_likelihood", lambda density, x, k, chunk: real(density, x, k=20, chunk=chunk))


@pytest.mark.usefixtures("few_samples")
def test_full_holds_quick_and_every_score_and_its_meaning(digits: Dataset) -> None:
    pinned = PinnedClassifier()
    draws = digits.train.images
    every = ModelFunctions(lambda x, y: x, CODES, DENSITY)

    def scores(metric_set: str, functions: ModelFunctions) -> Scores:
        settings = EvaluationSettings(n=400, metric_set=metric_set)
        return evaluate(lambda n: draws[torch.randint(1297, (n,))], digits, pinned, settings, functions)

    quick, found = scores("quick", ModelFunctions(lambda x, y: x)), scores("full", every)
    assert {k: found.values[k] for k in quick.values} == quick.values
    assert found.protocol == quick.protocol  # what a row was not asked for does not keep it from others
    undefined = [name for name, value in found.values.items() if value is None]
    assert undefined == ["perceptual distance (efficientnet)"]  # not defined for 8×8 pixels
    for name, value in found.values.items():
        assert found.infos[name].help, name
        assert found.infos[name] == find_score(name), name
        assert value is None or np.isfinite(value), name
    assert found.values["memorization"] == 1  # these are training images
    assert found.values["near copies"] == 1
    assert found.values["reconstruction FD-classifier"] == pytest.approx(0, abs=1e-4)
    assert 0.3 < found.values["linear probe accuracy"] < 0.9
    assert found.values["active units"] == 4
    assert found.neighbors is not None
    assert torch.equal(draws[found.neighbors.indices], found.neighbors.images)
    json.dumps(found.to_dict(), allow_nan=False)
    assert scores("full", every).values == found.values


def test_full_without_an_encoder_density_or_classes_says_na(digits: Dataset) -> None:
    unlabelled = Dataset("mine", Split(digits.train.images), Split(digits.test.images))
    values = score(digits.test.images[:50], unlabelled, Counting(), codes=CODES).values
    na = {name for name, value in values.items() if value is None}
    probes = {"linear probe accuracy", "1-NN accuracy", "5-NN accuracy"}
    classes = {"classes covered", "smallest class share", "class entropy", "classifier score (legacy)"}
    reconstructions = {"reconstruction MSE", "PSNR", "SSIM", "perceptual distance (efficientnet)"}
    assert na == probes | classes | reconstructions | {"reconstruction FD-counting", "log-likelihood"}
    assert "KID-counting" in values
    bare = score(digits.test.images[:50], unlabelled, Counting()).values
    assert set(bare) == set(values)  # the same columns for every model


@pytest.mark.parametrize("batch", [1, 7, 512])
def test_no_score_hangs_on_order_or_batches(digits: Dataset, batch: int) -> None:
    images = digits.train.images[:300]
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    settings = EvaluationSettings(n=300, metric_set="full")
    wanted = evaluate_images([images], digits, Counting(), settings).values
    found = evaluate_images(images[order].split(batch), digits, Counting(), settings).values
    for name, value in wanted.items():
        assert found[name] == (None if value is None else pytest.approx(value, rel=1e-6, abs=1e-9)), name


def test_real_features_are_found_once(digits: Dataset) -> None:
    extractor = Counting()
    first = score(digits.test.images[:50], digits, extractor).values
    seen = extractor.seen
    assert score(digits.test.images[:50], digits, extractor).values == first
    assert extractor.seen == seen + 50


def test_reference_samples_are_some_test_images_and_all_training_images(digits: Dataset, tmp_path: Path) -> None:
    def samples(cap: int) -> ReferenceSamples:
        test, train = digits.test.images, digits.train.images
        return ReferenceSamples(Counting(), test, train, dataset_digest="d", cap=cap, folder=tmp_path)

    some, every = samples(100), samples(500)
    assert (len(some.test), len(every.test), len(some.train)) == (100, 500, 1297)
    assert not torch.equal(some.test, every.test[:100])
    for one in (some, every, samples(100)):
        distance = torch.cdist(one.test.double(), one.train.double()).min(1).values
        torch.testing.assert_close(one.test_to_train_distances(), distance, rtol=1e-6, atol=1e-9)
        assert one.radii(3).shape == one.radii(5).shape == (len(one.test),)
        assert bool((one.radii(3) <= one.radii(5)).all())
    assert len(list(tmp_path.iterdir())) == 2 + 1 + 2 + 4  # test, train, nearest, radii


def test_degenerate_pictures_have_scores_or_a_clear_error(digits: Dataset) -> None:
    one = digits.test.images[:1].expand(40, 1, 8, 8)
    repeated = score(one, digits, Counting()).values
    assert (repeated["precision"], repeated["recall"]) == (1, 0)
    assert not any(value is not None and not np.isfinite(value) for value in repeated.values())
    with pytest.raises(UsageError, match="n: 5 is not allowed; must be at least 6"):
        score(one[:5], digits, Counting())
    with pytest.raises(UsageError, match="must be 'quick' or 'full'"):
        EvaluationSettings(metric_set="all")  # type: ignore[arg-type]
    gray = Dataset("gray", Split(digits.train.images), Split(one.clone()))
    with pytest.raises(ZooError, match="at distance 0"):
        score(one, gray, Counting())

    class Sick(Counting):
        name = "sick"

        def extract(self, images: Tensor) -> Tensor:
            return super().extract(images) * torch.nan

    with pytest.raises(ZooError, match="NaN or infinity"):
        score(one, digits, Sick())
    with pytest.raises(ZooError, match=r"encode: codes with shape \(500,\) are not allowed"):
        score(one, digits, Counting(), codes=attrs.evolve(CODES, encode=lambda x, y: torch.zeros(len(x))))


# The protocol


def test_the_built_in_protocol_entries_are_those_of_0_1_0() -> None:
    # The fingerprint of every stored result depends on each character.
    assert protocol_entries() == {
        "floor": "training images drawn with seed 0",
        "kid": "MMD², unbiased, (x·y/d + 1)³; 100 subsets of 1000 or the smaller side, RandomState(2020)",
        "prdc": "k = 5; at most 10000 a side, drawn with seed 0 or by digest",
        "memorization": "nearest of all training images, Euclidean; at most 10000 a side; near copies: percentile 1",
        "parzen": "pixels in [0, 1]; σ from 0.1 to 1 in 10 steps on 1000 training images drawn with seed 0",
        "probe": "logistic regression, C = 1, standardized codes; at most 10000 training codes drawn with seed 0",
        "knn": "k = 1 and 5, Euclidean; the probe's codes",
        "mmd": "IMQ, C = 2·var(prior)·s, s = 0.1 to 10, unbiased; at most 5000 a side",
        "active units": "Var E[z|x] > 0.01 over the test images",
        "cycle": "at most 5000 codes",
        "likelihood": "importance-weighted, k = 5000, 64 test images drawn with seed 0",
    }


def test_protocols_say_where_they_differ(digits: Dataset) -> None:
    one = score(digits.test.images[:50], digits, Counting()).protocol
    other = attrs.evolve(one, n_generated=10_000, seed=4, metrics={**one.metrics, "prdc": "k = 3"})
    assert one.explain(attrs.evolve(one, seed=9)) == []
    assert other.fingerprint != one.fingerprint
    assert other.explain(one) == [
        "n_generated: 10,000 against 50",
        f"metrics, prdc: k = 3 against {one.metrics['prdc']}",
    ]
    text = one.describe()
    assert text.startswith("fingerprint  ".rstrip())
    for part in (one.fingerprint[:16], "counting", "100 subsets of 1000", "n generated", "torch"):
        assert part in text
    older = {k: v for k, v in one.to_dict().items() if k != "metrics"}
    with pytest.raises(ZooError, match=r"metrics is missing; .* score the run again with zoo eval RUN"):
        Protocol.from_dict(older)


# The commands

Command = Callable[..., Any]  # an Outcome of conftest


@pytest.mark.slow
@pytest.mark.usefixtures("few_samples")
def test_eval_repeats_the_runs_scores_and_adds_to_them(cli: Command, runs: Path, tmp_path: Path) -> None:
    done = cli("eval", runs / "vae", "--out", tmp_path / "full.json", "--protocol")
    assert done.status == 0, done.err
    found = json.loads((tmp_path / "full.json").read_text())
    result = json.loads((runs / "vae" / "result.json").read_text())
    assert {k: found["scores"][k] for k in result["scores"]} == result["scores"]
    assert found["fingerprint"] == result["fingerprint"]
    assert found["metrics"] == "full"
    assert found["scores"]["log-likelihood (Bernoulli, binarized)"] < 0
    assert found["scores"]["MMD to prior"] is not None
    assert (tmp_path / "full-neighbors.png").is_file()
    for part in ("KID-classifier", "memorization ratio", "fingerprint", "100 subsets"):
        assert part in done.out
    assert cli("compare", runs / "vae", tmp_path / "full.json").status == 0


@pytest.mark.slow
@pytest.mark.usefixtures("few_samples")
def test_eval_adds_the_likelihood_by_annealing_where_asked(
    cli: Command, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = annealed.annealed_log_likelihood
    monkeypatch.setattr(
        annealed, "annealed_log_likelihood", lambda density, x, **_: real(density, x, steps=20, leapfrog=3)
    )
    done = cli("eval", runs / "vae", "--ais", "3", "--out", tmp_path / "ais.json")
    assert done.status == 0, done.err
    found = json.loads((tmp_path / "ais.json").read_text())
    name = "log-likelihood (Bernoulli, binarized; AIS, 1000 steps, 16 chains, 3 images)"
    assert found["scores"][name] < 0
    assert found["scores"][f"{name} standard error"] > 0
    assert "annealed" in found["score_info"][name]["description"]
    assert find_score(name).better == "higher"
    result = json.loads((runs / "vae" / "result.json").read_text())
    assert found["fingerprint"] == result["fingerprint"]  # what a row was not asked for does not keep it from others
    cli("eval", runs / "vae", "--ais", "3", "--metrics", "quick").refused(2, "--metrics full")
    cli("eval", "--images", tmp_path, "--dataset", "digits", "--ais", "3").refused(2, "ais: requires a run")


def test_ais_is_na_without_a_density_and_refused_where_it_cannot_be(digits: Dataset) -> None:
    images = digits.test.images[:50]
    settings = EvaluationSettings(n=50, metric_set="full", on_request=(AnnealedLogLikelihood(images=2),))
    values = evaluate_images([images], digits, Counting(), settings).values
    assert values["log-likelihood (AIS)"] is None
    for wrong in (65, -1):
        with pytest.raises(UsageError, match=f"images: {wrong} is not allowed; must be from 1 to 64"):
            AnnealedLogLikelihood(images=wrong)
    with pytest.raises(UsageError, match="on_request: AnnealedLogLikelihood is not allowed"):
        EvaluationSettings(on_request=(AnnealedLogLikelihood(),))


def test_one_scorer_serves_run_and_eval_and_images(runs: Path, digits: Dataset) -> None:
    trained = load(runs / "vae")
    result = json.loads((runs / "vae" / "result.json").read_text())
    scorer = Scorer("classifier", digits, print)
    assert scorer.score(trained)["scores"] == result["scores"]
    assert scores_to_dict(scorer.evaluate(trained))["fingerprint"] == result["fingerprint"]
    by_class = digits.test.images[digits.test.labels.argsort()]
    some = Scorer("classifier", digits, print, EvaluationSettings(n=100)).evaluate_images(by_class, torch.device("cpu"))
    assert some.protocol.n_generated == 100
    assert some.class_shares is not None
    assert min(some.class_shares) > 0  # not the first hundred of a sorted folder, but some of all
    with pytest.raises(UsageError, match="n: 900 is not allowed; there are 500 images"):
        Scorer("classifier", digits, print, EvaluationSettings(n=900)).evaluate_images(
            digits.test.images, torch.device("cpu")
        )
    with pytest.raises(UsageError, match="scores need features"):
        Scorer("none", digits, print).evaluate(trained)
    assert Scorer("none", digits, print).score(trained)["fingerprint"] is None


@pytest.mark.usefixtures("toys")
def test_compare_sets_runs_side_by_side_or_says_why_not(cli: Command, runs: Path) -> None:
    done = cli("compare", runs / "vae", runs / "blind")
    assert done.status == 0, done.err
    row = next(line for line in done.out.splitlines() if line.startswith("FD-classifier "))
    assert len(row.split()) == 4
    assert "n/a" in next(line for line in done.out.splitlines() if line.startswith("reconstruction MSE"))
    assert cli("eval", runs / "blind", "-n", "200", "--metrics", "quick").status == 0
    assert cli("eval", runs / "vae", "-n", "300", "--metrics", "quick").status == 0
    assert (runs / "vae" / "eval-classifier.json").is_file()
    cli("compare", runs / "vae", runs / "blind", "--extractor", "classifier").refused(1, "n_generated: 300 against 200")
    cli("compare", runs / "vae", runs / "color").refused(1, "has no scores", "zoo eval")
    cli("compare", runs / "vae", runs / "nowhere").refused(2, "is not a run folder")
    cli("compare", runs / "vae", runs / "blind", "--extractor", "inception").refused(2, "zoo eval", "writes it")
    for run in ("vae", "blind"):
        (runs / run / "eval-classifier.json").unlink()


def test_eval_scores_anyones_images_under_the_same_protocol(
    cli: Command, runs: Path, tmp_path: Path, digits: Dataset
) -> None:
    done = cli("sample", runs / "vae", "-n", "60", "--out", tmp_path / "made")
    done = cli("sample", runs / "vae", "-n", "60", "--out", tmp_path / "made.npy")
    for source in ("made", "made.npy"):
        out = tmp_path / f"{source}.json"
        done = cli("eval", "--images", tmp_path / source, "--dataset", "digits", "--metrics", "quick", "--out", out)
        assert done.status == 0, done.err
    one, other = (json.loads((tmp_path / f"{s}.json").read_text()) for s in ("made", "made.npy"))
    assert one["scores"] == other["scores"]
    wanted = evaluate_images(
        [torch.from_numpy(np.load(tmp_path / "made.npy"))[:, None]],
        digits,
        PinnedClassifier(),
        EvaluationSettings(n=60),
        second=AutoencoderFeatures(),
    )
    assert one["scores"] == wanted.values
    assert one["fingerprint"] == wanted.protocol.fingerprint
    assert cli("eval", "--images", tmp_path / "made", "--dataset", "digits", "-n", "20").status == 0


def test_eval_refuses_what_it_cannot_score(cli: Command, runs: Path, tmp_path: Path) -> None:
    images = ("eval", "--images", tmp_path)
    cli("eval").refused(2, "either a run folder or --images")
    cli(*images).refused(2, "must be given with --images")
    cli("eval", runs / "vae", "--dataset", "digits").refused(2, "only then")
    cli(*images, "--dataset", "digits").refused(2, "holds no images")
    cli("eval", runs / "vae", "--extractor", "clasifier").refused(2, "Did you mean 'classifier'?")
    cli("eval", runs / "vae", "--extractor", "none").refused(2, "scores need features")
    cli("eval", runs / "vae", "--out", tmp_path / "x.txt").refused(2, "must end in .json")
    cli("eval", tmp_path).refused(2, "is not a run folder")
    np.save(tmp_path / "wide.npy", np.zeros((9, 9, 9), np.uint8))
    cli("eval", "--images", tmp_path / "wide.npy", "--dataset", "digits").refused(2, "8×8 pixels")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    cli(*images, "--dataset", "digits").refused(2, "bad.png", "cannot be read")
