"""A promise: what was measured, and what it has to be."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Promise:
    """``value`` has to be at least ``least`` and at most ``most``, in ``unit``; ``note`` says how it came about."""

    what: str
    value: float
    unit: str
    least: float | None = None
    most: float | None = None
    note: str = ""

    @property
    def kept(self) -> bool:
        """Whether it holds."""
        low = self.least is None or self.value >= self.least
        return low and (self.most is None or self.value <= self.most)

    def __str__(self) -> str:
        bound = f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}" if self.most is not None else ""
        mark = "ok  " if self.kept else "MISS"
        return f"{mark} {self.what:<58} {self.value:8.3f} {self.unit:<4} {bound:<9} {self.note}".rstrip()
