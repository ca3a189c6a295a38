"""tls: the handshake, and the certificate chain judged as Go judges it in containerd."""

from collections.abc import Mapping
from datetime import UTC, datetime

from agent.checks.view import View
from agent.model import NOTHING
from agent.registry import material
from agent.registry.certificates import Judged
from agent.registry.hosts import Host
from agent.registry.stream import Stream
from agent.registry.tls import handshake


async def tls(view: View, stream: Stream, host: Host, limit: float) -> Judged | None:
    """Turn `stream` into TLS for `host`; None when containerd is told to skip the verification.

    The host's own ``ca`` files are added to the node's trust store, as containerd does. Raises `Fault` (``tls_…``,
    ``http_https_mismatch``, ``hosts_config_invalid`` for a CA file that cannot be read: containerd fails the pull).
    """
    files = material.load(host, view.root.prefix)
    seen = await handshake(stream, host.host, limit, files.client)
    if host.skip_verify:
        return None
    trust = view.trust.plus(*files.ca) if files.ca else view.trust
    return await view.judge(seen.chain, trust, host.host, datetime.now(UTC))


def tell(judged: Judged | None) -> str:
    """Issuer and end of validity."""
    return f"issued by {judged.issuer}, valid until {judged.not_after:%Y-%m-%d}" if judged else "not verified"


def show(judged: Judged | None) -> Mapping[str, str]:
    """When the leaf ends, in epoch seconds."""
    return {"not_after_timestamp_seconds": f"{judged.not_after.timestamp():.0f}"} if judged else NOTHING
