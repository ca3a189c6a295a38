"""Judging in a process apart gives the same answers, and remembers only what was good."""

import asyncio
import sys
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent.causes import Cause
from agent.model import Fault
from agent.registry import apart
from agent.registry.apart import JudgeApart, judge_here
from agent.registry.trust import Trust
from stage.authority import Authority

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def chain_of(pem: bytes) -> tuple[bytes, ...]:
    return tuple(each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(pem))


async def test_both_judges_agree_on_a_good_chain(authority: Authority) -> None:
    chain = chain_of(authority.issue("registry.example").cert_pem)
    trust = Trust.load(authority.pem, Authority("another").pem)
    there = await JudgeApart()(chain, trust, "registry.example", NOW)
    assert there == await judge_here(chain, trust, "registry.example", NOW)


@pytest.mark.parametrize(
    ("name", "trusted", "when", "cause"),
    [
        ("other.example", True, NOW, Cause.TLS_NAME_MISMATCH),
        ("registry.example", False, NOW, Cause.TLS_UNKNOWN_AUTHORITY),
        ("registry.example", True, NOW + timedelta(days=9000), Cause.TLS_EXPIRED),
    ],
)
async def test_both_judges_agree_on_what_is_wrong(
    authority: Authority, name: str, trusted: bool, when: datetime, cause: Cause
) -> None:
    chain = chain_of(authority.issue("registry.example").cert_pem)
    trust = Trust.load(authority.pem) if trusted else Trust.load()
    with pytest.raises(Fault) as there:
        await JudgeApart()(chain, trust, name, when)
    with pytest.raises(Fault) as here:
        await judge_here(chain, trust, name, when)
    assert there.value.cause is cause
    assert (there.value.detail, dict(there.value.evidence)) == (here.value.detail, dict(here.value.evidence))


async def test_a_good_chain_is_judged_once_and_only_for_its_name_its_anchors_and_its_time(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = chain_of(authority.issue("registry.example").cert_pem)
    trust = Trust.load(authority.pem)
    judge = JudgeApart()
    await asyncio.gather(*(judge(chain, trust, "registry.example", NOW) for _ in range(3)))

    monkeypatch.setattr(sys, "executable", "/bin/false")
    await judge(chain, trust, "registry.example", NOW)
    for other in (("other.example", trust, NOW), ("registry.example", Trust.load(), NOW)):
        with pytest.raises(Fault):
            await judge(chain, other[1], other[0], other[2])
    with pytest.raises(Fault):
        await judge(chain, trust, "registry.example", NOW + timedelta(days=9000))


async def test_a_child_that_fails_or_hangs_leaves_the_question_open(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = chain_of(authority.issue("registry.example").cert_pem)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Fault) as failed:
        await JudgeApart()(chain, Trust.load(authority.pem), "registry.example", NOW)
    monkeypatch.setattr(sys, "executable", "/bin/cat")
    monkeypatch.setattr(apart, "SECONDS", 0.3)
    with pytest.raises(Fault) as hung:
        await JudgeApart()(chain, Trust.load(authority.pem), "registry.example", NOW)
    assert {failed.value.cause, hung.value.cause} == {Cause.UNKNOWN}
