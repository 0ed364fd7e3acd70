"""`u2a doctor`: what the machine offers, and what is missing or scarce."""

import json
import sys
from pathlib import Path

import pytest
import torch

from u2a_core import doctor
from u2a_core.cli import main
from u2a_core.doctor import Device, examine


def warned(found: doctor.Findings, **changes: object) -> str:
    return " ".join(doctor._warnings(doctor.Findings(**{**vars(found), **changes})))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> doctor.Findings:
    return examine(tmp_path_factory.mktemp("d") / "runs" / "not" / "there")


def test_it_tells_python_packages_and_devices(found: doctor.Findings):
    assert found.python.startswith(".".join(map(str, sys.version_info[:3])))
    assert found.packages["torch"] == torch.__version__
    cpu = found.devices[0]
    assert cpu.name == "cpu"
    assert 0 < cpu.free <= cpu.total
    assert found.attention[:2] == ("eager", "sdpa")
    assert found.disks["runs"]["free"] > 0


def test_in_the_offline_mode_the_hub_is_not_asked(found: doctor.Findings):
    assert found.hub["offline"]
    assert not found.hub["reachable"]
    assert "offline mode is on" in " ".join(found.warnings)


def test_what_is_scarce_is_told(found: doctor.Findings, tmp_path: Path):
    gib = 2**30
    small = Device("cuda:0", "a GPU", 2 * gib, 24 * gib, bfloat16=False)
    cpu = Device("cpu", "2 cores", gib, 8 * gib, bfloat16=True)
    said = warned(found, devices=(cpu, small), quantization=False)
    assert "cuda:0 has 2.0 GiB of 24.0 GiB free" in said
    assert "cuda:0 does not compute in bfloat16" in said
    assert "This machine has 1.0 GiB of memory free" in said
    assert "u2a-workbench[quant]" in said
    full = {"runs": {"path": "r", "free": gib, "writable": True},
            "hub cache": {"path": "c", "free": None, "writable": False}}  # fmt: skip
    said = warned(found, disks=full)
    assert "The disk of the runs (r) has 1.0 GiB free" in said
    assert "the hub cache (c) cannot be written" in said
    closed = {**found.hub, "offline": False, "reachable": True, "token": False}
    assert "No token of the hub is set" in warned(found, hub=closed)


def test_a_driver_without_a_torch_that_uses_it_is_told(
    found: doctor.Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "version").write_text("NVRM")
    monkeypatch.setattr(doctor, "_NVIDIA", tmp_path / "version")
    assert "Install a build of torch for CUDA" in warned(found, devices=found.devices[:1])


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_tells_it_and_ends_well(
    as_json: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["doctor", "--runs", str(tmp_path), *(["--json"] if as_json else [])]
    assert main(words) == 0
    told = capsys.readouterr().out
    if as_json:
        assert json.loads(told)["disks"]["runs"]["path"] == str(tmp_path)
    else:
        assert "Device cpu" in told
        assert "Warning: The hub's offline mode is on" in told
