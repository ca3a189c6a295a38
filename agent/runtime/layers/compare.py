"""A layer's tar beside its directory: one pass over both, files compared byte by byte.

Each entry is looked at when it is read; what a later entry replaces is forgotten again. Directories are looked at in
the end, when all that belongs into them is known: then their own mode, owner, time and marks, and what is in them and
should not be.

What is normal and never told (pkg/archive/tar.go and tar_unix.go of containerd; tests/contract/test_layers.py):

- The folder itself, and directories that the tar does not list: Apply makes them, 0755 or like those of a layer below.
- Access and change times; the times of whiteouts; sizes of directories.
- Times that the file system cannot hold: cut to its seconds, or to its last year.
- Extended attributes but ``user.*``, ``security.capability`` and those that the tar names: the kernel and its security
  modules add their own. ``user.*`` on what is no file nor directory, and any that the file system refuses.
- For names that share an inode the last header counts, since Apply sets owner, mode and time once more with each link,
  and that takes ``security.capability`` away.
- In the lowest layer whiteouts remove what came before and leave no mark: containerd unpacks it into a plain bind
  mount. Newer ones that unpack it as an overlay leave the mark, so there it may be or not.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Container

from agent.causes import Cause
from agent.model import Fault
from agent.runtime.layers import attributes
from agent.runtime.layers.attributes import Found
from agent.runtime.layers.content import Contents
from agent.runtime.layers.folder import READ_FILE, Counter, Folder, lstat
from agent.runtime.layers.headers import DIRECTORY, FILE, GLOBAL, HARD_LINK, SYMLINK, Entry, Headers
from agent.runtime.layers.lane import Lane
from agent.runtime.layers.records import Usage, What
from agent.runtime.layers.status import TYPES, describe, metadata
from agent.runtime.layers.tape import NotTar, Tape
from agent.runtime.layers.tree import Directory, Inode, Node, Symlink, Tree, Whiteout, walk

MOST_DETAILED = 10_000
WHITEOUT_PREFIX = ".wh."
OPAQUE_NAME = ".wh..wh..opq"

_GONE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))
_BROKEN = frozenset((errno.EIO, errno.EUCLEAN, errno.EBADMSG))
_METADATA = frozenset((What.MODE, What.OWNER, What.MTIME))


class Survey:
    """One layer's tar beside `folder`; ``lowest`` when no layer lies below. `read` it all, then `settle`.

    ``tree`` is then what should be there, with what is odd about it, and ``extra`` what should not. ``spent`` is told
    of the bytes read from the folder.
    """

    def __init__(self, folder: Folder, spent: Callable[[int], None], *, lowest: bool) -> None:
        self.tree = Tree()
        self.extra: list[tuple[Directory, str, str]] = []
        self._folder = folder
        self._lowest = lowest
        self._contents = Contents(spent)
        self._counter = Counter()
        self._recount = False
        self._told = 0
        self._inodes: list[Inode] = []
        self._sees_opaque = attributes.sees_trusted()

    def read(self, tape: Tape) -> None:
        """Raises `NotTar`, and `Fault` (``unknown``) for a file that may not be read."""
        lane = Lane(self.tree, self._folder, self._contents, self._counter)
        headers = iter(Headers(tape))
        number = lane.run(tape, 0)
        while (entry := next(headers, None)) is not None:
            self._entry(entry, tape, number)
            number = lane.run(tape, number + 1)

    def _entry(self, entry: Entry, tape: Tape, number: int) -> None:
        placed = self.tree.place(entry.name)
        if placed is None:
            return
        directory, name = placed
        if name.startswith(WHITEOUT_PREFIX):
            self._hide(directory, name, entry, number)
            return
        known = directory.names.get(name)
        if known is not None and self._merge(directory, name, known, entry):
            return
        if entry.kind == FILE:
            directory.names[name] = number
            self._note(directory, name, self._file(directory, name, entry, tape))
        else:
            self._other(directory, name, entry, number)

    def settle(self) -> None:
        """Look at the directories. Raises `Fault` (``unknown``) for what may not be read."""
        for inode in self._inodes:
            self._shared(inode)
        for directory, name in self.tree.retimed():
            self._drop(directory, name, {What.MTIME})
            node = directory.names.get(name)
            if isinstance(node, Directory):
                node.timeless = True
        for directory in walk(self.tree.root):
            try:
                directory.found = self._directory(directory)
            except OSError as error:
                directory.found = self._no_directory(directory, error)
        self._contents.tell()

    @property
    def exact(self) -> Usage | None:
        """What the folder takes, where no name came twice: then each was counted once."""
        return None if self._recount else self._counter.usage

    def _merge(self, directory: Directory, name: str, known: Node, entry: Entry) -> bool:
        """Make room for an entry of the same name; True when nothing more is to be done: two directories are one."""
        self._recount = True
        if entry.kind == DIRECTORY and isinstance(known, Directory):
            before = known.entry.xattrs if known.entry else None
            entry.xattrs = {**(before or {}), **(entry.xattrs or {})}
            known.entry = entry
            return True
        self.tree.remove(directory, name)
        return False

    def _other(self, directory: Directory, name: str, entry: Entry, number: int) -> None:
        if entry.kind == DIRECTORY:
            directory.names[name] = Directory(directory, name, entry=entry)
        elif entry.kind == SYMLINK:
            directory.names[name] = Symlink(entry.link, number)
            self._note(directory, name, self._look(directory, name, entry, stat.S_IFLNK))
        elif entry.kind == HARD_LINK:
            self._link(directory, name, entry)
        elif entry.kind != GLOBAL:
            directory.names[name] = number
            self._note(directory, name, self._look(directory, name, entry, TYPES[entry.kind]))

    def _file(self, directory: Directory, name: str, entry: Entry, tape: Tape) -> Found:
        try:
            at = self._folder.descriptor(directory)
            status = lstat(name, at)
            self._counter.add(status)
            found = metadata(entry, status, stat.S_IFREG)
            if found and found[0][0] is What.TYPE:
                return found
            descriptor = os.open(name, READ_FILE, dir_fd=at)
            try:
                return found + self._inside(descriptor, entry, status, tape)
            finally:
                os.close(descriptor)
        except OSError as error:
            return self._lost(directory, error)

    def _inside(self, descriptor: int, entry: Entry, status: os.stat_result, tape: Tape) -> Found:
        names = attributes.listed(descriptor)
        found = attributes.differences(descriptor, names, entry.xattrs) if names or entry.xattrs else ()
        if status.st_size != entry.size:
            return (*found, (What.SIZE, f"{entry.size} bytes", f"{status.st_size} bytes"))
        if entry.size and (differs := self._contents.difference(descriptor, entry, tape)):
            return (*found, (What.CONTENT, *differs))
        return found

    def _look(self, directory: Directory, name: str, entry: Entry, kind: int) -> Found:
        """What is no regular file is never opened."""
        try:
            at = self._folder.descriptor(directory)
            status = lstat(name, at)
            self._counter.add(status)
            found = metadata(entry, status, kind)
            if found and found[0][0] is What.TYPE:
                return found
            if kind == stat.S_IFLNK and (target := os.readlink(name, dir_fd=at)) != entry.link:
                return (*found, (What.LINK, entry.link, target))
        except OSError as error:
            return self._lost(directory, error)
        return found

    def _link(self, directory: Directory, name: str, entry: Entry) -> None:
        placed = self.tree.find(entry.link)
        if placed is None or isinstance(node := placed[0].names[placed[1]], Directory | Whiteout):
            raise NotTar(f"a hard link to {entry.link!r}, which is not in the layer")
        if isinstance(node, Inode):
            inode = node
        else:
            inode = Inode(node, [placed], entry)
            self._inodes.append(inode)
        for where, known in inode.names:
            self._drop(where, known, _METADATA, attributes.CAPABILITY)
        inode.entry = entry
        inode.names.append((directory, name))
        placed[0].names[placed[1]] = directory.names[name] = inode

    def _shared(self, inode: Inode) -> None:
        """Whether the names that are left in the end lead to one inode, and that is as its last header says."""
        inode.names = [place for place in inode.names if place[0].names.get(place[1]) is inode and place[0].attached]
        first: tuple[int, int] | None = None
        for directory, name in inode.names:
            try:
                status = lstat(name, self._folder.descriptor(directory))
            except OSError as error:
                self._note(directory, name, self._lost(directory, error))
                continue
            self._counter.add(status)
            same = status.st_dev, status.st_ino
            if first is None:
                first = same
                self._note(directory, name, metadata(inode.entry, status, stat.S_IFMT(status.st_mode)))
            elif same != first:
                other = (What.HARD_LINK, "one inode with its other names", f"{describe(status.st_mode)} of its own")
                self._note(directory, name, (other,))

    def _hide(self, directory: Directory, name: str, entry: Entry, number: int) -> None:
        if name == OPAQUE_NAME:
            directory.opaque = True
            if self._lowest:
                self._recount = True
                self.tree.remove_unlisted(directory)
            return
        name = name[len(WHITEOUT_PREFIX) :]
        if name in {"", ".", ".."}:
            raise NotTar("a whiteout of nothing")
        if name in directory.names:
            self._recount = True
            self.tree.remove(directory, name)
        directory.names[name] = Whiteout(number)
        self._note(directory, name, self._hidden(directory, name, entry))

    def _hidden(self, directory: Directory, name: str, entry: Entry) -> Found:
        try:
            status = lstat(name, self._folder.descriptor(directory))
        except OSError as error:
            if self._lowest and error.errno in _GONE:
                return ()
            found = self._lost(directory, error)
            return tuple((What.WHITEOUT, "a whiteout", each[2]) for each in found)
        self._counter.add(status)
        if not (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0):
            return ((What.EXTRA, "nothing", describe(status.st_mode)) if self._lowest else _no_whiteout(status),)
        return metadata(entry, status, stat.S_IFCHR, only_owner=True)

    def _directory(self, directory: Directory) -> Found:
        """Its own metadata; what is in it and should not be goes to ``extra``. Raises OSError."""
        at = self._folder.descriptor(directory)
        status = os.fstat(at)
        self._counter.add(status)
        entry = directory.entry
        found = metadata(entry, status, stat.S_IFDIR, timeless=directory.timeless) if entry else ()
        names = attributes.listed(at)
        if entry and (names or entry.xattrs):
            found += attributes.differences(at, names, entry.xattrs)
        if self._sees_opaque and not self._lowest and attributes.is_opaque(at, names) != directory.opaque:
            words = ("opaque", "not opaque")
            found += ((What.OPAQUE, *(words if directory.opaque else reversed(words))),)
        self._find_extra(directory, at)
        return found

    def _no_directory(self, directory: Directory, error: OSError) -> Found:
        """What stands in the place of one that cannot be opened."""
        found = self._lost(directory, error)
        if error.errno in _GONE and directory.parent is not None:
            with contextlib.suppress(OSError):
                status = lstat(directory.name, self._folder.descriptor(directory.parent))
                return ((What.TYPE, describe(stat.S_IFDIR), describe(status.st_mode)),)
        return found

    def _find_extra(self, directory: Directory, at: int) -> None:
        for name in os.listdir(at):
            if name not in directory.names:
                self.extra.append((directory, name, describe(lstat(name, at).st_mode)))

    def _note(self, directory: Directory, name: str, found: Found) -> None:
        if found:
            self._told += 1
            if self._told > MOST_DETAILED:  # a directory that is all wrong should not fill the memory
                found = tuple((what, "", "") for what, _, _ in found)
            directory.odd[name] = (*directory.odd.get(name, ()), *found)

    def _drop(self, directory: Directory, name: str, kinds: Container[What], attribute: str = "") -> None:
        """Take back what was said of a name's metadata: a later header set it."""
        found = directory.odd.pop(name, ())
        kept = tuple(
            each for each in found if each[0] not in kinds and not (attribute and attribute in each[1] + each[2])
        )
        if kept:
            directory.odd[name] = kept

    def _lost(self, directory: Directory, error: OSError) -> Found:
        """What an error of the disk says of a name. Raises `Fault` (``unknown``) for one that says nothing of it."""
        if error.errno in _GONE:
            return ((What.MISSING, "to be there", "nothing"),)
        if error.errno in _BROKEN:
            return ((What.UNREADABLE, "to be read", error.strerror or "an error of the disk"),)
        raise Fault(Cause.UNKNOWN, f"cannot read /{directory.path} of the unpacked layer: {error.strerror}")


def _no_whiteout(status: os.stat_result) -> tuple[What, str, str]:
    return What.WHITEOUT, "a whiteout", describe(status.st_mode)
