"""The checks: each file is one async function, named after the rung that it climbs.

A check answers with what the next one needs, or raises `Fault`; `Ladder.rung` times it and writes it down. `climb` puts
the rungs in order, `paths` shares the ways to hosts, and `cache` looks at what is on the node already.
"""

CHECKS = (
    "runtime",
    "disk",
    "reference",
    "hosts",
    "proxy",
    "dns",
    "connect",
    "tls",
    "registry",
    "token",
    "manifest",
    "platform",
    "blobs",
    "size",
    "pull",
    "cache",
)
"""The names of all checks, in the order in which they are climbed: what ``step`` says in JSON."""
