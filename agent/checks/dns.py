"""dns: every nameserver of the node is asked alone, and the answer is the one that Go's resolver would take."""

from agent.checks.view import View
from agent.node.resolver import Resolution


async def dns(view: View, name: str, limit: float) -> Resolution:
    """The addresses of `name`. Raises `Fault` (``dns_not_found``, ``dns_failure``)."""
    return await view.resolver.resolve(name, min(limit, view.limits.dns))


def tell(resolution: Resolution) -> str:
    """Addresses, and what is wrong although it worked."""
    return "; ".join([", ".join(resolution.addresses[:4]), *resolution.remarks])
