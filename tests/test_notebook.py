"""Display in notebooks: HTML of a trained model, a model and its turns, with every text escaped."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image
from test_image_grids import untile
from torch import Tensor, nn

import zoo
from zoo.registry import registry


def test_a_trained_model_shows_its_samples_and_its_game(runs):
    trained = zoo.load(runs / "vae")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    html = trained._repr_html_()
    assert torch.equal(torch.get_rng_state(), before)
    assert "<b>VAE</b> Kingma &amp; Welling" in html
    assert "digits, 1×8×8; parameters: encoder " in html
    assert "<th>encoder, decoder</th><td>1</td><td>1</td>" in html
    with Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", html)[1]))) as image:
        assert np.array_equal(untile(np.asarray(image), 10, (8, 8)), trained.images(10, seed=0))


def test_a_game_of_turns():
    html = registry().model("wgan-gp")()._repr_html_()
    assert html.startswith("<p>WGANGP(")
    assert "<p>turn critic, " in html
    assert html.count("<table>") == 2


def test_names_become_no_markup():
    @zoo.frozen
    class Nasty(zoo.Objective):
        name: str = zoo.option("<b>", "A name.")

        def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
            return {}

        def players(self) -> Mapping[str, Mapping[str, float]]:
            return {"<script>": {"<i>": -1.5}}

        def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
            return {}

    html = Nasty()._repr_html_()
    assert not re.search("<script|<i>|<b>", html)
    assert "<th>&lt;script&gt;</th><td>−1.5</td>" in html
    assert Nasty().turns()[0]._repr_html_() in html
