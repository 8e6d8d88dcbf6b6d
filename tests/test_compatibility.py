"""Run folders of zoo 0.1.0: old names are converted when they are read."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import safetensors
import torch
from safetensors.torch import save_file

import zoo
from zoo import options
from zoo.compatibility import RENAMED_OPTIONS, UNUSED_OPTIONS, convert_result
from zoo.data import Dataset, Split
from zoo.evaluation import Protocol
from zoo.evaluation.protocol import compute_fingerprint
from zoo.leaderboard import build, to_markdown
from zoo.registry import registry
from zoo.run.identity import refuse_other_run
from zoo.run.run_folder import RunFolder
from zoo.run.settings import RunSettings
from zoo.run.trained import make_networks

Command = Callable[..., Any]  # an Outcome of conftest

SETTINGS = """# zoo run --config THIS_FILE repeats this run.
model = "{model}"
dataset = "digits"
crop = "center"
images = 128
batch = 64
seed = 0
device = "auto"
precision = "fp32"
compile = false
graphs = true
extractor = "{extractor}"
checkpoint_seconds = 30.0

[options]
"""
VAE = """latent = 16
width = 4
family = "conv"
norm = "batch"
lr = 0.001
beta1 = 0.9
likelihood = "bernoulli"
binarise = true
eps = 1e-08
stages = false
"""
VAEGAN = """beta1 = 0.5
latent = 16
width = 4
family = "conv"
norm = "batch"
lr = 0.0003
tap = 2
raw = true
gamma = 0.02
fakes = "prior"
saturating = true
equilibrium = true
rmsprop = true
weight_decay = 0.0001
"""
AAE = """beta1 = 0.5
width = 4
family = "conv"
norm = "batch"
latent = 8
lr = 0.001
regularise_lr = 0.0004
posterior = "point"
scale = 1.0
sgd = false
noise = 0.3
labels = 0
classes = 10
"""
VAE_WGAN_GP = """beta1 = 0.5
width = 4
family = "conv"
norm = "batch"
latent = 16
lr = 0.0005
gamma = 0.1
penalty = 10.0
n_critic = 2
"""
OPTIONS = {"vae": VAE, "vaegan": VAEGAN, "aae": AAE, "vae-wgan-gp": VAE_WGAN_GP}

PROTOCOL = {
    "extractor": "classifier",
    "extractor_digest": "3f5e68becd3ad72cb4d2495d13f9e77cd2b353408073ceb86c5f7f7cb1cbd7bc",
    "resize": "28x28 as is; 8x8 bilinear to 20x20 in a border of 4; others bilinear antialias=True to 28x28; float32",
    "channels": "1 as is; 3 to grey by ITU-R 601 luma, (19595 R + 38470 G + 7471 B + 32768) >> 16",
    "dataset": "digits",
    "dataset_digest": "eb4759512c5fc69297a0892920591a6b681a7672ad2b07e2c2db6394ce497683",
    "n_real": 500,
    "n_generated": 100,
    "bn_mode": "running",
    "seed": 0,
    "reference_split": "test",
    "dtype": "features float32 (TF32 off), moments float64",
    "quantisation": "generated: mul(255).round().clamp(0, 255).to(uint8), once; real: the original uint8",
    "libraries": {"torch": "2.15.0"},
    "metrics": {
        "floor": "training images drawn with seed 0",
        "kid": "MMD², unbiased, (x·y/d + 1)³; 100 subsets of 1000 or the smaller side, RandomState(2020)",
        "prdc": "k = 5; at most 10000 a side, drawn with seed 0 or by digest",
        "memorisation": "nearest of all training images, Euclidean; at most 10000 a side; near copies: percentile 1",
        "parzen": "pixels in [0, 1]; σ from 0.1 to 1 in 10 steps on 1000 training images drawn with seed 0",
        "probe": "logistic regression, C = 1, standardised codes; at most 10000 training codes drawn with seed 0",
        "knn": "k = 1 and 5, Euclidean; the probe's codes",
        "mmd": "IMQ, C = 2·var(prior)·s, s = 0.1 to 10, unbiased; at most 5000 a side",
        "active units": "Var E[z|x] > 0.01 over the test images",
        "cycle": "at most 5000 codes",
        "likelihood": "importance-weighted, k = 5000, 64 test images drawn with seed 0",
    },
    "revision": 2,
}
FINGERPRINT = "15e0e46a60c5aade5587051e4f54620fad72cfa77f1462509b6873465e5b86a0"
SCORES = {
    "FD-classifier": 170.26,
    "FD-classifier (train)": 170.35,
    "FD-classifier floor": 7.26,
    "reconstruction MSE": 0.178,
    "smallest class share": 0.0,
}
FULL_SCORES = {
    "reconstruction FD-classifier": 170.3,
    "KID-classifier": 7.491,
    "KID-classifier std": 0.7599,
    "memorisation": 0.01,
    "memorisation ratio": 2.346,
    "near copies": 0.0,
    "log-likelihood (Bernoulli, binarised)": -44.23,
    "log-likelihood (Bernoulli, binarised) standard error": 0.003,
    "log-likelihood (Bernoulli, binarised; AIS, 1000 steps, 16 chains, 2 images)": -44.26,
    "log-likelihood (Bernoulli, grey)": -45.0,
}


def config(model: str, extractor: str = "auto") -> str:
    return SETTINGS.format(model=model, extractor=extractor) + OPTIONS[model]


def table(model: str) -> dict[str, Any]:
    import tomllib

    return tomllib.loads(config(model))


def result(model: str, command: str) -> dict[str, Any]:
    settings = {k: v for k, v in table(model).items() if k != "model"}
    return {
        "format": 1,
        "model": model,
        "dataset": "digits",
        "seed": 0,
        "scores": dict(SCORES),
        "protocol": copy.deepcopy(PROTOCOL),
        "fingerprint": FINGERPRINT,
        "class_shares": None,
        "evaluation_seconds": 0.037,
        "cost": {"seconds": 0.1, "images_seen": 128, "parameters": {"encoder": 1652}},
        "plugin": {"name": model, "package": "latent-zoo", "version": "0.1.0"},
        "protocol_file": None,
        "settings": settings,
        "options_changed": {"width": 4},
        "command": command,
        "card": {"summary": "A model.", "paper": "", "game": [], "deviations": {}},
        "provenance": {"zoo": "0.1.0", "finished": "2026-11-24T15:27:13+00:00"},
    }


def folder_of_0_1_0(path: Path, model: str, command: str = "zoo run MODEL") -> Path:
    """A finished run as zoo 0.1.0 left it, with untrained weights."""
    path.mkdir(parents=True)
    (path / "config.toml").write_text(config(model), encoding="utf-8")
    (path / "result.json").write_text(json.dumps(result(model, command)), encoding="utf-8")
    stored = table(model)["options"]
    renamed = {RENAMED_OPTIONS.get(model, {}).get(k, k): v for k, v in stored.items()}
    data = zoo.DataSpec("digits", (1, 8, 8), tuple("0123456789"), torch.zeros(1, 8, 8))
    networks = make_networks(options.build(registry().model(model), renamed), data)
    facts = {"model": model, "options": stored, "dataset": "digits", "shape": [1, 8, 8], "classes": list("0123456789")}
    save_file(networks.state_dict(), path / "model.safetensors", metadata={"zoo": json.dumps(facts)})
    return path


@pytest.mark.parametrize(
    ("model", "name", "value"),
    [("vae", "binarize", True), ("vaegan", "pre_norm", True), ("aae", "regularize_lr", 0.0004)],
)
def test_a_finished_run_loads_with_its_options(model: str, name: str, value: Any, tmp_path: Path, cli: Command) -> None:
    run = folder_of_0_1_0(tmp_path / "run", model)
    trained = zoo.load(run)
    assert getattr(trained.objective, name) == value
    assert trained.sample(3, seed=0).shape == (3, 1, 8, 8)
    done = cli("sample", run, "-n", "4", "--out", tmp_path / "grid.png")
    assert done.status == 0, done.err
    assert (tmp_path / "grid.png").is_file()
    done = cli("run", "--resume", "--out", run)
    assert (done.status, "nothing to do" in done.out + done.err) == (0, True), done.err
    flag = "--" + name.replace("_", "-")
    other = f"--no-{flag[2:]}" if value is True else f"{flag}=0.9"
    cli("run", model, "--resume", "--out", run, other).refused(2, f"{name} {value!r}, here")


def test_weights_alone_load_without_their_config(tmp_path: Path) -> None:
    run = folder_of_0_1_0(tmp_path / "run", "vaegan")
    (run / "config.toml").unlink()
    assert zoo.load(run).objective.pre_norm is True


def test_large_images_keep_the_decoders_of_0_1_0(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    text = config("vae").replace('dataset = "digits"', 'dataset = "cifar10"')
    assert "cifar10" in text
    (run / "config.toml").write_text(text, encoding="utf-8")
    stored = table("vae")["options"]
    renamed = {RENAMED_OPTIONS["vae"].get(k, k): v for k, v in stored.items()}
    data = zoo.DataSpec("cifar10", (3, 32, 32), tuple("0123456789"))
    old = options.build(registry().model("vae"), {**renamed, "family": "conv-transposed"})
    facts = {
        "model": "vae",
        "options": stored,
        "dataset": "cifar10",
        "shape": [3, 32, 32],
        "classes": list(data.classes),
    }
    tensors = make_networks(old, data).state_dict()
    save_file(tensors, run / "model.safetensors", metadata={"zoo": json.dumps(facts)})
    trained = zoo.load(run)
    assert trained.objective.family == "conv-transposed"
    assert trained.sample(2, seed=0).shape == (2, 3, 32, 32)
    settings = RunSettings.from_file(run / "config.toml")
    assert settings.options["family"] == "conv-transposed"
    old_result = result("vae", "zoo run vae")
    old_result["settings"]["dataset"] = "cifar10"
    converted = convert_result(old_result)
    assert converted["options_changed"] == {"width": 4, "family": "conv-transposed"}
    assert converted["command"] == "zoo run vae --family conv-transposed"


def test_weights_of_another_run_are_still_refused(tmp_path: Path) -> None:
    run = folder_of_0_1_0(tmp_path / "run", "vae")
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(text.replace("binarise = true", "binarise = false"))
    with pytest.raises(zoo.ZooError, match=r"of another run than config\.toml: binarize True, not False"):
        zoo.load(run)


@pytest.mark.parametrize("model", sorted(OPTIONS))
def test_a_config_repeats_its_run(model: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(config(model, "none"), encoding="utf-8")
    zoo.train(config=tmp_path / "config.toml", out=tmp_path / "run")
    found = RunFolder(tmp_path / "run")
    assert "lr_schedule" in found.config.read_text()
    assert set(found.settings().options) == set(options.get_options(registry().model(model)))
    assert set(found.settings().options) >= set(RENAMED_OPTIONS.get(model, {}).values())


def test_renamed_and_unused_options_belong_to_the_models() -> None:
    for model, names in RENAMED_OPTIONS.items():
        known = options.get_options(registry().model(model))
        assert set(names.values()) <= set(known), model
        assert not set(names) & set(known), model
    for model, values in UNUSED_OPTIONS.items():
        options.build(registry().model(model), values)


def test_an_option_that_0_1_0_did_not_use_gets_the_value_that_it_used(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(config("vae-wgan-gp"), encoding="utf-8")
    assert RunSettings.from_file(path).options["beta1"] == 0.0
    # Written by hand, or by a later zoo: the option counts.
    path.write_text('model = "vae-wgan-gp"\n[options]\nbeta1 = 0.5\n', encoding="utf-8")
    assert RunSettings.from_file(path).options["beta1"] == 0.5
    path.write_text(config("vae-wgan-gp").replace("seed = 0", 'seed = 0\nlr_schedule = "model"'), encoding="utf-8")
    assert RunSettings.from_file(path).options["beta1"] == 0.5
    run = folder_of_0_1_0(tmp_path / "run", "vae-wgan-gp")
    assert zoo.load(run).sample(2, seed=0).shape == (2, 1, 8, 8)


def test_the_extractor_of_0_1_0_has_another_name_today(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    for text, name in (
        (config("vae", "classifier"), "classifier-v1"),
        (config("vae", "inception"), "inception"),
        ('model = "vae"\nextractor = "classifier"\n', "classifier"),
    ):
        path.write_text(text, encoding="utf-8")
        assert RunSettings.from_file(path).extractor == name


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("epoch = 3", "unknown setting 'epoch'. Did you mean 'epochs'?"),
        ("optimiser = 'adam'", "unknown setting 'optimiser'."),
    ],
)
def test_an_unknown_setting_is_reported_in_one_line(line: str, words: str, tmp_path: Path, cli: Command) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'model = "vae"\n{line}\n', encoding="utf-8")
    cli("run", "--config", path).refused(2, str(path), words)


def test_both_names_of_an_option_are_refused(tmp_path: Path, cli: Command) -> None:
    path = tmp_path / "config.toml"
    path.write_text('model = "vae"\n[options]\nbinarise = true\nbinarize = false\n', encoding="utf-8")
    cli("run", "--config", path, "--out", tmp_path / "run").refused(2, "'binarise'", "Did you mean 'binarize'")


def test_options_of_other_models_keep_their_names() -> None:
    assert RunSettings.from_table({"model": "mirror", "options": {"raw": 1}}).options == {"raw": 1}


# result.json


def test_the_protocol_of_0_1_0_is_that_of_classifier_v1_today() -> None:
    assert compute_fingerprint(PROTOCOL) == FINGERPRINT
    found = Protocol.from_dict(PROTOCOL)
    extractor = zoo.evaluation.ClassifierV1()
    assert (found.extractor, found.extractor_digest) == (extractor.name, extractor.digest)
    assert (found.resize, found.channels) == (extractor.resize, extractor.channels)
    today = Protocol(**{f.name: getattr(found, f.name) for f in attrs.fields(Protocol) if f.name != "quantization"})
    assert today == found
    assert found.metrics == zoo.metrics.built_in.protocol_entries()


def test_scores_are_comparable_with_todays(tmp_path: Path, cli: Command) -> None:
    older, newer = (folder_of_0_1_0(tmp_path / name, "vae") for name in ("older", "newer"))
    found = result("vae", "zoo run vae")
    protocol = Protocol.from_dict(PROTOCOL)
    found |= {
        "scores": {k.replace("FD-classifier", "FD-classifier-v1"): v - 0.01 for k, v in SCORES.items()},
        "protocol": protocol.to_dict(),
        "fingerprint": protocol.fingerprint,
        "score_info": {},
    }
    (newer / "result.json").write_text(json.dumps(found))
    done = cli("compare", older, newer)
    assert done.status == 0, done.err
    assert re.search(r"^FD-classifier-v1 +170\.3 +170\.2", done.out, re.MULTILINE)
    assert "n/a" not in done.out
    found["protocol"]["extractor"], found["protocol"]["extractor_digest"] = "classifier", "0" * 64
    (newer / "result.json").write_text(json.dumps(found))
    cli("compare", older, newer).refused(1, "extractor: classifier-v1 against classifier", "zoo eval RUN --extractor")


def test_scores_of_zoo_eval_have_todays_names(tmp_path: Path, cli: Command) -> None:
    found = {"format": 1, "model": "vae", "scores": {**SCORES, **FULL_SCORES}, "protocol": PROTOCOL}
    (tmp_path / "eval.json").write_text(json.dumps(found))
    done = cli("compare", tmp_path / "eval.json", tmp_path / "eval.json")
    assert done.status == 0, done.err
    for name in (
        "FD-classifier-v1 floor",
        "reconstruction FD-classifier-v1",
        "KID-classifier-v1 std",
        "memorization ratio",
        "log-likelihood (Bernoulli, binarized) standard error",
        "log-likelihood (Bernoulli, binarized; AIS, 1000 steps, 16 chains, 2 images)",
        "log-likelihood (Bernoulli, gray)",
    ):
        assert re.search(rf"^{re.escape(name)} ", done.out, re.MULTILINE), name
    assert not re.search("isation|ised|grey", done.out)


COMMANDS = {
    "vae": ("zoo run vae --seed 0 --binarise --width 4", "zoo run vae --seed 0 --binarize --width 4"),
    "vaegan": ("zoo run vaegan --no-raw --gamma 0.02", "zoo run vaegan --no-pre-norm --gamma 0.02"),
    "aae": ("zoo run aae --regularise-lr=0.0004", "zoo run aae --regularize-lr=0.0004"),
    "vae-wgan-gp": ("zoo run vae-wgan-gp --beta1 0.9 --width 4", "zoo run vae-wgan-gp --width 4"),
}


@pytest.mark.parametrize("model", sorted(OPTIONS))
def test_the_leaderboard_reads_a_result(model: str, tmp_path: Path) -> None:
    before, after = COMMANDS[model]
    run = folder_of_0_1_0(tmp_path / "runs" / "a", model, before)
    metrics = {"step": 1, "images": 64, "seconds": 0.1, "terms": {"regularise/fool": 0.5}, "gradients": {}}
    (run / "metrics.jsonl").write_text(json.dumps(metrics) + "\n")
    board = build([tmp_path / "runs"])
    (row,) = board.groups[0].rows
    (cell,) = row.runs
    assert (cell.headline, cell.score, cell.command) == ("FD-classifier-v1", SCORES["FD-classifier"], after)
    assert cell.fingerprint == Protocol.from_dict(PROTOCOL).fingerprint
    assert set(cell.options) <= set(options.get_options(registry().model(model)))  # today's models have more
    assert cell.options.get("beta1") == (0.0 if model == "vae-wgan-gp" else table(model)["options"]["beta1"])
    assert "FD-classifier-v1" in to_markdown(board)


def test_a_changed_protocol_is_still_refused(tmp_path: Path) -> None:
    run = folder_of_0_1_0(tmp_path / "runs" / "a", "vae")
    found = json.loads((run / "result.json").read_text())
    found["protocol"]["n_generated"] = 1000
    (run / "result.json").write_text(json.dumps(found))
    board = build([tmp_path / "runs"])
    assert not board.groups
    assert "fingerprint does not match the protocol" in board.left_out[0].reason


@pytest.mark.parametrize(
    "changes",
    [{"settings": []}, {"scores": 3}, {"command": 1}, {"model": ["vae"]}, {"card": {"game": [3]}}, {"protocol": []}],
)
def test_entries_of_the_wrong_type_are_refused_not_raised(changes: dict[str, Any], tmp_path: Path) -> None:
    run = folder_of_0_1_0(tmp_path / "runs" / "a", "vae")
    (run / "result.json").write_text(json.dumps({**result("vae", "zoo run vae"), **changes}))
    assert [entry.kind for entry in build([tmp_path / "runs"]).left_out] == ["unreadable"]


def test_the_picture_of_neighbors_is_shown(tmp_path: Path) -> None:
    from PIL import Image

    from zoo.leaderboard.thumbnails import pictures

    run = folder_of_0_1_0(tmp_path / "runs" / "a", "vae", "zoo run vae")
    Image.new("L", (8, 8)).save(run / "neighbours.png")
    (cell,) = build([tmp_path / "runs"]).groups[0].rows[0].runs
    assert cell.files == {"neighbors"}
    assert pictures(cell, 10_000)["neighbors"][:2] == (8, 8)


# Checkpoints


def test_logged_terms_have_todays_names(tmp_path: Path) -> None:
    run = folder_of_0_1_0(tmp_path / "run", "aae")
    line = {
        "step": 1,
        "images": 64,
        "seconds": 0.1,
        "terms": {"reconstruct/rec": 22.8, "judge/gan": 1.4, "regularise/fool": 0.7},
        "gradients": {"regularise/encoder": 0.1},
    }
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    (found,) = RunFolder(run).logged()
    assert found["terms"] == {"reconstruct/rec": 22.8, "critic/gan": 1.4, "regularize/fool": 0.7}
    assert found["gradients"] == {"regularize/encoder": 0.1}


LAYOUT = {
    "aae": ("af2f04c814d27c51", "bf9ad16821f66543"),
    "age": ("9261b295693ac9d2", "4cdd9735fbfd4036"),
    "ali": ("383c1f38f1efd0a2", "64f32492f6bc42c7"),
    "alice": ("383c1f38f1efd0a2", "b4c5df8ed2a758c5"),
    "alpha-gan": ("85f2e9b030139702", "3ab34a9cb9b5d1d2"),
    "avb": ("513c5aeb5ac07ef8", "a8b168fadcf77c67"),
    "beta-vae": ("2cca673170905059", "d844e0196d87e0f2"),
    "bigan": ("60d074d27607d3f9", "7f4551b2166bb2a3"),
    "gan": ("f17fd008c67f89ae", "b8ec9308d93a9bd2"),
    "iwae": ("2cca673170905059", "6b0f28598edfa71f"),
    "soft-introvae": ("2cca673170905059", "74bfb5ccf7153c27"),
    "vae": ("2cca673170905059", "d844e0196d87e0f2"),
    "vae-wgan-gp": ("bf991cdc6a204a08", "3f8fdbf147e29a99"),
    "vaegan": ("52081a41dac2d6b5", "878441fa3f93ac3e"),
    "vaegan-twin": ("d5545d3f9a6d3d3b", "232b1eb67fdab8e7"),
    "wae-gan": ("af2f04c814d27c51", "c1dec97d72c69a80"),
    "wae-mmd": ("8d8d875f7d09a935", "59bf696932dc3ba9"),
    "wgan-gp": ("e0882c9a3679adb4", "209be74595c5d712"),
}
"""Digests of the names, types and shapes in ``model.safetensors`` and in the checkpoint that 0.1.0 wrote at width 4."""


def layout(path: Path) -> str:
    with safetensors.safe_open(path, framework="pt") as file:
        slices = [(name, file.get_slice(name)) for name in sorted(file.keys())]
        lines = [f"{name} {found.get_dtype()} {found.get_shape()}" for name, found in slices]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


@pytest.mark.parametrize("model", sorted(LAYOUT))
def test_weights_and_checkpoints_have_the_names_of_0_1_0(model: str, tmp_path: Path, own_drawing: None) -> None:
    zoo.train(model, out=tmp_path / "run", images=256, width=4, extractor="none", device="cpu")
    found = RunFolder(tmp_path / "run")
    assert (layout(found.model), layout(found.checkpoint)) == LAYOUT[model]


@pytest.fixture
def own_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing: curves and images cost more than these runs."""
    import importlib

    train = importlib.import_module("zoo.run.train")
    monkeypatch.setattr(train, "draw_curves", lambda folder: [])
    monkeypatch.setattr(train, "draw_images", lambda *args: [])


def strip_to_0_1_0(run: Path) -> None:
    """Leave of the checkpoint's facts and of ``config.toml`` what 0.1.0 wrote."""
    folder = RunFolder(run)
    tensors, facts = folder.load_checkpoint()
    folder.save_checkpoint(tensors, {"seconds": facts["seconds"], "steps": facts["steps"]})
    kept = [line for line in folder.config.read_text().splitlines() if not line.startswith("lr_")]
    folder.config.write_text("\n".join(kept) + "\n")


@pytest.mark.parametrize(("older", "steps"), [(True, 20), (False, 21)])
def test_a_run_is_resumed_to_the_length_that_it_began_with(
    older: bool, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_drawing: None
) -> None:
    """0.1.0 rounded each epoch down: 21 batches of 60 digits are 10 steps of two batches, not 10.5."""
    save, run = RunFolder.save_checkpoint, tmp_path / "run"

    def save_and_stop(self: RunFolder, *args: Any) -> None:
        save(self, *args)
        raise KeyboardInterrupt

    given = {"epochs": 2, "batch": 60, "width": 4, "extractor": "none", "checkpoint_seconds": 0.0}
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_checkpoint", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            zoo.train("wgan-gp", out=run, **given)
    if older:
        strip_to_0_1_0(run)
    zoo.train(out=run, resume=True, checkpoint_seconds=30.0)
    assert RunFolder(run).logged()[-1]["step"] == steps


def test_a_small_folder_begun_by_0_1_0_is_not_resumed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.save_checkpoint({"x": torch.zeros(1)}, {"seconds": 1.0, "steps": 3})

    def data(n: int) -> Dataset:
        return Dataset("folder:cats", Split(torch.zeros(n, 1, 8, 8, dtype=torch.uint8)), Split(ONE))

    settings = RunSettings(model="vae", dataset="folder:/pictures/cats")
    with pytest.raises(zoo.UsageError, match=r"begun by zoo 0\.1\.0, .*start a new run with zoo run --config") as error:
        refuse_other_run(folder, settings, data(98))
    assert "\n" not in str(error.value)
    refuse_other_run(folder, settings, data(99))


ONE = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
