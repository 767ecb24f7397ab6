"""Names of GPUs, from files as the driver writes them."""

from __future__ import annotations

from pathlib import Path

from hdrs_hpc.node import gpus, keyless


def test_models_are_told_once_and_in_plain_letters(tmp_path: Path) -> None:
    for bus, model in (("0000:07:00.0", "NVIDIA A100-SXM4-80GB"), ("0000:0b:00.0", "NVIDIA A100-SXM4-80GB")):
        (tmp_path / bus).mkdir()
        (tmp_path / bus / "information").write_text(
            f"Model: \t\t {model}\nIRQ:   \t\t 35\nGPU UUID: \t GPU-x\n"
        )
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/information").write_bytes(b"Model: \x1b[31m<b>\xff" + b"x" * 100 + b"\n")
    (tmp_path / "empty").mkdir()
    found = gpus.models(tmp_path)
    assert found == ("31mb" + "x" * 56, "NVIDIA A100-SXM4-80GB")


def test_a_node_without_the_driver_tells_none(tmp_path: Path) -> None:
    assert gpus.models(tmp_path / "absent") == ()


def test_the_agent_asks_a_process_without_keys() -> None:
    said, _ = keyless.start("gpus").communicate(timeout=60)
    assert tuple(said.decode("ascii").splitlines()) == gpus.models()
