"""registry: whether ``/v2/`` answers like a registry, openly or with a challenge."""

from agent.causes import Cause
from agent.model import Fault
from agent.registry.challenges import Challenge
from agent.registry.client import Client


async def registry(client: Client) -> Challenge | None:
    """The challenge of the registry, None when it is open. Raises `Fault` (``registry_error``, ``rate_limited``, …)."""
    return await client.ping()


_ITS_OWN = frozenset({Cause.REGISTRY_ERROR, Cause.AUTH_REQUIRED, Cause.AUTH_MISSING_OR_DENIED})


def stops(fault: Fault) -> bool:
    """Whether there is no use in asking for a manifest: nobody answered, or with a limit, or not the registry.

    containerd never asks for ``/v2/``, and many mirrors and firewalls do not serve it.
    """
    return "status" not in fault.evidence or fault.cause not in _ITS_OWN


def tell(challenge: Challenge | None) -> str:
    """What the registry asks for."""
    return f"asks for {challenge.scheme} credentials" if challenge else "open"
