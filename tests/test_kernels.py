"""Kernels are chosen by measurement, once per machine; the run records the choice, on which its bits depend."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import zoo
from zoo.accelerators import choose_kernels, cpu, measured_speedups, parse_kernels, probe
from zoo.errors import UsageError
from zoo.run.run_folder import RunFolder
from zoo.run.settings import RunSettings

CPU = torch.device("cpu")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Replaces the measurement by ``ratios``; ``calls`` are the kernels measured."""
    state: dict[str, Any] = {"ratios": {"linear": 0.8, "deconvolution": 1.6, "weight-gradient": 1.0}, "calls": []}

    def measure(name: str, bf16: bool) -> float:
        state["calls"].append(name)
        return state["ratios"][name]

    monkeypatch.setattr(probe, "_measure", measure)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return state


def networks() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 512), nn.ConvTranspose2d(32, 1, 4, 2, 1))


def choose(setting: str, folder: Path, nets: nn.Module | None = None, device: torch.device = CPU) -> str:
    return choose_kernels(setting, nets or networks(), device, 128, 784, folder, bf16=False)


def test_the_faster_kernels_are_chosen_and_measured_once(tmp_path: Path, measured: dict[str, Any]) -> None:
    assert choose("auto", tmp_path) == "deconvolution"
    assert sorted(measured["calls"]) == ["deconvolution", "linear"]
    measured["ratios"] = {"linear": 3.0, "deconvolution": 0.5}  # noise of a later measurement would change the bits
    assert choose("auto", tmp_path) == "deconvolution"
    assert measured_speedups(tmp_path) == {"linear": 0.8, "deconvolution": 1.6}
    assert len(measured["calls"]) == 2


def test_another_number_of_threads_or_a_damaged_file_is_measured_anew(tmp_path: Path, measured: dict[str, Any]) -> None:
    choose("auto", tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        choose("auto", tmp_path)
    finally:
        torch.set_num_threads(threads)
    assert len(measured["calls"]) == 4
    for file in tmp_path.glob("*.json"):
        file.write_text('{"speedups": {"linear": "fast"}}')
    assert choose("auto", tmp_path) == "deconvolution"
    assert len(measured["calls"]) == 6


def test_of_several_processes_one_measures(tmp_path: Path, measured: dict[str, Any]) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: choose("auto", tmp_path), range(8))) == {"deconvolution"}
    assert len(measured["calls"]) == 2


def test_networks_without_use_for_a_kernel_measure_nothing(tmp_path: Path, measured: dict[str, Any]) -> None:
    for nets in (nn.Linear(8, 8), nn.ConvTranspose2d(2, 1, 4, 2, 1), nn.Conv2d(64, 64, 4, 2, 1)):
        assert choose("auto", tmp_path, nets) == "torch"
    assert choose("auto", tmp_path, device=torch.device("cuda")) == "torch"
    assert measured["calls"] == []


def test_a_setting_that_names_kernels_stays(tmp_path: Path, measured: dict[str, Any]) -> None:
    assert choose("torch", tmp_path) == "torch"
    assert choose("linear,weight-gradient", tmp_path) == "linear,weight-gradient"
    assert choose("rules", tmp_path) == (",".join(cpu.kernels_by_rule()) or "torch")
    assert measured["calls"] == []
    with pytest.raises(UsageError, match=r"liner.*linear"):
        RunSettings(kernels="liner")


def test_only_the_named_kernels_are_used() -> None:
    def kinds(*kernels: str) -> list[type]:
        nets = networks()
        cpu.accelerate(nets, kernels=kernels)
        return [type(layer) for layer in nets]  # type: ignore[attr-defined]

    assert kinds() == [nn.Linear, nn.ConvTranspose2d]
    assert kinds("deconvolution") == [nn.Linear, cpu.ConvTranspose2d]
    assert kinds("linear") == [cpu.Linear, nn.ConvTranspose2d]
    assert kinds("weight-gradient") == [nn.Linear, nn.ConvTranspose2d], "in float32 it has no use"


def test_this_machine_is_measured(tmp_path: Path) -> None:
    found = measured_speedups(tmp_path)
    assert set(found) == ({"linear", "deconvolution"} if torch._C._has_mkldnn else set())
    assert all(0.05 < ratio < 50 for ratio in found.values())
    assert measured_speedups(tmp_path) == found


RUN: dict[str, Any] = {"dataset": "digits", "batch": 64, "images": 1280, "extractor": "none", "family": "conv"}


def trained(out: Path, **settings: Any) -> dict[str, torch.Tensor]:
    return zoo.train("vae", out=out, **{**RUN, **settings}).networks.state_dict()


def test_the_choice_is_recorded_and_decides_the_bits(
    tmp_path: Path, measured: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "MIN_MULTIPLICATIONS", 0)
    chosen = trained(tmp_path / "auto")
    assert RunFolder(tmp_path / "auto").settings().kernels == "deconvolution"

    class Stop(zoo.Callback):
        def progressed(self, images_seen: int, epoch: float) -> None:
            if images_seen > 600:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut", callbacks=[Stop()], checkpoint_seconds=0.0)
    # The same folders on a machine where other kernels are faster:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "elsewhere"))
    measured["ratios"] = {"linear": 2.0, "deconvolution": 0.5}
    resumed = trained(tmp_path / "cut", resume=True)
    repeated = zoo.train(config=tmp_path / "auto" / "config.toml", out=tmp_path / "again").networks.state_dict()
    other = trained(tmp_path / "other")
    assert "deconvolution" not in RunFolder(tmp_path / "other").settings().kernels
    for name, value in chosen.items():
        assert torch.equal(value, resumed[name]), name
        assert torch.equal(value, repeated[name]), name
    assert any(not torch.equal(value, other[name]) for name, value in chosen.items())


def test_a_run_from_before_the_setting_resumes_by_the_rules(tmp_path: Path, measured: dict[str, Any]) -> None:
    class Stop(zoo.Callback):
        def progressed(self, images_seen: int, epoch: float) -> None:
            if images_seen > 600:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", callbacks=[Stop()], checkpoint_seconds=0.0, kernels="rules")
    config = tmp_path / "run" / "config.toml"
    lines = [line for line in config.read_text().splitlines() if not line.startswith("kernels")]
    config.write_text("\n".join(lines) + "\n")
    trained(tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "result.json").is_file()
    assert measured["calls"] == []


def test_names_are_parsed() -> None:
    assert parse_kernels("rules") is None
    assert parse_kernels("linear, deconvolution") == ("linear", "deconvolution")
