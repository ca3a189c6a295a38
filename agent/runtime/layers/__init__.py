"""Layers and what was unpacked from them: compared file by file, and mended in place.

A layer's blob is a tar, compressed or not; containerd's ``archive.Apply`` (pkg/archive/tar.go) makes a directory of it.
Here the same tar is read again and the directory held beside it: `headers` reads the tar as Go's archive/tar does,
`tree` follows what Apply makes of the entries, `compare` looks at the disk, `replace` puts right what differs. All of
it runs in child processes (`worker`), which `apart` starts: inflating and comparing would hold up the event loop, and
one process could use but one core.
"""
