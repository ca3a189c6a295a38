"""Which names are asked for, and which never are."""

import pytest

from agent.causes import Cause
from agent.model import Fault
from agent.node.resolvconf import ResolvConf
from agent.node.resolver import Resolver, is_domain_name


@pytest.mark.parametrize(
    ("name", "ndots", "candidates"),
    [
        ("a.b", 1, ("a.b.", "a.b.s1.", "a.b.s2.")),
        ("a.b", 2, ("a.b.s1.", "a.b.s2.", "a.b.")),
        ("a", 1, ("a.s1.", "a.s2.", "a.")),
        ("a", 0, ("a.", "a.s1.", "a.s2.")),
        ("a.b.", 5, ("a.b.",)),
        ("a.onion", 1, ("a.onion.s1.", "a.onion.s2.")),
        ("x" * 60 + ("." + "x" * 60) * 3 + ".yyyyyyyy", 1, ("x" * 60 + ("." + "x" * 60) * 3 + ".yyyyyyyy.",)),
    ],
)
def test_candidates_are_those_of_go(name: str, ndots: int, candidates: tuple[str, ...]) -> None:
    assert Resolver(ResolvConf(search=("s1.", "s2."), ndots=ndots)).candidates(name) == candidates


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("registry", True),
        ("a.b.c.", True),
        ("_x.y", True),
        ("1.2.a", True),
        ("1.2.3", False),
        ("", False),
        (".", False),
        ("a..b", False),
        ("-a", False),
        ("a-.b", False),
        ("x" * 64, False),
        ("a/b", False),
        ("a b", False),
        ("é", False),
        ("\\000", False),
        ("a." * 128, False),
    ],
)
async def test_a_name_that_is_none_is_not_asked_for(name: str, valid: bool) -> None:
    assert is_domain_name(name) is valid
    if not valid:
        resolver = Resolver(ResolvConf(servers=("127.0.0.1",)), port=1)
        with pytest.raises(Fault) as caught:
            await resolver.resolve(name, 1)
        assert caught.value.cause is Cause.DNS_NOT_FOUND
