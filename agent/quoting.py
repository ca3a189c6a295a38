"""Foreign text made fit for one line of ours: bounded, printable, without credentials.

Registries and proxies may answer anything. What of it is shown has no control characters, no user
part and no query string in its URLs (pre-signed blob URLs carry their secret there).
"""

import re

_URL = re.compile(r"""([a-zA-Z][a-zA-Z0-9+.-]*://)(?:[^\s/?#"'<>]*@)?([^\s?#"'<>]*)(?:[?#][^\s"'<>]*)?""")
_MOST = 4096


def quote(text: str | bytes, limit: int = 200) -> str:
    """``text`` on one line of at most ``limit`` characters, URLs without user part and query."""
    if isinstance(text, bytes):
        text = text[:_MOST].decode("utf-8", "replace")
    line = " ".join(_URL.sub(r"\1\2", text[:_MOST]).split())
    line = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def mask(text: str, secrets: tuple[str, ...]) -> str:
    """``text`` with every secret of four or more characters replaced: some servers echo what they were sent."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "***")
    return text
