"""connect: a TCP connection to the host, or to the proxy and by CONNECT from there."""

from collections.abc import Sequence

from agent.causes import Cause
from agent.model import Fault
from agent.node.proxies import Proxy
from agent.registry.hosts import Host
from agent.registry.stream import Stream
from agent.registry.tls import handshake
from agent.registry.transport import connect as open_stream
from agent.registry.tunnel import tunnel


async def connect(addresses: Sequence[str], target: Host, limit: float) -> Stream:
    """A stream to the first of `target`'s addresses that answers.

    Raises `Fault` (``connect_refused``, ``connect_timeout``), with the name: it may be that of a token server.
    """
    try:
        return await open_stream(addresses, target.port, limit)
    except Fault as fault:
        raise Fault(fault.cause, f"{target.name}: {fault.detail}", fault.evidence) from None


async def connect_through(proxy: Proxy, addresses: Sequence[str], target: Host, limit: float) -> Stream:
    """A stream to `target` by way of `proxy`, whose own `addresses` these are.

    https targets are reached by CONNECT, http ones by requests with an absolute URI. The certificate of an https
    proxy is not judged here. Raises `Fault` (``proxy_unreachable``, ``proxy_auth_required``, ``proxy_refused``, …).
    """
    stream = await _to_proxy(proxy, addresses, limit)
    try:
        if proxy.scheme == "https":
            await handshake(stream, proxy.host, limit)
        if target.scheme == "https":
            await tunnel(stream, target.host, target.port, proxy.authorization, limit)
        else:
            stream.forward(proxy.authorization)
    except Fault as fault:
        await stream.close()
        raise Fault(fault.cause, f"through the proxy {proxy.shown}: {fault.detail}", fault.evidence) from None
    except BaseException:
        await stream.close()
        raise
    return stream


async def _to_proxy(proxy: Proxy, addresses: Sequence[str], limit: float) -> Stream:
    try:
        return await open_stream(addresses, proxy.port, limit)
    except Fault as fault:
        detail = f"cannot connect to the proxy {proxy.shown}: {fault.detail}"
        raise Fault(Cause.PROXY_UNREACHABLE, detail, fault.evidence) from None
