"""How an error text is read: first everything that people name is replaced by marks, then the facts are picked out.

Names may look like anything (``reg/403:404``, ``toomanyrequests/denied``), so they must be out of the way before a
phrase or a status number is looked for. Word by word and without backtracking patterns: linear for any text.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_LONGEST = 16 * 1024
_BEFORE = "\"'`([{<"
_BEHIND = "\"'`)]}>.,:;"
_DIGESTS = ("sha256:", "sha384:", "sha512:")
_EMPTY_DIGEST = "sha256:e3b0c44298fc1c14"  # how the SHA-256 of nothing begins

_ADDRESS = re.compile(r"[0-9a-fA-F.:\[\]]*:[0-9a-fA-F.:\[\]]*")
_TIME = re.compile(r"([0-9]{4})-[0-9]{2}-[0-9]{2}T")
_TARGET = re.compile(r"\[(manifests|blobs) [^\]]{0,300}\]")
_STATUS = re.compile(r"(status(?:code)?|http code|http error)([^0-9{]{0,80}?)(?<![\w./:@-])([1-5][0-9][0-9])(?![\w/-])")
_REASON = re.compile(
    r"(?<![\w./:@{-])([45][0-9][0-9])(?= (?:unauthorized|forbidden|not found|too many requests|bad gateway|bad request"
    r"|service unavailable|internal server error|gateway time|proxy auth|method not allowed|request timeout))"
)
_CODE = re.compile(r'"code":"([A-Z_]{3,40})"')  # of a registry's JSON body, which may be one word with names in it
_WRAPPERS = re.compile(
    r"(?:error: |warning: |\(combined from similar events\): |err(?:or)?imagepull: |imagepullbackoff: "
    r"|back-off pulling image ref: |failed to pull image ref: |rpc error: code = unknown desc = )*"
)

_IMAGE_IN_TEXT = re.compile(
    r'(?:(?:image|reference) "([^"\s]{1,512})"|(?:docker://|manifest for |denied for )([^"\s,]{1,512}))'
)
_IMAGE = re.compile(
    r"[A-Za-z0-9_.-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9_.-]+)*(?::[A-Za-z0-9_.-]{1,128})?"
    r"(?:@sha(?:256|384|512):[0-9a-f]{64,128})?"
)
_URL = re.compile(r"https?://([^/?#\s\"']{1,300})")
_HOST = re.compile(r"[A-Za-z0-9_.-]+(?::[0-9]{1,5})?|\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?")
_LOOKUP = re.compile(r"lookup ([A-Za-z0-9_.-]{1,253})(?: on (\[?[0-9a-fA-F.:]{2,60}\]?:[0-9]{1,5}))?: ")
_DIALLED = re.compile(r"dial tcp (\[?[0-9a-fA-F.:]{2,60}\]?:[0-9]{1,5}): ")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the text names, empty where it does not; safe to show: no URL user parts, no query strings."""

    image: str = ""
    host: str = ""
    name: str = ""
    nameserver: str = ""
    address: str = ""
    mirrored: bool = False


def words_of(text: str) -> list[str]:
    """The text's words, without the backslashes of being quoted again; a long text's first and last 8 KiB only."""
    return _cut(text).replace("\\n", "\n").replace("\\", "").split()


def _cut(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    # The word at each edge goes too: half a URL could show the half that is a password.
    head, tail = text[:half].rsplit(None, 1), text[-half:].split(None, 1)
    return (head[0] if len(head) > 1 else "") + " … " + (tail[1] if len(tail) > 1 else "")


def said(words: Sequence[str]) -> str:
    """What is said, in lower case, names replaced by marks and ``^`` where the kubelet's wrappers end."""
    plain = " ".join([word if word[:-1].isalpha() else _masked(word) for word in words]).lower()
    plain = _REASON.sub(r"{\1}", _STATUS.sub(r"\1\2{\3}", _TARGET.sub(r"[\1]", plain)))
    wrapped = _WRAPPERS.match(plain)
    end = wrapped.end() if wrapped else 0
    return f"{plain[:end]}^{plain[end:]}"


def _masked(word: str) -> str:
    core = word.lstrip(_BEFORE)
    before = word[: len(word) - len(core)]
    core = core.rstrip(_BEHIND)
    behind = word[len(before) + len(core) :]
    if not core:
        return word
    quoted = before[-1:] in ('"', "'") and behind[:1] == before[-1:]
    # A quoted word is a name, but for the codes of a registry's JSON (`"code": "DENIED"`): no name is all upper case.
    mark = _mark(core) or ("ref" if quoted and not core.isupper() else core)
    return f"{before[:-1]}ref{behind[1:]}" if quoted and mark == "ref" else before + mark + behind


def _mark(core: str) -> str:
    """The mark for a word's core, empty where the word is no name."""
    if "/" in core or "@" in core:
        return _slashed_mark(core)
    if core.startswith(_DIGESTS):
        return "empty-digest" if core.startswith(_EMPTY_DIGEST) else "digest"
    if "->" in core or (":" in core and _ADDRESS.fullmatch(core)):
        return "addr"
    code, time = _CODE.search(core), _TIME.match(core)
    return code[1] if code else f"time{time[1]}" if time else ""


def _slashed_mark(core: str) -> str:
    code = _CODE.search(core)
    if code:
        return code[1]
    if "://" in core:
        return _url_mark(core)
    if core.startswith("/"):
        return _path_mark(core)
    first = core.partition("/")[0]
    return "ref" if "." in first or ":" in first or first == "localhost" or "@" in core else ""


def _url_mark(url: str) -> str:
    if "http" not in url.partition("://")[0].lower():
        return "ref"  # CRI-O writes docker://IMAGE
    path = url.partition("?")[0]
    kinds = (("manifests", "/manifests/"), ("blobs", "/blobs/"), ("token", "/token"), ("token", "/oauth2/"))
    kind = next((kind for kind, part in kinds if part in path), "ping" if path.endswith("/v2/") else "other")
    return f"<{kind}-url>"


def _path_mark(path: str) -> str:
    kinds = (("tmpmounts", "tmpmounts"), ("snapshots", "/snapshots"), ("hosts.toml", "hosts.toml"))
    return next((kind for kind, part in kinds if part in path), "path")


def facts_of(words: Sequence[str]) -> Facts:
    """The image, host, name server and address that the text names; each only where its form is beyond doubt."""
    text = " ".join(words)
    if "@" in text and any(_is_secret(word) for word in words):
        # Where credentials stand nothing is named: a blank or slash in a password leaves half of it looking harmless.
        return Facts()
    lookup, dialled = _LOOKUP.search(text), _DIALLED.search(text)
    return Facts(
        image=_image(text),
        host=_first(_HOST, (match[1] for match in _URL.finditer(text))),
        name=lookup[1] if lookup else "",
        nameserver=(lookup[2] or "") if lookup else "",
        address=dialled[1] if dialled else "",
        mirrored="?ns=" in text or "&ns=" in text,
    )


def _is_secret(word: str) -> bool:
    return any(not part.startswith(_DIGESTS) for part in word.split("@")[1:])


def _first(form: re.Pattern[str], found: Iterable[str]) -> str:
    return next((one for one in found if form.fullmatch(one)), "")


def _image(text: str) -> str:
    """The first image named, in the pod's own words; one with a digest before that, since its tag is not looked at."""
    found = [match[1] or match[2].rstrip(":") for match in _IMAGE_IN_TEXT.finditer(text)]
    return _first(_IMAGE, (*(one for one in found if "@" in one), *found))
