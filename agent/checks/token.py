"""token: the credentials, or none, exchanged for the right to pull from the repository."""

from agent.model import ImageRef
from agent.registry.challenges import Challenge
from agent.registry.client import Client


async def token(client: Client, challenge: Challenge, ref: ImageRef) -> None:
    """Raises `Fault` (``auth_required``, ``auth_denied``, ``rate_limited``, ``registry_error``, …)."""
    await client.authorize(challenge, ref)
