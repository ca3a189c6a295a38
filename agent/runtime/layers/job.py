"""The work of a child process: one question about one layer."""

from agent.runtime.layers.compare import Survey
from agent.runtime.layers.folder import Folder, count
from agent.runtime.layers.inflate import Inflated
from agent.runtime.layers.meter import Meter
from agent.runtime.layers.records import Comparison, Layer
from agent.runtime.layers.report import comparison
from agent.runtime.layers.tape import NotTar, Tape


def survey(layer: Layer, folder: Folder, meter: Meter, piece: int) -> Survey:
    """Read blob and folder in one pass. Raises `NotTar`, and `Fault` before anything else when the blob is damaged."""
    found = Survey(folder, meter.spend, lowest=not layer.below)
    with Inflated(layer, meter.spend, piece) as blob:
        try:
            found.read(Tape(iter(blob)))
        except NotTar:
            blob.finish()
            raise
        blob.finish()
    found.settle()
    return found


def compare(layer: Layer, meter: Meter, piece: int) -> Comparison:
    """Raises `Fault`: see `agent.runtime.layers.apart.Layers.compare`."""
    with Folder(layer.folder) as folder:
        try:
            found = survey(layer, folder, meter, piece)
        except NotTar as reason:
            return Comparison((), 0, count(layer.folder), str(reason))
        return comparison(found, lambda: count(layer.folder))
