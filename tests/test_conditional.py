"""Models conditional on labels: networks, training, sampling, evaluation and the command line."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
import pytest
import torch

import zoo
from zoo.data import DataSpec, to_uint8
from zoo.errors import UsageError
from zoo.interfaces import Networks
from zoo.metrics.coverage import LabelAccuracy
from zoo.registry import registry
from zoo.run.evaluation_inputs import Sampler
from zoo.run.trained import make_networks, wrap_trained

SPEC = DataSpec("ten", (1, 16, 16), tuple("0123456789"), torch.zeros(1, 16, 16))
MODELS = ["cvae", "cgan"]


def trained(model: str) -> zoo.TrainedModel:
    torch.manual_seed(0)
    objective = registry().model(model)(width=4)
    return wrap_trained(objective, make_networks(objective, SPEC), SPEC)


@pytest.mark.parametrize("model", MODELS)
def test_samples_depend_on_the_class(model: str) -> None:
    net = trained(model)
    three, again, four = (net.sample(4, y=y, seed=0) for y in (3, [3, 3, 3, 3], 4))
    assert torch.equal(three, again)
    assert not torch.allclose(three, four)
    # All classes in turn by default, whatever the batch size.
    torch.testing.assert_close(net.sample(12, seed=0), net.sample(12, y=torch.arange(12) % 10, seed=0, batch=5))


def test_reconstructions_need_the_labels_and_depend_on_them() -> None:
    net = trained("cvae")
    x = torch.randint(0, 256, (3, 1, 16, 16), dtype=torch.uint8)
    assert not torch.allclose(net.encode(x, 1), net.encode(x, 2))
    assert not torch.allclose(net.reconstruct(x, [0, 1, 2]), net.reconstruct(x, [1, 2, 3]))
    with pytest.raises(UsageError, match="conditional on the labels of the images"):
        net.encode(x)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (10, "must be from 0 to 9"),
        (-1, "must be from 0 to 9"),
        ([1, 2], "integers \\(4,\\)"),
        (0.5, "must be an integer"),
    ],
)
def test_labels_are_checked(y: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        trained("cgan").sample(4, y=y)


def test_other_models_take_no_labels() -> None:
    with pytest.raises(UsageError, match="the model is not conditional"):
        trained("vae").sample(4, y=1)


@pytest.mark.parametrize("model", MODELS)
def test_a_data_set_without_labels_is_refused_before_training(model: str) -> None:
    with pytest.raises(UsageError, match="it has no labels"):
        registry().model(model)().networks(attrs.evolve(SPEC, classes=()))


def test_a_projection_critic_adds_the_inner_product_with_the_class_embedding() -> None:
    torch.manual_seed(0)
    critic = zoo.critic(SPEC, 4, norm="none", labels="projection")
    x, y = torch.randn(5, 1, 16, 16), torch.tensor([0, 1, 2, 3, 4])
    with torch.no_grad():
        unconditional = critic(x, y).logits  # the embedding is zero at first
        critic.embedding.weight.normal_()
        h, _ = critic.critic.last_features(x)
        expected = unconditional + torch.stack([h[i] @ critic.embedding.weight[y[i]] for i in range(5)])
        torch.testing.assert_close(critic(x, y).logits, expected)


def test_the_label_reaches_encoder_and_critic_as_planes() -> None:
    encoder = zoo.encoder(SPEC, 3, 4, labels=True)
    seen: list[torch.Tensor] = []
    encoder.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = torch.randn(2, 1, 16, 16)
    encoder(x, torch.tensor([0, 9]))
    assert seen[0].shape == (2, 11, 16, 16)
    assert torch.equal(seen[0][:, :1], x)
    expected = torch.zeros(2, 10)
    expected[0, 0] = expected[1, 9] = 1
    assert torch.equal(seen[0][:, 1:], expected[:, :, None, None].expand(-1, -1, 16, 16))


def test_the_cvaes_terms_are_the_bound_of_p_of_x_given_y() -> None:
    torch.manual_seed(1)
    objective = registry().model("cvae")(width=4, latent=3)
    net = Networks(objective.networks(SPEC)).eval()
    x, y = torch.rand(6, 1, 16, 16) * 2 - 1, torch.arange(6)
    torch.manual_seed(2)
    terms = objective.terms(net, x, y)
    torch.manual_seed(2)
    q = net.encoder(x, y)
    z = q.mean + (0.5 * q.logvar).exp() * torch.randn_like(q.mean)
    logits = net.decoder(z, y).logits
    target = (x + 1) / 2
    bce = -(target * torch.nn.functional.logsigmoid(logits) + (1 - target) * torch.nn.functional.logsigmoid(-logits))
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(normal(q.mean, (0.5 * q.logvar).exp()), normal(0.0, 1.0))
    torch.testing.assert_close(terms["nll"], bce.sum((1, 2, 3)).mean())
    torch.testing.assert_close(terms["kl"], kl.sum(1).mean())


def test_label_accuracy_is_a_share_of_all_images() -> None:
    metric = LabelAccuracy()
    logits = torch.eye(3)
    metric.update(logits, torch.tensor([0, 1, 0]))
    metric.update(logits[:1], torch.tensor([0]))
    assert float(metric.compute()) == 0.75


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("conditional") / "cvae"
    zoo.train("cvae", dataset="digits", epochs=8, seed=0, out=out, width=8, latent=4)
    return out


def test_a_short_run_learns_the_classes(run: Path) -> None:
    import json

    result = json.loads((run / "result.json").read_text())
    assert result["scores"]["label accuracy"] > 0.6  # 0.1 by chance
    assert "label accuracy" not in json.dumps(result["protocol"])  # no other model's scores are affected


def test_zoo_sample_draws_a_class(cli, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "three.npy"
    done = cli("sample", run, "-n", 5, "--class", "3", "--out", out)
    assert done.status == 0, done.err
    assert np.array_equal(np.load(out), to_uint8(zoo.load(run).sample(5, y=3, seed=0))[:, 0].numpy())
    wrong = cli("sample", run, "--class", "12")
    assert wrong.status == 2
    assert "12" in wrong.err


@pytest.mark.parametrize(
    "command",
    [["reconstruct"], ["interpolate", "--rows", "2"], ["traverse", "--class", "4"], ["encode"], ["embed", "-n", "50"]],
    ids=lambda command: command[0],
)
def test_the_commands_of_autoencoders_work(cli, run: Path, tmp_path: Path, command: list[str]) -> None:
    out = tmp_path / f"out.{'npz' if command == ['encode'] else 'png'}"
    done = cli(command[0], run, *command[1:], "--out", out)
    assert done.status == 0, done.err
    assert out.is_file()


def test_commands_refuse_what_labels_exclude(cli, run: Path, runs: Path, tmp_path: Path) -> None:
    for command, words in (
        (("sample", runs / "vae", "--class", "3"), "the model is not conditional"),
        (("attribute", run, "--from", "3", "--to", "8"), "a conditional model is not allowed"),
        (
            ("export", run, "--format", "torch-export", "--out", tmp_path / "x.pt2"),
            "a conditional model is not allowed",
        ),
    ):
        done = cli(*command)
        assert done.status == 2, done.err
        assert words in done.err


def test_an_evaluation_asks_for_all_classes_over_its_batches() -> None:
    spec = attrs.evolve(SPEC, classes=tuple(map(str, range(47))))
    objective = registry().model("cgan")(width=4)
    sampler = Sampler(wrap_trained(objective, make_networks(objective, spec), spec))
    labels = []
    for n in (20, 20, 7, 47):
        assert sampler.sample(n).shape == (n, 1, 16, 16)
        labels += sampler.labels(n).tolist()
    assert labels == [*range(47), *range(47)]


@pytest.mark.parametrize(("inputs", "labels"), [("z", "concatenate"), ("z", "projection"), ("xz", "projection")])
def test_critics_that_cannot_use_labels_are_refused(inputs: str, labels: str) -> None:
    with pytest.raises(UsageError, match=f"labels: '{labels}' is not allowed for a critic with inputs='{inputs}'"):
        zoo.critic(SPEC, 4, inputs=inputs, latent=3, labels=labels)
