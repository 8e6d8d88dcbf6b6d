"""The registry: a broken plugin is reported and isolated, and no plugin replaces a name that is taken."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import dedent, indent

import pytest
import torch

import zoo
from zoo.errors import UsageError
from zoo.hooks import hookimpl
from zoo.registry import FailedPlugin, Plugin, Registry

GOOD = """
    import zoo

    @zoo.frozen
    class Good(zoo.Generator):
        def networks(self, data):
            return {"decoder": zoo.decoder(data, self.latent, self.width)}
        def players(self):
            return {"decoder": {"loss": 1.0}}
        def terms(self, net, x):
            return {"loss": zoo.sse(net.decoder(self.prior(x)), x)}
"""
ANNOUNCES = """
    @zoo.hookimpl
    def zoo_models():
        return NAMES
"""


class _Dist(importlib.metadata.Distribution):
    def __init__(self, name: str, version: str) -> None:
        self._text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"

    def read_text(self, filename: str) -> str | None:
        return self._text if filename == "METADATA" else None

    def locate_file(self, path: object) -> Path:
        return Path(str(path))


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugins]:
    monkeypatch.syspath_prepend(tmp_path)
    made = Plugins(tmp_path)
    yield made
    for name in made.modules:
        sys.modules.pop(name, None)


class Plugins:
    """Modules on disk and the entry points that an installer would have written for them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.modules = folder, list[str]()
        # Two of the bundled, whatever others there are by now.
        found = importlib.metadata.entry_points(group="zoo")
        self.bundled = [e for e in found if e.value in ("zoo_plugins.models.vae", "zoo_plugins.models.vaegan")]

    def entry(self, name: str, source: str, module: str | None = None, package: str | None = None, version="1.2.3"):
        module = module or f"third_{len(self.modules)}_{name.replace('-', '_')}"
        (self.folder / f"{module}.py").write_text(dedent(source), encoding="utf-8")
        self.modules.append(module)
        return self.point(name, module, package or f"pkg-{name}", version)

    def point(self, name: str, module: str, package: str, version: str = "1.2.3") -> importlib.metadata.EntryPoint:
        return importlib.metadata.EntryPoint(name, module, "zoo")._for(_Dist(package, version))  # type: ignore[attr-defined]

    def models(self, name: str, names: str, source: str = GOOD, **more: str) -> importlib.metadata.EntryPoint:
        return self.entry(name, dedent(source) + dedent(ANNOUNCES).replace("NAMES", names), **more)

    def load(self, *entries: importlib.metadata.EntryPoint) -> Registry:
        return Registry([*entries, *self.bundled])


def _one_failure(found: Registry) -> FailedPlugin:
    assert len(found.failures) == 1, [str(f) for f in found.failures]
    return found.failures[0]


def test_the_installed_distribution_announces_its_models_data_sets_and_extractors() -> None:
    found = Registry()
    assert not [f for f in found.failures if f.package == "latent-zoo"]
    assert {"vae", "vaegan"} <= set(found.models)
    for name in ("vae", "vaegan"):
        entry = found.models[name]
        assert (entry.name, entry.plugin.package, entry.plugin.version) == (name, "latent-zoo", zoo.__version__)
        assert issubclass(entry.value, zoo.Objective)
        assert found.model(name) is entry.value
    assert "digits" in found.sources()
    assert {"classifier", "inception", "dinov2"} <= set(found.extractors)


def test_a_third_party_is_taken_in_with_its_package_and_version(plugins: Plugins) -> None:
    found = plugins.load(plugins.models("nice", '{"nice": Good, "nice-2": Good}', package="zoo-nice", version="0.7"))
    assert not found.failures
    assert found.models["nice-2"].plugin == Plugin("nice", "zoo-nice", "0.7")
    assert found.model("nice").__name__ == "Good"


def test_a_third_party_can_announce_data_sets_and_extractors(plugins: Plugins) -> None:
    source = """
        import zoo

        class Mean(zoo.Extractor):
            name, features, resize, channels, digest = "mean", 1, "none", "as is", "0" * 64

            def extract(self, images):
                return images.float().mean((1, 2, 3))[:, None]

        @zoo.hookimpl
        def zoo_datasets():
            return [zoo.DataSource("noise", "noise", lambda options: None)]

        @zoo.hookimpl
        def zoo_extractors():
            return {"mean": Mean}
    """
    found = plugins.load(plugins.entry("more", source))
    assert not found.failures
    assert found.sources()["noise"].help == "noise"
    assert found.extractor("mean").__name__ == "Mean"
    assert found.extractor("mean")()(torch.full((2, 1, 4, 4), 7, dtype=torch.uint8)).tolist() == [[7], [7]]
    assert found.datasets["noise"].plugin.package == found.extractors["mean"].plugin.package == "pkg-more"


@pytest.mark.parametrize(
    ("announced", "reason"),
    [
        ('zoo_datasets, [zoo.DataSource("fine", "h", len), 5]', "data set 'int': a int, not a zoo.DataSource"),
        (
            'zoo_datasets, [zoo.DataSource("fine", "h", len), zoo.DataSource("x", "h", None)]',
            "data set 'x': load: None cannot be called",
        ),
        (
            'zoo_datasets, [zoo.DataSource("fine", "h", len), zoo.DataSource]',
            "data set 'type': a type, not a zoo.DataSource",
        ),
        ('zoo_extractors, {"fine": Fine, "x": Fine()}', "extractor 'x': not a subclass of zoo.Extractor"),
        ('zoo_extractors, {"fine": Fine, "x": dict}', "extractor 'x': not a subclass of zoo.Extractor"),
        (
            'zoo_extractors, {"fine": Fine, "x": Bare}',
            "extractor 'x': Bare does not define channels, digest, extract, features, name, resize",
        ),
        (
            'zoo_extractors, {"fine": Fine, "x": Fine}',
            "extractor 'x': its own name is 'fine'; the two must be the same",
        ),
    ],
)
def test_a_data_set_or_an_extractor_that_is_none_is_named_and_the_others_count(
    plugins: Plugins, announced: str, reason: str
) -> None:
    hook, _, value = announced.partition(", ")
    source = f"""
        import zoo

        class Bare(zoo.Extractor):
            pass

        class Fine(Bare):
            name, features, resize, channels, digest = "fine", 1, "none", "as is", "0" * 64

            def extract(self, images):
                return images.float().mean((1, 2, 3))[:, None]

        @zoo.hookimpl
        def {hook}():
            return {value}
    """
    found = plugins.load(plugins.entry("more", source))
    assert _one_failure(found).reason == reason
    assert "fine" in {**found.datasets, **found.extractors}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module_of_zoo_tests", "ModuleNotFoundError: No module named 'no_such_module_of_zoo_tests'"),
        ("from zoo import NoSuchName", "ImportError: "),
        ("raise RuntimeError('first line\\nsecond line')", "RuntimeError: first line"),
        ("raise ValueError", "ValueError: (no message)"),
        ("import sys; sys.exit('I give up')", "SystemExit: I give up"),
        ("def broken(:\n", "SyntaxError: "),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_plugin_whose_import_fails_is_named_with_the_reason_and_harms_no_other(
    plugins: Plugins, source: str, reason: str
) -> None:
    # Named so that it sorts before everyone: what comes after it must still load.
    found = plugins.load(plugins.entry("aaa", source, package="bad-package"), plugins.models("zzz", '{"fine": Good}'))
    failure = _one_failure(found)
    assert (failure.plugin, failure.package) == ("aaa", "bad-package")
    assert failure.reason.startswith(reason)
    assert "\n" not in failure.reason
    assert str(failure) == f"plugin 'aaa' (bad-package): {failure.reason}"
    assert {"vae", "vaegan", "fine"} <= set(found.models)
    assert [p.name for p in found.plugins] == ["core", "vae", "vaegan", "zzz"]


def test_an_entry_point_without_its_module_is_named(plugins: Plugins) -> None:
    failure = _one_failure(plugins.load(plugins.point("gone", "zoo_tests_gone", "pkg-gone")))
    assert "No module named 'zoo_tests_gone'" in failure.reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise KeyError('weights')", "zoo_models: KeyError: 'weights'"),
        ("raise SystemExit(3)", "zoo_models: SystemExit: 3"),
        ("return ['vae']", "zoo_models: AttributeError"),
        ("return 5", "zoo_models: AttributeError"),
    ],
)
def test_a_hook_that_fails_is_named_and_the_plugins_other_hooks_count(plugins: Plugins, body: str, reason: str) -> None:
    source = f"""
        import zoo

        @zoo.hookimpl
        def zoo_models():
            {body}

        @zoo.hookimpl
        def zoo_datasets():
            return [zoo.DataSource("noise", "noise", lambda options: None)]
    """
    found = plugins.load(plugins.entry("aaa", source), plugins.models("zzz", '{"fine": Good}'))
    assert _one_failure(found).reason.startswith(reason)
    assert "noise" in found.sources()
    assert {"vae", "vaegan", "fine"} <= set(found.models)


def test_a_hook_with_arguments_that_zoo_does_not_pass_is_named(plugins: Plugins) -> None:
    source = "import zoo\n@zoo.hookimpl\ndef zoo_models(device):\n    return {}\n"
    found = plugins.load(plugins.entry("aaa", source), plugins.models("zzz", '{"fine": Good}'))
    assert "PluginValidationError" in _one_failure(found).reason
    assert "fine" in found.models


BODIES = {
    "abstract": """
        @zoo.frozen
        class Bad(zoo.Generator):
            def players(self):
                return {}
            def terms(self, net, x):
                return {}
    """,
    "no game": """
        @zoo.frozen
        class Bad(zoo.Generator):
            def networks(self, data):
                return {}
    """,
    "players without terms": """
        @zoo.frozen
        class Bad(zoo.Generator):
            def networks(self, data):
                return {}
            def players(self):
                return {}
    """,
    "undecorated": """
        class Bad(Good):
            latent: int = zoo.option(3, "Dimensions.")
    """,
    "no class": "Bad = Good()",
    "no Objective": "class Bad:\n    pass",
    "a problem that raises": """
        @zoo.frozen
        class Bad(Good):
            @classmethod
            def problem(cls):
                raise RuntimeError("even this")
    """,
}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("abstract", "Bad does not define networks"),
        ("no game", "Bad defines neither players() and terms() nor turns()"),
        ("players without terms", "Bad defines neither players() and terms() nor turns()"),
        ("undecorated", "Bad is not decorated with @zoo.frozen"),
        ("no class", "not a subclass of zoo.Objective"),
        ("no Objective", "not a subclass of zoo.Objective"),
        ("a problem that raises", "RuntimeError: even this"),
    ],
)
def test_a_model_that_cannot_be_used_is_named_and_its_neighbors_are_taken(
    plugins: Plugins, body: str, reason: str
) -> None:
    source = dedent(GOOD) + "\n" + dedent(BODIES[body])
    found = plugins.load(plugins.models("half", '{"bad": Bad, "good": Good}', source))
    assert _one_failure(found).reason == f"model 'bad': {reason}"
    assert "bad" not in found.models
    assert "good" in found.models


def test_a_model_that_plays_in_turns_needs_neither_players_nor_terms(plugins: Plugins) -> None:
    source = dedent(GOOD) + indent(
        dedent("""
        @zoo.frozen
        class InTurns(zoo.Generator):
            def networks(self, data):
                return {}
            def turns(self):
                return ()
        """),
        "",
    )
    found = plugins.load(plugins.models("turns", '{"turns": InTurns}', source))
    assert not found.failures
    assert "turns" in found.models


@pytest.mark.parametrize(
    "name", ["<script>", "../x", "a/b", "", "-", "-x", "--help", "a b", "модель", "folder:x", "x\n", "[bold]", 3, None]
)
def test_a_name_that_could_not_stand_in_a_path_a_page_or_a_command_is_refused(plugins: Plugins, name: object) -> None:
    found = plugins.load(plugins.models("odd", f'{{{name!r}: Good, "even": Good}}'))
    failure = _one_failure(found)
    assert (
        failure.reason
        == f"model {name!r}: the name must consist of letters, digits, '-' and '_', and begin with a letter or digit"
    )
    assert "even" in found.models
    assert name not in found.models


def test_of_two_that_want_a_name_the_first_keeps_it_and_the_other_learns_whose_it_is(plugins: Plugins) -> None:
    found = plugins.load(
        plugins.models("second", '{"mine": Good, "other": Good}'), plugins.models("first", '{"mine": Good}')
    )
    assert found.models["mine"].plugin.name == "first"
    failure = _one_failure(found)
    assert failure.plugin == "second"
    assert failure.reason == "model 'mine': the name is taken by plugin 'first' (pkg-first)"
    assert "other" in found.models


@pytest.mark.parametrize("module", [None, "zoo_plugins_more", "zoo_plugins2"])
def test_bundled_names_cannot_be_taken_over(plugins: Plugins, module: str | None) -> None:
    # Neither by an early place in the alphabet nor by a module that is called nearly like the bundled package.
    found = plugins.load(plugins.models("aaa", '{"vae": Good, "own": Good}', module=module))
    assert found.models["vae"].plugin.package == "latent-zoo"
    assert found.models["own"].plugin.package == "pkg-aaa"
    assert "taken by plugin 'vae' (latent-zoo)" in _one_failure(found).reason


def test_the_cores_data_sets_and_extractors_cannot_be_taken_over(plugins: Plugins) -> None:
    source = """
        import zoo

        @zoo.hookimpl
        def zoo_datasets():
            return [zoo.DataSource("digits", "not these", lambda options: None)]

        @zoo.hookimpl
        def zoo_extractors():
            return {"classifier": zoo.Extractor}
    """
    found = plugins.load(plugins.entry("aaa", source))
    assert found.datasets["digits"].plugin.name == found.extractors["classifier"].plugin.name == "core"
    assert found.sources()["digits"].help != "not these"
    assert [f.reason.partition(":")[0] for f in found.failures] == ["data set 'digits'", "extractor 'classifier'"]


def test_two_entry_points_of_one_name_are_told_apart_by_their_packages(plugins: Plugins) -> None:
    found = plugins.load(
        plugins.models("vae", '{"own": Good}', package="imitator"), plugins.models("zzz", '{"fine": Good}')
    )
    failure = _one_failure(found)
    assert (failure.plugin, failure.package) == ("vae", "imitator")
    assert "already registered" in failure.reason
    assert {"vae", "vaegan", "fine"} <= set(found.models)


def test_an_unknown_model_is_told_with_the_nearest_name(plugins: Plugins) -> None:
    with pytest.raises(UsageError) as caught:
        plugins.load().model("vagan")
    assert str(caught.value).startswith("unknown model 'vagan'. Did you mean 'vaegan'? Available: ")
    assert {"vae", "vaegan"} <= set(str(caught.value).partition("Available: ")[2].rstrip(".").split(", "))
    with pytest.raises(UsageError, match=r"unknown extractor 'clasifier'\. Did you mean 'classifier'"):
        plugins.load().extractor("clasifier")


def test_an_unknown_model_may_be_one_of_a_failed_plugins_which_is_therefore_mentioned(plugins: Plugins) -> None:
    found = plugins.load(plugins.entry("gone", "import no_such_module_of_zoo_tests", package="zoo-gone"))
    with pytest.raises(UsageError) as caught:
        found.model("gonegan")
    text = str(caught.value)
    assert "unknown model 'gonegan'" in text
    assert "plugin 'gone' (zoo-gone): ModuleNotFoundError" in text
    assert found.model("vae"), "one that is there is found as ever"


def test_a_model_may_be_announced_by_an_object_in_a_notebook() -> None:
    class Announcer:
        @hookimpl
        def zoo_models(self) -> Mapping[str, type[zoo.Objective]]:
            return {"mine": Registry().model("vae")}

    found = Registry([])
    assert not found.models, "no entry points, no models: the core knows none"
    found.add(Announcer(), Plugin("mine", "notebook", "0"))
    assert not found.failures
    assert found.models["mine"].plugin == Plugin("mine", "notebook", "0")
