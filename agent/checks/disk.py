"""disk: whether the file system of the image store can be written to at all."""

from collections.abc import Mapping

from agent.causes import Cause
from agent.checks.view import View
from agent.model import Fault
from agent.node import disk as door


async def disk(view: View) -> door.Disk:
    """Raises `Fault` (``disk_full``, ``disk_read_only``)."""
    found = room(view)
    door.check(found)
    return found


def room(view: View) -> door.Disk:
    """The file system of the image store. Raises `Fault` (``unknown``) when its path cannot be found."""
    try:
        return door.look(view.images_path, view.root)
    except OSError as error:
        detail = f"{view.images_path} cannot be looked at below {view.root.prefix}: {error.strerror}"
        raise Fault(Cause.UNKNOWN, detail) from None


def tell(found: door.Disk) -> str:
    """What is free."""
    return f"{door.human(found.free)} of {door.human(found.total)} free on {found.mount}"


def show(found: door.Disk) -> Mapping[str, str]:
    """Bytes, for programs."""
    return {"free": str(found.free), "total": str(found.total)}
