"""proxy: which proxy containerd's own environment sends a request through, by the rules of Go's net/http."""

from agent.causes import Cause
from agent.checks.view import View
from agent.model import Fault
from agent.node.proxies import Proxy


async def proxy(view: View, scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy for this target, None for a direct way. Raises `Fault` (``proxy_misconfigured``)."""
    chosen = view.proxies.proxy_for(scheme, host, port)
    if chosen is None:
        return None
    setting = view.proxies.https if scheme == "https" else view.proxies.http
    if setting.trouble:
        raise Fault(Cause.PROXY_MISCONFIGURED, f"in containerd's environment {setting.trouble}")
    if chosen.scheme.startswith("socks"):
        raise Fault(Cause.UNKNOWN, f"containerd goes through {chosen.shown}: SOCKS proxies are not followed here")
    return chosen


def tell(chosen: Proxy | None) -> str:
    """The way, in words."""
    return f"through {chosen.shown}" if chosen else "direct"
