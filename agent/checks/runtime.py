"""runtime: whether the container runtime answers and calls itself ready."""

from agent.causes import Cause
from agent.checks.view import View
from agent.model import Fault
from agent.runtime.runtime import Runtime


async def runtime(view: View) -> Runtime:
    """Raises `Fault` (``runtime_unavailable``, ``runtime_error``)."""
    if isinstance(view.runtime, Fault):
        raise view.runtime
    if problem := view.runtime.status.problem:
        raise Fault(Cause.RUNTIME_ERROR, f"the runtime calls itself not ready: {problem}")
    return view.runtime


def tell(found: Runtime) -> str:
    """Name and version."""
    return f"{found.version.name} {found.version.version}"
