"""Leases: what keeps content alive while it is looked at, and what makes containerd collect its garbage now."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import grpc.aio

from agent.rpc import leases_pb2 as pb
from agent.rpc.leases_pb2_grpc import LeasesStub
from agent.runtime.channel import Absent, ask

PREFIX = "node-agent-"
LEASE_SECONDS = 3600.0
"""How long a lease outlives a process that was killed: until then the kubelet's collection frees nothing of it."""


class Leases:
    """containerd's lease service. Only leases that this class made are ever deleted."""

    def __init__(self, channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...], timeout: float) -> None:
        self._stub = LeasesStub(channel)
        self._metadata = metadata
        self._timeout = timeout

    @asynccontextmanager
    async def hold(self, content: Iterable[str], seconds: float, snapshots: Iterable[str] = ()) -> AsyncIterator[str]:
        """Keep these digests and all that they reference by labels from being collected; yields the lease's ID.

        So it does with `snapshots` of overlayfs, by their chain IDs, and all that they stand on.

        The lease ends with the block, at the latest after ``seconds`` if this process dies.
        It does not stop an explicit deletion: read again what matters once it is held.
        """
        lease = await self._create(seconds)
        try:
            for digest in content:
                await self._add(lease, pb.Resource(id=digest, type="content"))
            for chain in snapshots:
                await self._add(lease, pb.Resource(id=chain, type="snapshots/overlayfs"))
            yield lease
        finally:
            await self._delete(lease, sync=False)

    async def _add(self, lease: str, resource: pb.Resource) -> None:
        request = pb.AddResourceRequest(id=lease, resource=resource)
        call = self._stub.AddResource(request, metadata=self._metadata, timeout=self._timeout)
        with contextlib.suppress(Absent):  # an expired lease: whoever reads under it looks twice
            await ask(call, f"lease {resource.id}")

    async def collect(self) -> None:
        """Run containerd's garbage collection and wait until files and directories are gone."""
        await self._delete(await self._create(60), sync=True)

    async def _create(self, seconds: float) -> str:
        expire = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
        lease = PREFIX + secrets.token_hex(8)
        request = pb.CreateRequest(id=lease, labels={"containerd.io/gc.expire": expire})
        await ask(self._stub.Create(request, metadata=self._metadata, timeout=self._timeout), "create a lease")
        return lease

    async def _delete(self, lease: str, *, sync: bool) -> None:
        call = self._stub.Delete(
            pb.DeleteRequest(id=lease, sync=sync), metadata=self._metadata, timeout=max(self._timeout, 60)
        )
        with contextlib.suppress(Absent):  # it had expired and was collected
            await ask(call, "delete our lease")
