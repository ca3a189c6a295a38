"""Damage as nodes have it: to blobs, to unpacked files, to records, to downloads, and to the disk beneath.

Each is one function with a name, which breaks one thing in a real containerd's folders (or through its API) and
nothing else: whatever kept the damage unseen (sizes, times) stays as it was where the name says so.
"""
