"""One step of each preset: its losses on fixed tensors against formulas of the paper or the authors' code, by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
from zoo import options
from zoo.preset import get_presets
from zoo.registry import registry
from zoo.run.settings import RunSettings

B, D = 6, 3


class Encoder(zoo.Encoder):
    """Images (B, 1, 2, 2) to N(mean, σ²) or a point."""

    def __init__(self, latent: int, point: bool) -> None:
        super().__init__()
        self.mean, self.logvar, self.point = nn.Linear(4, latent), nn.Linear(4, latent), point

    def forward(self, x: Tensor) -> zoo.Posterior:
        x = x.flatten(1)
        return zoo.PointPosterior(self.mean(x)) if self.point else zoo.GaussianPosterior(self.mean(x), self.logvar(x))


class Decoder(zoo.Decoder):
    """Codes to images, or to Bernoulli pixels."""

    def __init__(self, latent: int, bernoulli: bool = False) -> None:
        super().__init__()
        self.linear, self.bernoulli = nn.Linear(latent, 4), bernoulli

    def forward(self, z: Tensor) -> Any:
        out = self.linear(z).view(-1, 1, 2, 2)
        return zoo.BernoulliLikelihood(out) if self.bernoulli else out.tanh()


class Critic(zoo.Critic):
    """Anything to a logit."""

    def __init__(self, inputs: Any, features: int) -> None:
        super().__init__()
        self.inputs, self.hidden, self.head = inputs, nn.Linear(features, 5), nn.Linear(5, 1)

    def forward(self, *seen: Tensor) -> zoo.CriticOutput:
        h = self.hidden(torch.cat([v.flatten(1) for v in seen], 1))
        return zoo.CriticOutput(self.head(h.tanh()).squeeze(1), h)


def objective(model: str, preset: str = "paper") -> Any:
    """The model with the options of its preset, but D-dimensional codes."""
    cls = registry().model(model)
    given = {**get_presets(cls)[preset].settings, "latent": D}
    return options.build(cls, {k: v for k, v in given.items() if k not in options.get_options(RunSettings)})


def seeded(**parts: nn.Module) -> Any:
    torch.manual_seed(7)
    networks = zoo.Networks(parts)
    with torch.no_grad():
        for p in networks.parameters():
            p.normal_(0, 0.7)
    return networks


def batch() -> Tensor:
    return torch.rand(B, 1, 2, 2, generator=torch.Generator().manual_seed(3)) * 2 - 1


def play(model: Any, net: Any, *given: Tensor) -> dict[str, dict[str, float]]:
    """Each player's loss in each turn, by turn and network, every turn from seed 0."""
    losses: dict[str, dict[str, float]] = {}
    for turn in model.turns():
        torch.manual_seed(0)
        terms = turn.terms(net, *given) if turn.labeled_images else turn.terms(net, given[0])
        losses[turn.name] = {
            network: float(sum(weight * float(terms[term].detach()) for term, weight in row.items()))
            for network, row in turn.players.items()
        }
    return losses


def bce(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def kl(q: zoo.GaussianPosterior) -> Tensor:
    """−½ Σ (1 + log σ² − μ² − σ²), (B,)."""
    return -0.5 * (1 + q.logvar - q.mean**2 - q.logvar.exp()).sum(1)


def close(found: Mapping[str, float], **expected: Tensor) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value.detach()), rel=2e-5, abs=1e-6), name


def test_vae_kingma_welling():
    """Equation 10 with L = 1: KL in closed form minus the cross-entropy of gray pixels."""
    model, net, x = objective("vae"), seeded(encoder=Encoder(D, False), decoder=Decoder(D, True)), batch()
    found = play(model, net, x)
    torch.manual_seed(0)
    q = net.encoder(x)
    z = q.mean + q.std * torch.randn(B, D)
    logits, u = net.decoder(z).logits, (x + 1) / 2
    likelihood = u * F.logsigmoid(logits) + (1 - u) * F.logsigmoid(-logits)
    loss = (kl(q) - likelihood.flatten(1).sum(1)).mean()
    close(found["step"], encoder=loss, decoder=loss)
    optimizer = model.optimizer("encoder", "step")
    assert optimizer == zoo.Adagrad(lr=0.01, weight_decay=1 / 60_000)


@pytest.mark.parametrize("k", [1, 50])
def test_iwae(k):
    """yburda/iwae, iwae.py:174-182: −log (1/k) Σ p(x, z)/q(z | x), of pixels drawn from the grays."""
    model = attrs.evolve(objective("iwae"), k=k)
    net, x = seeded(encoder=Encoder(D, False), decoder=Decoder(D, True)), batch()
    found = play(model, net, x)
    torch.manual_seed(0)
    u = torch.bernoulli((x + 1) / 2)
    q = net.encoder(2 * u - 1)
    log_w = []
    for _ in range(k):
        z = q.mean + q.std * torch.randn(B, D)
        p = torch.distributions.Bernoulli(logits=net.decoder(z).logits).log_prob(u).flatten(1).sum(1)
        prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
        log_w.append(p + prior - torch.distributions.Normal(q.mean, q.std).log_prob(z).sum(1))
    loss = -(torch.stack(log_w).exp().mean(0).log()).mean()
    close(found["step"], encoder=loss, decoder=loss)


@pytest.mark.parametrize(("model", "preset"), [("iwae", "paper"), ("vae", "burda")])
def test_burdas_schedule(model, preset):
    """experiments.py:118-122: stage i of 3^(i−1) epochs at 1e-4·round(10^(1 − (i−1)/7), 1)."""
    adam = objective(model, preset).optimizer("encoder", "step")
    assert (adam.lr, adam.beta1, adam.beta2, adam.eps) == (1e-3, 0.9, 0.999, 1e-4)
    first = 0
    for i in range(1, 9):
        middle = (first + 3 ** (i - 1) / 2) / 3280
        rounded = 1e-4 * round(10.0 ** (1 - (i - 1) / 7), 1)
        assert adam.lr * adam.schedule.factor(middle) == pytest.approx(rounded, rel=0.02)
        first += 3 ** (i - 1)
    assert first == 3280


def test_beta_vae():
    """Equation 4 with β = 250 and unit variance: ½‖x − x̂‖² up to a constant."""
    model, x = objective("beta-vae"), batch()
    from zoo_plugins.models.vae import UnitGaussianDecoder

    net = seeded(encoder=Encoder(D, False), decoder=UnitGaussianDecoder(Decoder(D)))
    found = play(model, net, x)
    torch.manual_seed(0)
    q = net.encoder(x)
    mean = net.decoder.decoder(q.mean + q.std * torch.randn(B, D))
    error = 0.5 * ((x - mean) ** 2).flatten(1).sum(1) + 2 * math.log(2 * math.pi)
    close(found["step"], **dict.fromkeys(("encoder", "decoder"), (error + 250 * kl(q)).mean()))


def test_gan():
    """faces/train_uncond_dcgan.py:134-145, 202: cross-entropies, the generator non-saturating, z ~ U(−1, 1)."""
    model, net, x = objective("gan"), seeded(decoder=Decoder(D), critic=Critic("x", 4)), batch()
    found = play(model, net, x)
    torch.manual_seed(0)
    fake = net.critic(net.decoder(torch.rand(B, D) * 2 - 1)).logits
    close(found["critic"], critic=bce(net.critic(x).logits, 1) + bce(fake, 0))
    close(found["generator"], decoder=bce(fake, 1))
    assert model.optimizer("critic", "critic") == zoo.Adam(lr=2e-4, beta1=0.5, weight_decay=1e-5)
    torch.manual_seed(0)
    assert model.prior(torch.empty(0), 1000).abs().max() <= 1


def test_wgan_gp():
    """gan_mnist.py:134-159, with pixels u in [0, 1]: the penalty is of the slope in u."""
    model, net, x = objective("wgan-gp"), seeded(decoder=Decoder(D), critic=Critic("x", 4)), batch()
    found = play(model, net, x)
    torch.manual_seed(0)
    fake = net.decoder(torch.randn(B, D))
    u, u_fake = (x + 1) / 2, (fake + 1) / 2
    alpha = torch.rand(B, 1, 1, 1)
    points = (u + alpha * (u_fake - u)).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(net.critic(2 * points - 1).logits.sum(), points)
    penalty = ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()
    cost = net.critic(fake).logits.mean() - net.critic(x).logits.mean()
    close(found["critic"], critic=cost + 10 * penalty)
    close(found["generator"], decoder=-net.critic(fake).logits.mean())
    assert model.optimizer("critic", "critic") == zoo.Adam(lr=1e-4, beta1=0.5, beta2=0.9)
    assert [turn.repeat for turn in model.turns()] == [5, 1]


@pytest.mark.parametrize("model", ["wgan-gp", "vae-wgan-gp"])
def test_beta1_reaches_the_optimizer(model):
    adam = options.build(registry().model(model), {"beta1": 0.9}).optimizer("critic", "critic")
    assert adam.beta1 == 0.9
    torch_adam = adam.build([nn.Parameter(torch.zeros(2))], torch.device("cpu"))
    assert torch_adam.param_groups[0]["betas"] == (0.9, 0.9)


def test_vaegan():
    """aegan.py:61-117 and WeightedParameter: Dec by γ·like − gan, Enc by KL + like, Dis by gan."""
    model, x = objective("vaegan"), batch()
    net = seeded(encoder=Encoder(D, False), decoder=Decoder(D), critic=Critic("x", 4))
    found = play(model, net, x)
    torch.manual_seed(0)
    q = net.encoder(x)
    z = q.mean + q.std * torch.randn(B, D)
    rec, new = net.decoder(z), net.decoder(torch.randn(B, D))
    like = 0.5 * ((net.critic(rec).features - net.critic(x).features) ** 2).sum(1).mean()
    gan = -(net.critic(x).logits.sigmoid().log() + (1 - net.critic(new).logits.sigmoid()).log()).mean()
    close(found["step"], encoder=kl(q).mean() + like, decoder=1e-6 * like - gan, critic=gan)
    # aegan.py:78, 85: the rate of epoch e over the batch of 64; annealers.py:41-45.
    rmsprop = model.optimizer("decoder", "step")
    assert (rmsprop.alpha, rmsprop.eps) == (0.9, 1e-8)
    for epoch in (0, 1, 100, 249):
        expected = (0.025 - (epoch / 250) ** 0.75 * (0.025 - 0.00001)) / 64
        assert rmsprop.lr * rmsprop.schedule.factor((epoch + 0.5) / 250) == pytest.approx(expected)
    # parameter.py:74: gradients of sums over 64 images gain 2·1e-5·w.
    assert rmsprop.weight_decay * 64 == pytest.approx(2e-5)


def pairs(net: Any, x: Tensor, z_x: Tensor, x_z: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    return net.critic(x, z_x).logits, net.critic(x_z, z).logits


def test_bigan():
    """gan.py:169-187: halves of both cross-entropies, and both with the labels swapped."""
    from zoo_plugins.models.bigan import BoundedEncoder

    model, x = objective("bigan"), batch()
    net = seeded(encoder=BoundedEncoder(Encoder(D, True)), decoder=Decoder(D), critic=Critic("xz", 4 + D))
    found = play(model, net, x)
    torch.manual_seed(0)
    z = torch.rand(B, D) * 2 - 1
    code = 2 * net.encoder.encoder(x).mean.sigmoid() - 1
    q, p = pairs(net, x, code, net.decoder(z), z)
    swap = (bce(q, 0) + bce(p, 1)) / 2
    close(found["step"], critic=(bce(q, 1) + bce(p, 0)) / 2, encoder=swap, decoder=swap)
    adam = model.optimizer("encoder", "step")
    assert (adam.lr, adam.beta1, adam.weight_decay) == (2e-4, 0.5, 2.5e-5)
    # train_gan.py:812-830: 200 epochs constant, then exponentially to a hundredth over 200.
    assert [adam.schedule.factor(e / 400) for e in (0, 199, 300)] == pytest.approx([1, 1, 0.1])


def test_ali():
    """ali/bricks.py:62-74: softplus of both kinds of pairs."""
    model, x = objective("ali"), batch()
    net = seeded(encoder=Encoder(D, False), decoder=Decoder(D), critic=Critic("xz", 4 + D))
    found = play(model, net, x)
    torch.manual_seed(0)
    z = torch.randn(B, D)
    posterior = net.encoder(x)
    z_x = posterior.mean + posterior.std * torch.randn(B, D)
    q, p = pairs(net, x, z_x, net.decoder(z), z)
    swap = (F.softplus(q) + F.softplus(-p)).mean()
    close(found["step"], critic=(F.softplus(-q) + F.softplus(p)).mean(), encoder=swap, decoder=swap)
    assert model.optimizer("critic", "step") == zoo.Adam(lr=1e-4, beta1=0.5)


def test_alice():
    """cifar_R.py:123-138 and 165-177: ALI's game in two turns, plus λ times the mean absolute cycles."""
    model, x = objective("alice"), batch()
    net = seeded(encoder=Encoder(D, False), decoder=Decoder(D), critic=Critic("xz", 4 + D))
    found = play(model, net, x)
    torch.manual_seed(0)
    z = torch.randn(B, D)
    posterior = net.encoder(x)
    z_x = posterior.mean + posterior.std * torch.randn(B, D)
    x_z = net.decoder(z)
    again = net.encoder(x_z)
    z_again = again.mean + again.std * torch.randn(B, D)
    q, p = pairs(net, x, z_x, x_z, z)
    cycles = (x - net.decoder(z_x)).abs().mean() + (z - z_again).abs().mean()
    swap = (F.softplus(q) + F.softplus(-p)).mean() + cycles
    close(found["critic"], critic=(F.softplus(-q) + F.softplus(p)).mean())
    close(found["autoencode"], encoder=swap, decoder=swap)


@pytest.mark.parametrize("preset", ["paper", "labels"])
def test_aae(preset):
    """Algorithm of section 2 and appendix A: ½‖u − û‖² of pixels in [0, 1]; SGD with momentum .9 and .1."""
    from zoo_plugins.models.aae import ClassEncoder

    model, x = objective("aae", preset), batch()
    k = 10 if preset == "labels" else 0
    encoder: nn.Module = Encoder(D + k, True)
    critics = {"critic": Critic("z", D)} | ({"class_critic": Critic("z", k)} if k else {})
    net = seeded(encoder=ClassEncoder(encoder, k) if k else encoder, decoder=Decoder(D + k), **critics)
    y = torch.arange(B)
    found = play(model, net, x, y)
    sigma = 2 * 0.3 if k else 0.0

    def code() -> Tensor:
        noisy = x + (sigma * torch.randn_like(x) if k else 0)
        h = encoder.mean(noisy.flatten(1))
        return torch.cat([h[:, :k].softmax(1), h[:, k:]], 1)

    torch.manual_seed(0)
    u, u_rec = (x + 1) / 2, (net.decoder(code()) + 1) / 2
    rec = 0.5 * ((u - u_rec) ** 2).flatten(1).sum(1).mean()
    close(found["reconstruct"], encoder=rec, decoder=rec)
    torch.manual_seed(0)
    z = (1 if k else 5) * torch.randn(B, D)
    drawn = torch.eye(10)[torch.randint(10, (B,))] if k else None
    judged = code()
    expected = {"critic": bce(net.critic(z).logits, 1) + bce(net.critic(judged[:, k:]).logits, 0)}
    if k:
        expected["class_critic"] = bce(net.class_critic(drawn).logits, 1) + bce(
            net.class_critic(judged[:, :k]).logits, 0
        )
    close(found["critic"], **expected)
    torch.manual_seed(0)
    judged = code()
    fool = bce(net.critic(judged[:, k:]).logits, 1)
    close(found["regularize"], encoder=fool + (bce(net.class_critic(judged[:, :k]).logits, 1) if k else 0))
    if k:
        torch.manual_seed(0)
        close(found["classify"], encoder=F.nll_loss(code()[:, :k].log(), y))
        assert model.optimizer("encoder", "classify") == zoo.SGD(lr=0.1, momentum=0.9)
    assert model.optimizer("encoder", "reconstruct") == zoo.SGD(lr=0.01, momentum=0.9)
    assert model.optimizer("encoder", "regularize") == zoo.SGD(lr=0.1, momentum=0.1)
    settings = get_presets(registry().model("aae"))[preset].settings
    schedule = RunSettings(**{k: v for k, v in settings.items() if k.startswith("lr_")}).optimization().lr_schedule
    epochs = settings["epochs"]
    rates = {10: 1.0, 60: 0.1} | ({1200: 0.01} if k else {})
    for epoch, factor in rates.items():
        assert schedule.factor(epoch / epochs) == pytest.approx(factor)


def noisy(x: Tensor) -> Tensor:
    """models.py:8-13: a normal of σ = .01 truncated at 2σ, on pixels in [0, 1]."""
    return x + 2 * 0.01 * nn.init.trunc_normal_(torch.empty_like(x))


def test_wae_mmd():
    """wae.py:233-310 and 340-342."""
    model, net, x = objective("wae-mmd"), seeded(encoder=Encoder(D, True), decoder=Decoder(D)), batch()
    found = play(model, net, x)
    torch.manual_seed(0)
    z_q = net.encoder(noisy(x)).mean
    rec = 0.05 * (((x - net.decoder(z_q)) / 2) ** 2).flatten(1).sum(1).mean()
    z_p = torch.randn(B, D)

    def distances(a: Tensor, b: Tensor) -> Tensor:
        return (a**2).sum(1, keepdim=True) + (b**2).sum(1) - 2 * a @ b.T

    stat = torch.tensor(0.0)
    for scale in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0):
        c = 2 * D * scale
        same = c / (c + distances(z_q, z_q)) + c / (c + distances(z_p, z_p))
        stat = stat + (same * (1 - torch.eye(B))).sum() / (B * B - B)
        stat = stat - (c / (c + distances(z_q, z_p))).sum() * 2 / (B * B)
    close(found["step"], encoder=rec + 10 * stat, decoder=rec + 10 * stat)
    check_wae_schedule(model.optimizer("encoder", "step"), 0.001)


def test_wae_gan():
    """wae.py:312-329: the encoder's loss is the non-saturating one, the critic's the cross-entropy."""
    model, x = objective("wae-gan"), batch()
    net = seeded(encoder=Encoder(D, True), decoder=Decoder(D), critic=Critic("z", D))
    found = play(model, net, x)
    torch.manual_seed(0)
    z_q = net.encoder(noisy(x)).mean
    rec = 0.05 * (((x - net.decoder(z_q)) / 2) ** 2).flatten(1).sum(1).mean()
    close(found["autoencode"], encoder=rec + 10 * bce(net.critic(z_q).logits, 1), decoder=rec)
    torch.manual_seed(0)
    z_p = torch.randn(B, D)
    judged = bce(net.critic(z_p).logits, 1) + bce(net.critic(net.encoder(noisy(x)).mean).logits, 0)
    close(found["critic"], critic=judged)
    check_wae_schedule(model.optimizer("encoder", "autoencode"), 0.001)
    check_wae_schedule(model.optimizer("critic", "critic"), 0.0005)


def check_wae_schedule(adam: Any, lr: float) -> None:
    """configs.py:71-76; wae.py:542-548: ÷2 at epoch 30, ÷5 more at 50, of 100."""
    assert (adam.lr, adam.beta1) == (lr, 0.5)
    assert [adam.schedule.factor(e / 100) for e in (0, 29, 30, 49, 50, 99)] == [1, 1, 0.5, 0.5, 0.1, 0.1]


def test_avb():
    """avb/__init__.py:24-61: T on the normalized code, the Gaussian's and the prior's log densities added back."""

    class Fixed(zoo.Posterior):
        def __init__(self, mean: Tensor) -> None:
            self.mean, self.std = mean, mean.abs().detach() + 0.3
            self.z = mean + self.std * torch.linspace(-1, 1, B * D).view(B, D)

        def rsample(self) -> Tensor:
            return self.z

    class FixedEncoder(zoo.Encoder):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, D)

        def forward(self, x: Tensor) -> zoo.Posterior:
            return Fixed(self.linear(x.flatten(1)))

    model, x = objective("avb"), batch()
    net = seeded(encoder=FixedEncoder(), decoder=Decoder(D, True), critic=Critic("xz", 4 + D))
    found = play(model, net, x)
    torch.manual_seed(0)
    u = torch.bernoulli((x + 1) / 2)
    x = 2 * u - 1
    q = net.encoder(x)
    z = q.rsample()
    z_norm = (z - q.mean) / q.std
    t_d = net.critic(x, z_norm).logits
    log_z = -0.5 * (z**2 + math.log(2 * math.pi)).sum(1)
    log_r = -0.5 * (z_norm**2 + (q.std**2).log() + math.log(2 * math.pi)).sum(1)
    nll = -torch.distributions.Bernoulli(logits=net.decoder(z).logits).log_prob(u).flatten(1).sum(1)
    t_i = net.critic(x, torch.randn(B, D)).logits
    primal = (nll + t_d + log_r - log_z).mean()
    close(found["step"], encoder=primal, decoder=nll.mean(), critic=bce(t_d, 1) + bce(t_i, 0))
    assert model.optimizer("encoder", "step") == zoo.Adam(lr=5e-5, beta1=0.5)
    assert model.optimizer("critic", "step") == zoo.Adam(lr=1e-4, beta1=0.5)


def test_alpha_gan():
    """Algorithm 1: −log D + log(1 − D) of both fakes, −log C + log(1 − C) of codes; every network in its own turn."""
    model, x = objective("alpha-gan"), batch()
    parts = {"critic": Critic("x", 4), "code_critic": Critic("z", D)}
    net = seeded(encoder=Encoder(D, True), decoder=Decoder(D), **parts)
    found = play(model, net, x)
    torch.manual_seed(0)
    z, z_x = torch.randn(B, D), net.encoder(x).mean
    rec, new = net.decoder(z_x), net.decoder(z)
    p_rec, p_new = (net.critic(v).logits.sigmoid() for v in (rec, new))
    c = net.code_critic(z_x).logits.sigmoid()
    error = 30 * (x - rec).abs().mean()
    assert list(found) == ["encoder", "decoder", "critic", "code_critic"]
    close(found["encoder"], encoder=error + (-c.log() + (1 - c).log()).mean())
    fool = (-p_rec.log() + (1 - p_rec).log()).mean() + (-p_new.log() + (1 - p_new).log()).mean()
    close(found["decoder"], decoder=error + fool)
    real = -net.critic(x).logits.sigmoid().log().mean()
    close(found["critic"], critic=real - (1 - p_rec).log().mean() - (1 - p_new).log().mean())
    judged = -net.code_critic(z).logits.sigmoid().log().mean() - (1 - c).log().mean()
    close(found["code_critic"], code_critic=judged)


def test_alpha_gans_slope_where_the_critic_is_sure():
    """At a logit of 6 the paper's loss still has slope −1, the default one −0.002."""
    for preset, slope in ((True, -1.0), (False, -1 / (1 + math.exp(6)))):
        model = options.build(registry().model("alpha-gan"), {"ratio": preset})
        logits = torch.full((4,), 6.0, requires_grad=True)
        (gradient,) = torch.autograd.grad(model.fool(zoo.CriticOutput(logits, logits)), logits)
        assert float(gradient.sum()) == pytest.approx(slope)


def test_age():
    """age.py:178-254 and src/losses.py:35-44; utils.py:195-203: 1000·(2 − mean of products) with 64 dimensions."""
    from zoo_plugins.models.introspective import SphericalEncoder

    model, x = objective("age"), batch()
    net = seeded(encoder=SphericalEncoder(Encoder(D, True)), decoder=Decoder(D))
    found = play(model, net, x)

    def divergence(z: Tensor) -> Tensor:
        """Equation 6 of codes on the sphere of radius √d."""
        mean, var = z.mean(0), z.var(0, unbiased=False) + 1e-6
        return (0.5 * (var + mean**2) - var.sqrt().log() - 0.5).mean()

    def sphere(h: Tensor) -> Tensor:
        return h / h.norm(dim=1, keepdim=True) * D**0.5

    torch.manual_seed(0)
    z = sphere(torch.randn(B, D))
    z_x, z_new = (sphere(net.encoder.encoder(v).mean) for v in (x, net.decoder(z)))
    rec = (x - net.decoder(z_x)).abs().mean()
    close(found["encoder"], encoder=divergence(z_x) - divergence(z_new) + 10 * rec)
    products = (F.normalize(z) * F.normalize(z_new)).sum(1).mean() / 64
    authors = 1000 * (2 - products) - 1000 * (2 - 1 / 64)  # up to a constant: 15.6 (1 − cos)
    close(found["decoder"], decoder=divergence(z_new) + authors)
    assert [turn.repeat for turn in model.turns()] == [1, 3]
    settings = get_presets(registry().model("age"))["paper"].settings
    schedule = RunSettings(**{k: v for k, v in settings.items() if k.startswith("lr_")}).optimization().lr_schedule
    # age.py:156-159: halved as the fifth of five epochs begins (of three batches a step: twelfth of fifteen).
    assert [schedule.factor(e / 15) for e in (0, 11.9, 12)] == [1, 1, 0.5]
    assert settings["epochs"] == 5 * 3


def test_soft_introvae():
    """train_soft_intro_vae.py:551-624, with ‖u − û‖² of pixels in [0, 1] and s = 1/(C·H·W)."""
    model, x = objective("soft-introvae"), batch()
    net = seeded(encoder=Encoder(D, False), decoder=Decoder(D))
    found = play(model, net, x)

    def error(a: Tensor, b: Tensor) -> Tensor:
        return (((a - b) / 2) ** 2).flatten(1).sum(1)

    def through(v: Tensor) -> tuple[Any, Tensor]:
        q = net.encoder(v)
        return q, net.decoder(q.mean + q.std * torch.randn(B, D))

    s = 1 / 4
    torch.manual_seed(0)
    q, rec = through(x)
    fake = net.decoder(torch.randn(B, D))
    exp_elbo = []
    for v in (rec, fake):
        q_v, again = through(v)
        exp_elbo.append((-2 * s * (error(v, again) + 256 * kl(q_v))).exp().mean())
    close(found["encoder"], encoder=s * (error(x, rec) + kl(q)).mean() + 0.25 * sum(exp_elbo))
    torch.manual_seed(0)
    q, rec = through(x)
    fake = net.decoder(torch.randn(B, D))
    kls = sum(kl(net.encoder(v)).mean() for v in (rec, fake))
    errors = [error(v, through(v)[1]).mean() for v in (rec, fake)]
    loss = s * (error(x, rec).mean() + 0.5 * kls + 1e-8 * 0.5 * sum(errors))
    close(found["decoder"], decoder=loss)
    assert model.optimizer("encoder", "encoder") == zoo.Adam(lr=2e-4, beta1=0.9)


def test_every_preset_has_a_test_of_its_losses():
    tested = {
        *("vae", "iwae", "beta-vae", "gan", "wgan-gp", "vaegan", "bigan", "ali", "alice"),
        *("aae", "wae-mmd", "wae-gan", "avb", "alpha-gan", "age", "soft-introvae"),
    }
    bundled = {n for n, e in registry().models.items() if get_presets(e.value)}
    assert bundled == tested
