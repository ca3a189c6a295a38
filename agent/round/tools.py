"""What mending takes, and how its deeds are told."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.actions import Abort, Action, Evict, Fetch, Leave, Pull, Rebuild, Reload, ReplaceFiles, Unpack
from agent.causes import Cause
from agent.checks.cache import Verifier
from agent.checks.view import View
from agent.model import Deed, Fault, Image
from agent.node.ledger import Ledger
from agent.registry.credentials import Keyring
from agent.round.diagnose import Seen
from agent.round.verify import store_of
from agent.runtime.runtime import Runtime
from agent.runtime.store import Store

DONE = "done"


@dataclass(frozen=True, slots=True)
class Tools:
    """``seconds`` is the deadline for climbing the rungs before anything is touched; ``seen`` hears of bytes pulled.

    ``replace_files`` allows damaged files to be mended under running containers.
    """

    view: View
    ledger: Ledger
    keyring: Keyring
    verifier: Verifier
    seconds: float
    seen: Seen = field(default=lambda *_: None)
    replace_files: bool = False

    @property
    def runtime(self) -> Runtime:
        """The runtime. Raises `Fault` when it is away."""
        if isinstance(self.view.runtime, Fault):
            raise self.view.runtime
        return self.view.runtime

    @property
    def store(self) -> Store:
        """containerd's services. Raises `Fault` as `agent.round.verify.store_of`."""
        return store_of(self.view.runtime)

    @property
    def root(self) -> Path:
        """The content store's folder. Raises `Fault` (``unknown``) where it cannot be reached."""
        if self.store.content_root is None:
            raise Fault(Cause.UNKNOWN, "the files of the content store cannot be reached: mount containerd's root")
        return self.store.content_root

    @property
    def files(self) -> bool:
        """Whether files can be put aside, and adopted again afterwards."""
        return self.store.content_root is not None and not self.store.isolated


class Deeds:
    """The actions of a plan as they are carried out, each with its outcome and its time."""

    def __init__(self, image: Image) -> None:
        self.done: list[Deed] = []
        self._image = image

    @contextmanager
    def doing(self, action: Action) -> Iterator[None]:
        """Carry out `action`; a `Fault` is its outcome, and is raised again."""
        began = time.monotonic()
        try:
            yield
        except Fault as fault:
            self.note(action, f"failed: {fault.detail}", time.monotonic() - began)
            raise
        self.note(action, DONE, time.monotonic() - began)

    def note(self, action: Action, outcome: str, seconds: float = 0.0) -> None:
        """Write a deed down."""
        self.done.append(Deed(_word(action), self._image.title, outcome, seconds))


def planned(image: Image, plan: tuple[Action, ...]) -> tuple[Deed, ...]:
    """What a plan would do, or why it does nothing."""
    deeds = Deeds(image)
    for action in plan:
        deeds.note(action, _intent(action))
    return tuple(deeds.done)


def _intent(action: Action) -> str:
    match action:
        case Leave(reason=reason):
            return reason
        case Fetch(digests=subjects) | Evict(digests=subjects):
            return f"would {_word(action)} {', '.join(subjects)}"
        case Rebuild(chains=subjects) | Unpack(chains=subjects) | ReplaceFiles(chains=subjects):
            return f"would {_word(action)} {', '.join(subjects)}"
        case Pull(image=name) | Abort(image=name) | Reload(image=name):
            return f"would {_word(action)} {name}"


def _word(action: Action) -> str:
    """``ReplaceFiles`` is told as ``replace-files``."""
    name = type(action).__name__
    return name[0].lower() + "".join(f"-{char.lower()}" if char.isupper() else char for char in name[1:])
