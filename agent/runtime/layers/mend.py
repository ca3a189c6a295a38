"""Puts right in place what differs from its layer, for a snapshot that containers stand on.

First the whole blob is compared and verified, then read a second time: for every path that differs a new inode is made
beside the folder (`staging`), and only when the blob had its digest again is anything touched. Then each is renamed
over its path; what was there has been linked into the quarantine. So at every moment a file is there, the old or the
new, and who is killed in between is finished by running it again. Only where a directory stands in a file's place, or
the reverse, is there a moment with neither. Directories are mended in place: owner, mode, marks, and at last their
times, which the renaming changed.
"""

import contextlib
import errno
import os
import stat

from agent.causes import Cause
from agent.model import Fault
from agent.runtime.layers import attributes
from agent.runtime.layers.compare import WHITEOUT_PREFIX, Survey
from agent.runtime.layers.folder import Folder, lstat, resolved
from agent.runtime.layers.headers import Headers
from agent.runtime.layers.inflate import Inflated
from agent.runtime.layers.job import survey
from agent.runtime.layers.meter import Meter
from agent.runtime.layers.records import Layer, What
from agent.runtime.layers.report import differences
from agent.runtime.layers.staging import Staging, set_metadata
from agent.runtime.layers.tape import NotTar, Tape
from agent.runtime.layers.tree import Directory, Inode, Node, Symlink, Whiteout, walk

_CAUSES = {errno.ENOSPC: Cause.DISK_FULL, errno.EDQUOT: Cause.DISK_FULL, errno.EROFS: Cause.DISK_READ_ONLY}
_ABSENT = frozenset((What.MISSING, What.TYPE, What.UNREADABLE))

Place = tuple[Directory, str]


def replace_files(layer: Layer, meter: Meter, piece: int) -> int:
    """How many paths were put right. Raises `Fault`: see `agent.runtime.layers.apart.Layers.replace_files`."""
    with Folder(layer.folder) as folder:
        try:
            found = survey(layer, folder, meter, piece)
            if next(differences(found), None) is None:
                return 0
            with Staging(layer.folder) as staging:
                mending = Mending(layer, folder, found, staging)
                mending.stage(meter, piece)
                return mending.put()
        except NotTar as reason:
            raise Fault(Cause.UNKNOWN, f"the layer {layer.digest} cannot be compared: {reason}") from None
        except OSError as error:
            cause = _CAUSES.get(error.errno or 0, Cause.UNKNOWN)
            raise Fault(cause, f"cannot mend {layer.folder}: {error.strerror}") from None


class Mending:
    """What `found` says of `folder`, to be put right."""

    def __init__(self, layer: Layer, folder: Folder, found: Survey, staging: Staging) -> None:
        self._layer = layer
        self._folder = folder
        self._found = found
        self._staging = staging
        self._odd_directories = [each for each in walk(found.tree.root) if each.found]
        self._places = _places(found)
        self._times: dict[Directory, int] = {}  # of directories that are changed, as they were before

    def stage(self, meter: Meter, piece: int) -> None:
        """Make all new inodes. Raises `Fault` when the blob has other bytes the second time."""
        with Inflated(self._layer, meter.spend, piece) as blob:
            tape = Tape(iter(blob))
            for number, entry in enumerate(Headers(tape)):
                if number not in self._places:
                    continue
                if entry.name.rpartition("/")[2].startswith(WHITEOUT_PREFIX):
                    self._staging.make_whiteout(number, entry)
                else:
                    directory, name = self._places[number][0]
                    node = directory.names[name]
                    self._staging.make(number, entry, tape, node.entry if isinstance(node, Inode) else None)
            blob.finish()

    def put(self) -> int:
        """Move everything to its place, and say how many paths there were."""
        for directory, name, _ in self._found.extra:
            self._touch(directory)
            self._move_aside(self._folder.descriptor(directory), name)
        for directory in self._odd_directories:
            if directory.parent is not None and _ABSENT & {what for what, _, _ in directory.found}:
                self._make_directory(directory.parent, directory)
        for number, places in self._places.items():
            self._put_inode(number, places)
        for directory in reversed(list(walk(self._found.tree.root))):
            if directory.found or directory in self._times:
                self._settle(directory)
        return len(self._found.extra) + len(self._odd_directories) + sum(map(len, self._places.values()))

    def _make_directory(self, parent: Directory, directory: Directory) -> None:
        self._touch(parent)
        at = self._folder.descriptor(parent)
        with contextlib.suppress(FileNotFoundError):
            self._move_aside(at, directory.name)
            self._folder.forget()
            at = self._folder.descriptor(parent)
        os.mkdir(directory.name, 0o700, dir_fd=at)

    def _put_inode(self, number: int, places: list[Place]) -> None:
        """Rename the new inode to its place; other names of it are linked first, so that all of them are renamed."""
        new = self._staging.name(number)
        waiting = self._staging.descriptor
        for turn, (directory, name) in enumerate(places, 1):
            self._touch(directory)
            at = self._folder.descriptor(directory)
            link = new
            if turn < len(places):
                link = f"{new}-{turn}"
                os.link(new, link, src_dir_fd=waiting, dst_dir_fd=waiting, follow_symlinks=False)
            self._keep(at, name)
            os.rename(link, name, src_dir_fd=waiting, dst_dir_fd=at)

    def _keep(self, at: int, name: str) -> None:
        """Have what stands in the place in the quarantine too; a directory is moved there."""
        try:
            status = lstat(name, at)
            if stat.S_ISDIR(status.st_mode):
                self._move_aside(at, name)
                return
            aside = self._staging.free_name()
            os.link(name, aside, src_dir_fd=at, dst_dir_fd=self._staging.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EMLINK:  # an inode with all the names it can have is in good keeping
                raise

    def _move_aside(self, at: int, name: str) -> None:
        os.rename(name, self._staging.free_name(), src_dir_fd=at, dst_dir_fd=self._staging.descriptor)

    def _touch(self, directory: Directory) -> None:
        if directory not in self._times:
            self._times[directory] = os.fstat(self._folder.descriptor(directory)).st_mtime_ns

    def _settle(self, directory: Directory) -> None:
        """Give a directory what the layer says of it; one that the layer does not list keeps its own time."""
        at = self._folder.descriptor(directory)
        entry = directory.entry
        before = self._times.get(directory)
        if directory.found:
            _mark(at, directory, lowest=not self._layer.below)
            _drop_attributes(at, entry.xattrs or {} if entry else {})
            if entry is None:
                self._copy_below(at, directory)
        if entry is not None:
            set_metadata(at, entry, before if directory.timeless else entry.mtime)
        elif before is not None:
            os.utime(at, ns=(before, before))
        os.fsync(at)

    def _copy_below(self, at: int, directory: Directory) -> None:
        """As Apply makes a directory that is not listed: like that of the nearest layer that has it, else 0755."""
        os.fchown(at, 0, 0)
        os.fchmod(at, 0o755)
        for below in self._layer.below:
            with contextlib.suppress(OSError, Fault), Folder(below) as folder:
                source = folder.descriptor(resolved(folder, directory.path))
                status = os.fstat(source)
                os.fchown(at, status.st_uid, status.st_gid)
                os.fchmod(at, stat.S_IMODE(status.st_mode))
                for name in filter(attributes.is_ours, attributes.listed(source)):
                    os.setxattr(at, name, os.getxattr(source, name))
                return


def _places(found: Survey) -> dict[int, list[Place]]:
    """What is to be made anew, by the number of the entry that made it, with all names of its inode."""
    places: dict[int, list[Place]] = {}
    for directory in walk(found.tree.root):
        for name in directory.odd:
            node = directory.names[name]
            if isinstance(node, Inode):
                places[_number(node.node)] = node.names
            elif not isinstance(node, Directory):
                places[_number(node)] = [(directory, name)]
    return places


def _number(node: Node) -> int:
    if isinstance(node, Symlink | Whiteout):
        return node.number
    assert isinstance(node, int)  # noqa: S101 - directories have no second name
    return node


def _mark(at: int, directory: Directory, *, lowest: bool) -> None:
    """Set or take the mark that hides what is below."""
    if lowest:
        return
    if directory.opaque:
        os.setxattr(at, attributes.OPAQUE[0], b"y")
        return
    present = attributes.listed(at)
    for name in attributes.OPAQUE:
        if name in present:
            os.removexattr(at, name)


def _drop_attributes(at: int, expected: dict[str, bytes]) -> None:
    for name in attributes.listed(at):
        if attributes.is_ours(name) and name not in expected:
            os.removexattr(at, name)
