"""What ``archive.Apply`` of containerd makes of a layer's names, followed without a disk.

From pkg/archive/tar.go and continuity/fs ``RootPath`` (the same in 1.6, 1.7 and 2.x):

- A name is cleaned as ``filepath.Clean`` does it; ``..`` ends at the root; what resolves to the root itself is skipped.
- Symbolic links in the parent of a name are followed inside *this layer's* directory only; directories that are not
  there yet are made. So ``lib/x`` over a lower layer's ``lib -> usr/lib`` is a real directory ``lib``.
- A later entry replaces an earlier one of its name with all below, except a directory a directory.
- A hard link's name stands for the inode of its target, which must be in this layer.
"""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field

from agent.runtime.layers.headers import Entry
from agent.runtime.layers.records import What
from agent.runtime.layers.tape import NotTar

MOST_LINKS = 255
MOST_KNOWN = 100_000
SPECIAL = frozenset(("", ".", ".."))


@dataclass(slots=True, eq=False)
class Directory:
    """A directory of the layer. ``entry`` is None where only names below it were in the tar.

    ``names`` has all that the layer puts into it. ``odd`` are differences of files in it, by name, and ``found`` those
    of its own. ``timeless``: nobody knows which time it has.
    """

    parent: "Directory | None"
    name: str
    names: dict[str, "Node"] = field(default_factory=dict)
    entry: Entry | None = None
    found: "tuple[tuple[What, str, str], ...]" = ()
    opaque: bool = False
    timeless: bool = False
    odd: "dict[str, Odd]" = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Relative to the root, which is nothing."""
        parts: list[str] = []
        at: Directory | None = self
        while at is not None and at.parent is not None:
            parts.append(at.name)
            at = at.parent
        return "/".join(reversed(parts))

    @property
    def attached(self) -> bool:
        """Whether it is still in the tree: what was replaced is not."""
        at = self
        while at.parent is not None:
            if at.parent.names.get(at.name) is not at:
                return False
            at = at.parent
        return True


@dataclass(slots=True, eq=False)
class Inode:
    """What several names share. ``entry`` is the last header that spoke of it: it set owner, mode and time of all.

    ``node`` is what it was when it had but one name.
    """

    node: "Node"
    names: list[tuple[Directory, str]]
    entry: Entry


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link, made by the entry of this ``number``."""

    target: str
    number: int


@dataclass(frozen=True, slots=True)
class Whiteout:
    """A mark that hides a name of the layers below, made by the entry of this ``number``."""

    number: int


Node = Directory | Inode | Symlink | Whiteout | int
"""An int is the number of the entry that made a file, a device or a fifo: there are many, so no more is kept."""

Odd = tuple[tuple[What, str, str], ...]
"""In what the disk differs from an entry: expected and found."""


class Tree:
    """The directories of one layer as the tar has made them so far."""

    def __init__(self) -> None:
        self.root = Directory(None, "")
        self._known: dict[str, Directory] = {"": self.root}  # by the parent's name as it stands in the tar
        self._retimed: list[str] = []

    def directory(self, parent: str) -> Directory:
        """Where a name's front part, as it stands in the tar, leads to. Raises `NotTar`."""
        return self._known.get(parent) or self._enter(parent)

    def place(self, name: str) -> tuple[Directory, str] | None:
        """Directory and last name of an entry; its parents are made. None when it is the root itself."""
        parent, _, base = name.rpartition("/")
        directory = self._known.get(parent)
        if directory is not None and base not in SPECIAL:
            return directory, base
        if not base and parent:  # a directory's name ends in a slash
            parent, _, base = name.rstrip("/").rpartition("/")
        if base in SPECIAL:
            cleaned = clean(name)
            if not cleaned:
                return None
            parent, _, base = cleaned.rpartition("/")
        directory = self._known.get(parent)
        return directory or self._enter(parent), base

    def find(self, name: str) -> tuple[Directory, str] | None:
        """Where a hard link points (``hardlinkRootPath``): the last name is not followed."""
        parent, _, base = name.rpartition("/")
        parts = self._resolved(clean(parent))
        at: Node | None = self.root
        for part in parts:
            at = at.names.get(part) if isinstance(at, Directory) else None
        return (at, base) if isinstance(at, Directory) and base in at.names else None

    def remove(self, directory: Directory, name: str) -> None:
        """Take a name away, with all below it, as ``os.RemoveAll`` does."""
        node = directory.names.pop(name)
        directory.odd.pop(name, None)
        if isinstance(node, Inode):
            node.names.remove((directory, name))
        elif isinstance(node, Directory):
            self._retimed += (each.path for each in walk(node) if each.entry is not None)
        if isinstance(node, Directory | Inode | Symlink):
            self._known = {"": self.root}  # names may lead elsewhere now

    def remove_unlisted(self, directory: Directory) -> None:
        """An opaque mark in the lowest layer: what the tar did not list before goes, directories with all in them.

        Where the mark is kept as one of the overlay they stay; so both must be right.
        """
        for name, node in list(directory.names.items()):
            if isinstance(node, Directory) and node.entry is None:
                self.remove(directory, name)
                directory.names[name] = Whiteout(-1)
            elif isinstance(node, Directory):
                self.remove_unlisted(node)

    def retimed(self) -> Iterator[tuple[Directory, str]]:
        """What has the time of a directory that was replaced: Apply sets those in the end, where a name leads then."""
        for name in self._retimed:
            parts = self._resolved(clean(name))
            at: Node | None = self.root
            for part in parts[:-1]:
                at = at.names.get(part) if isinstance(at, Directory) else None
            if parts and isinstance(at, Directory):
                yield at, parts[-1]

    def _enter(self, parent: str) -> Directory:
        at = self.root
        for part in self._resolved(clean(parent)):
            node = at.names.get(part)
            if node is None or isinstance(node, Whiteout):
                node = at.names[part] = Directory(at, part)
            if not isinstance(node, Directory):
                raise NotTar(f"{part!r} is a directory and is none")
            at = node
        if len(self._known) > MOST_KNOWN:
            self._known = {"": self.root}
        self._known[parent] = at
        return at

    def _resolved(self, path: str) -> list[str]:
        """The parts of a cleaned `path` with all links followed (``walkLinks``): each time from the root again."""
        links = 0
        parts = path.split("/") if path else []
        while (target := self._first_link(parts)) is not None:
            links += 1
            if links > MOST_LINKS:
                raise NotTar("symbolic links in a circle")
            cleaned = clean(target)
            parts = cleaned.split("/") if cleaned else []
        return parts

    def _first_link(self, parts: list[str]) -> str | None:
        """The path with its first link replaced by what it points at; None when there is no link."""
        at: Node | None = self.root
        for number, part in enumerate(parts):
            at = at.names.get(part) if isinstance(at, Directory) else None
            link = at.node if isinstance(at, Inode) else at
            if isinstance(link, Symlink):
                before = "" if link.target.startswith("/") else "/".join(parts[:number])
                return "/".join((before, link.target, *parts[number + 1 :]))
            if at is None:
                return None
        return None


def clean(name: str) -> str:
    """``filepath.Clean`` below a root: no leading or trailing slash, no ``.``, ``..`` resolved by name."""
    return posixpath.normpath("/" + name).lstrip("/")


def walk(root: Directory) -> Iterator[Directory]:
    """`root` and all directories below it, each before those in it."""
    waiting = [root]
    while waiting:
        at = waiting.pop()
        yield at
        waiting.extend(node for node in at.names.values() if isinstance(node, Directory))
