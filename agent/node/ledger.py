"""What the agent owes this node, kept on the node's disk.

A debt is written before the first eviction and struck off after the verified pull: whatever kills the
agent in between, the next start finds what has to be pulled again. Each writing is a whole new file, made
durable (fsync) before it takes the old one's name, so that a crash leaves the old or the new one.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agent.node import durable

VERSION = 1
LIMIT = 16 * 1024 * 1024


class LedgerBusy(Exception):  # noqa: N818 - says what is the case, as BlockingIOError does not
    """Another agent on this node holds the ledger."""


@dataclass(frozen=True, slots=True)
class Debt:
    """An image that was, or is about to be, evicted and is not yet proved to be back.

    ``id`` is its target digest, ``names`` what it has to be called again, ``what`` the work in hand
    ("repull", "repair"), ``details`` any JSON the one who owes it wants to find again, ``since`` epoch seconds.
    """

    id: str
    names: tuple[str, ...]
    what: str
    details: Mapping[str, Any] = field(default_factory=dict)
    since: float = 0.0


class Ledger:
    """The debts in one file of version 1, held by one process: ``{"version": 1, "debts": [{…}, …]}``.

    Raises `LedgerBusy` if another process has it open. A file that cannot be understood is renamed to
    ``<name>.corrupt-<epoch seconds>``; ``damage`` then says so. No other file of the folder is touched but
    ``<name>.lock`` and ``<name>.new``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: str | None = None
        self._lock = _lock(path)
        self._debts = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the next one have it. Closing twice is harmless."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def debts(self) -> tuple[Debt, ...]:
        """All debts, the oldest first."""
        return tuple(sorted(self._debts.values(), key=lambda debt: debt.since))

    def owe(self, debt: Debt) -> None:
        """Durable when this returns; replaces the debt with the same id.

        `Fault` DISK_FULL, DISK_READ_ONLY or UNKNOWN if it could not be written: then nothing may be evicted.
        """
        self._write({**self._debts, debt.id: debt})

    def strike(self, id: str) -> bool:  # noqa: A002 - the word of `Image` and `Debt`
        """Durable when this returns. Whether there was such a debt; faults as `owe`."""
        if id not in self._debts:
            return False
        self._write({key: debt for key, debt in self._debts.items() if key != id})
        return True

    def _write(self, debts: dict[str, Debt]) -> None:
        text = json.dumps({"version": VERSION, "debts": [_record(debt) for debt in debts.values()]}, indent=1)
        durable.replace(self.path, text.encode())
        self._debts = debts

    def _read(self) -> dict[str, Debt]:
        try:
            debts = _parse(self.path)
        except (OSError, ValueError, OverflowError, TypeError, KeyError, AttributeError, RecursionError) as error:
            self.damage = durable.set_aside(self.path, error)
            return {}
        return {debt.id: debt for debt in debts}


def _parse(path: Path) -> list[Debt]:
    content = durable.read(path, LIMIT)
    if content is None:
        return []
    document = json.loads(content)
    if document["version"] != VERSION:
        raise ValueError("a version that this agent does not know")
    return [_debt(record) for record in document["debts"]]


def _debt(record: dict[str, Any]) -> Debt:
    names = record["names"]
    if not isinstance(names, list) or not isinstance(record["details"], dict):
        raise TypeError("not a debt")
    return Debt(
        id=str(record["id"]),
        names=tuple(str(name) for name in names),
        what=str(record["what"]),
        details=record["details"],
        since=float(record["since"]),
    )


def _record(debt: Debt) -> dict[str, Any]:
    # by hand: asdict would copy mapping proxies, which cannot be copied
    return {
        "id": debt.id,
        "names": list(debt.names),
        "what": debt.what,
        "details": dict(debt.details),
        "since": debt.since,
    }


def _lock(path: Path) -> int:
    """A lock file of its own, since the ledger is replaced by each writing; the kernel lets go at our death."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise durable.trouble(f"cannot keep a ledger in {path.parent}", error) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise LedgerBusy(f"{path} is in use by another agent on this node") from error
    return fd
