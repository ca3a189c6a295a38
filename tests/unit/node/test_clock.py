"""Clock, boots and platform, of this machine and of made-up ones."""

import time
from pathlib import Path

import pytest

from agent.node.clock import boot_id, now, platform, uptime


def test_the_clock_is_the_machines() -> None:
    assert abs(now() - time.time()) < 1
    assert uptime() > 0


def test_a_boot_has_an_id_that_stays() -> None:
    assert len(boot_id()) == 36
    assert boot_id() == boot_id()


def test_without_an_id_of_the_boot_there_is_none(tmp_path: Path) -> None:
    assert boot_id(tmp_path) == ""


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        ("x86_64", "linux/amd64"),
        ("aarch64", "linux/arm64"),
        ("arm64", "linux/arm64"),
        ("i686", "linux/386"),
        ("ppc64le", "linux/ppc64le"),
        ("s390x", "linux/s390x"),
        ("riscv64", "linux/riscv64"),
        ("armv7l", "linux/arm/v7"),
        ("armv6l", "linux/arm/v6"),
        ("armv5tejl", "linux/arm/v5"),
    ],
)
def test_the_platform_is_said_in_gos_words(machine: str, said: str, tmp_path: Path) -> None:
    assert str(platform(machine, tmp_path)) == said


@pytest.mark.parametrize(
    ("cpuinfo", "variant"),
    [
        ("model name\t: ARMv7 Processor rev 4\nCPU architecture: 7\n", "v7"),
        ("CPU architecture: 8\n", "v8"),
        ("CPU architecture: 5TEJ\n", "v5"),
        ("model name : ARMv6-compatible processor rev 7 (v6l)\nCPU architecture: 7\n", "v6"),
        ("CPU architecture: strange\n", "v7"),
    ],
)
def test_the_variant_of_a_32_bit_arm_is_that_of_cpuinfo(cpuinfo: str, variant: str, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert platform("armv7l", tmp_path).variant == variant
