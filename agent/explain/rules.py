"""The table of phrases: which words of the kubelet, containerd, CRI-O or a registry mean which cause.

Sources of the wording, where a rule names none: Go's net, crypto/tls and net/http packages; containerd's resolver,
fetcher and CRI plugin 1.2 to 2.4; the kubelet's image manager 1.25 to 1.36; the distribution specification's codes.
"""

from typing import NamedTuple

from agent.causes import Cause


class Rule(NamedTuple):
    """Any of ``phrases`` means ``cause``; ``hint`` ends the summary where the text leaves something open."""

    cause: Cause
    phrases: tuple[str, ...]
    hint: str = ""


# The one table, first match wins. Order: what never reached a registry; the node; proxy, TLS, DNS, connection (a
# failure there is the deepest one and must not be read as "not found" or "denied"); then what the registry answered.
# Phrases are lower case, matched after `reading.said` has put marks in place of names: ``ref``, ``digest``, ``addr``,
# ``<blobs-url>``, ``{403}`` for a status. " … " is "and later", a leading "^" is "begins, after wrappers".
RULES: tuple[Rule, ...] = (
    Rule(Cause.THROTTLED_LOCALLY, ("pull qps exceeded",)),
    Rule(
        Cause.INVALID_REFERENCE,
        ("couldn't parse image", "invalid reference format", "must be lowercase", "invalidimagename"),
    ),
    Rule(
        Cause.INVALID_REFERENCE,
        ("cannot specify 64-byte hex", "failed to parse image reference", "repository name must not be longer"),
    ),
    Rule(Cause.INVALID_REFERENCE, ("invalid checksum digest length", "unsupported digest algorithm")),
    Rule(Cause.SECRET_MISSING, ("unable to retrieve some image pull secrets", "failedtoretrieveimagepullsecret")),
    Rule(Cause.SECRET_MISSING, ("pull secret … not found",)),
    # The keyring's errors come bare: a runtime always names the image or the blob first (kubelet credentialprovider).
    Rule(Cause.SECRET_MALFORMED, ("^invalid character", "^unexpected end of json", "^illegal base64", "^json: cannot")),
    Rule(Cause.SECRET_MALFORMED, ("unable to parse auth field", "credentialprovider.dockerconfig")),
    Rule(Cause.POLICY_BLOCKED, ("signature validation failed", "signaturevalidationfailed", "source image rejected")),
    Rule(Cause.POLICY_BLOCKED, ("verifier … blocked pull", "image verif … blocked", "rejected by policy")),
    Rule(
        Cause.POLICY_BLOCKED,
        ("pull policy of never", "errimageneverpull"),
        "imagePullPolicy is Never and no copy that this pod may use is on the node",
    ),
    Rule(Cause.INGEST_STUCK, (" locked for ",)),
    Rule(Cause.DISK_FULL, ("no space left on device", "disk quota exceeded", "failed to garbage collect required")),
    Rule(Cause.DISK_READ_ONLY, ("read-only file system",)),
    Rule(Cause.RUNTIME_UNAVAILABLE, ("unknown service runtime.v1", "dial unix", "cannot connect to the docker daemon")),
    Rule(Cause.RUNTIME_UNAVAILABLE, ("error while dialing", "error reading from server", "transport is closing")),
    # ImageStatus has a limit of two minutes (runtimeRequestTimeout); it asks the runtime only, never a registry.
    Rule(Cause.RUNTIME_UNAVAILABLE, ("failed to inspect image … deadline",)),
    Rule(Cause.RUNTIME_UNAVAILABLE, ("container runtime is down", "container runtime not ready", "server is not init")),
    # Built while hosts are set up, so before any connection; the X509 one would read as TLS further down.
    Rule(Cause.HOSTS_CONFIG_INVALID, ("unable to read ca cert", "unable to load ca cert", "failed to load x509 key")),
    Rule(Cause.HOSTS_CONFIG_INVALID, ("invalid `host` tree", "failed to decode … hosts.toml", "`config_path` is prov")),
    Rule(
        Cause.HOSTS_CONFIG_INVALID, ("no resolve hosts", "no pull hosts"), "no host in hosts.toml may resolve or pull"
    ),
    Rule(Cause.HOSTS_CONFIG_INVALID, ("parse registry endpoint",)),
    Rule(Cause.HOSTS_CONFIG_IGNORED, ("ignoring unknown key in toml",)),
    Rule(Cause.PROXY_AUTH_REQUIRED, ("proxy authentication required", "{407}")),
    # Go takes what follows an unescaped '#' or '/' of the password for the path, and the host is left as 'http'.
    Rule(Cause.PROXY_MISCONFIGURED, ("proxyconnect … lookup http:", "proxyconnect … lookup http on", "in cgi environ")),
    Rule(Cause.PROXY_MISCONFIGURED, ("proxyconnect … lookup https:", "proxyconnect … lookup https on")),
    Rule(Cause.PROXY_MISCONFIGURED, ("proxyconnect … unknown port", "proxyconnect … invalid port", "invalid proxy")),
    Rule(
        Cause.PROXY_MISCONFIGURED,
        ("proxyconnect … not look like a tls", "proxyconnect … http response to https"),
        "https:// is set for a proxy that speaks plain HTTP",
    ),
    # A refused CONNECT shows as the bare status text after the URL (net/http), never with a number.
    Rule(Cause.PROXY_REFUSED, ('-url>": forbidden', '-url>": bad gateway', '-url>": service unavailable')),
    Rule(Cause.PROXY_REFUSED, ('-url>": gateway timeout', '-url>": bad request', '-url>": method not allowed')),
    Rule(Cause.PROXY_REFUSED, ('-url>": not found', '-url>": internal server error', '-url>": too many requests')),
    # Only a clock that never met a time server stands in such a year; and S3 says it in so many words.
    Rule(Cause.CLOCK_SKEW, ("current time time19", "current time time200", "current time time201")),
    Rule(Cause.CLOCK_SKEW, ("requesttimetooskewed", "request time and the current time is too", "used before issued")),
    Rule(Cause.TLS_CLIENT_CERTIFICATE, ("tls: certificate required", "tls: bad certificate", "tls: expired certif")),
    Rule(
        Cause.TLS_CLIENT_CERTIFICATE, ("tls: unknown certificate", "no required ssl certificate", "tls: revoked cert")
    ),
    Rule(Cause.TLS_NOT_YET_VALID, ("not yet valid: current time … is before",)),
    Rule(Cause.TLS_EXPIRED, ("certificate has expired",), "compare the node's clock before blaming the certificate"),
    Rule(Cause.TLS_NAME_MISMATCH, ("certificate is valid for", "any ip sans", "legacy common name")),
    Rule(Cause.TLS_NAME_MISMATCH, ("not valid for any names", "not authorized to sign for this name")),
    Rule(Cause.TLS_UNKNOWN_AUTHORITY, ("unknown authority", "self-signed certificate", "self signed certificate")),
    Rule(Cause.HTTP_HTTPS_MISMATCH, ("http response to https client", "http request to an https server")),
    Rule(Cause.HTTP_HTTPS_MISMATCH, ("http request was sent to https port", "malformed http response")),
    Rule(Cause.HTTP_HTTPS_MISMATCH, ("not look like a tls handshake",)),
    Rule(Cause.PROXY_UNREACHABLE, ("proxyconnect", "socks connect"), "the failure is on the way to the proxy itself"),
    Rule(Cause.TLS_HANDSHAKE, ("tls handshake", "remote error: tls", "x509: ", "tls: ")),
    Rule(Cause.DNS_NOT_FOUND, ("no such host", "name or service not known")),
    Rule(Cause.DNS_FAILURE, ("server misbehaving", "temporary failure in name res", "lame referral", "no answer from")),
    Rule(Cause.DNS_FAILURE, ("lookup … try again", "could not resolve host")),  # musl, curl
    Rule(Cause.DNS_FAILURE, ("dns message", "lookup … i/o timeout", "read udp", "dial udp", "lookup … on addr: dial")),
    Rule(Cause.DNS_FAILURE, ("lookup … operation was canceled", "lookup … context deadline exceeded")),
    Rule(Cause.CONNECT_REFUSED, ("connection refused", "connect: permission denied", "connect: operation not perm")),
    Rule(Cause.CONNECTION_INTERRUPTED, ("read tcp … i/o timeout", "read: connection timed out", "write tcp")),
    Rule(
        Cause.CONNECT_TIMEOUT,
        ("network is unreachable",),
        "Go shows only the first address's error, so a dead IPv6 route may hide what IPv4 met",
    ),
    Rule(Cause.CONNECT_TIMEOUT, ("dial tcp … i/o timeout", "no route to host", "connection timed out", "host is down")),
    Rule(Cause.CONNECT_TIMEOUT, ("while waiting for connection", "dial tcp … deadline exceeded", "dial tcp … cancel")),
    # Unpacking and the cache come before "cut connection": an unexpected EOF there is one of a file.
    Rule(Cause.METADATA_BROKEN, ("missing parent … bucket", "failed to rename … file exists")),
    Rule(Cause.METADATA_BROKEN, ("target snapshot … already exists", "extraction snapshot … already exists")),
    Rule(Cause.BLOB_MISSING, ("blob not found", "content digest digest: not found", "failed to get reader from conte")),
    Rule(Cause.BLOB_MISSING, ("content readiness for … is not ok",)),
    Rule(Cause.SNAPSHOT_MISSING, ("failed to stat parent", "tmpmounts: no such file", "snapshots: no such file")),
    Rule(
        Cause.SNAPSHOT_MISSING,
        ("parent snapshot … does not exist", " is not unpacked", 'snapshot "digest" does not exist'),
    ),
    Rule(Cause.BLOB_TRUNCATED, ("invalid desc … unexpected end of json", "unmarsh … unexpected end of json")),
    Rule(Cause.BLOB_TRUNCATED, ("containerd container: unexpected end of json", "failed to extract … unexpected eof")),
    Rule(
        Cause.BLOB_CORRUPT, ("invalid desc", "failed to unmarshall blob", "unmarshal image config", "container: invali")
    ),
    Rule(
        Cause.BLOB_CORRUPT,
        ("gzip: invalid", "invalid tar header", "flate: corrupt", "wrong diff id", "magic number mismatch"),
        "if every node fails alike, the image was built or pushed broken; if only this one, its cached copy is",
    ),
    Rule(Cause.BLOB_CORRUPT, ("failed to check image content readiness",)),
    Rule(
        Cause.CACHE_CORRUPT,
        ("input/output error", "structure needs cleaning", "failed to check whether image is unpacked"),
        "the kernel's log (dmesg) and a full verify tell which part",
    ),
    Rule(
        Cause.REGISTRY_CONTENT_CORRUPT,
        # The digest of no bytes at all; an empty partial starts over, so this body came empty (containerd#3974).
        ("unexpected commit digest empty-digest",),
        "the body came empty",
    ),
    Rule(
        Cause.REGISTRY_CONTENT_CORRUPT,
        # A partial download kept on the node repeats the text for ever, but bytes from the network made it first.
        ("unexpected commit", "failed size validation", "digest did not match", "verification failed for digest"),
        "if only this node repeats it, a bad partial download is kept here (see ctr -n k8s.io content active)",
    ),
    Rule(
        Cause.PLATFORM_MISMATCH,
        ("no match for platform", "no matching manifest", "for architecture"),
    ),
    Rule(
        Cause.PLATFORM_MISMATCH,
        ("exec format error",),
        "if the image has this node's architecture, its cached files are damaged instead (node-agent verify IMAGE)",
    ),
    # Answered 200 with a page: a login page or captive portal, not a registry. It even ends in "not found" (gRPC
    # NotFound), which it is not. No cause of ours says "portal"; the registry's address answers wrongly.
    Rule(
        Cause.REGISTRY_ERROR,
        ("unexpected media type text/", "decode token response", "character '<'", "not include a token"),
        "what answered is no registry: a login page, captive portal or proxy page",
    ),
    Rule(
        Cause.UNSUPPORTED_MANIFEST, ("schema 1", "expected manifest but", "expected index but", "unexpected media type")
    ),
    Rule(
        Cause.UNSUPPORTED_MANIFEST,
        ("unsupported manifest", "unsupported media", "no longer supported", "diffids don't"),
    ),
    Rule(Cause.UNSUPPORTED_MANIFEST, ("mismatched image rootfs", "no processor for media", "unsupported docker v1")),
    Rule(
        Cause.PULL_TIMEOUT, ("no progress in", "cancel pulling image", "timeout awaiting response", "awaiting headers")
    ),
    Rule(
        Cause.PULL_TIMEOUT,
        # Only in containerd's own words (kubernetes#131521). Without them the kubelet itself let go of a deleted pod.
        (
            "failed to pull and unpack … context cancel",
            "httpreadseeker … context cancel",
            "failed to extract … context cancel",
        ),
        "it is also said when the pod went away or another layer failed first; containerd's journal tells",
    ),
    Rule(Cause.PULL_TIMEOUT, ("pull … deadline exceeded", "-url> … deadline exceeded", "deadlineexceeded")),
    Rule(Cause.RATE_LIMITED, ("toomanyrequests", "too many requests", "{429}", "pull rate limit", "rate exceeded")),
    Rule(Cause.RATE_LIMITED, ("quota exceeded", "ratelimit exceeded", "rate limit exceeded")),
    Rule(Cause.CREDENTIALS_EXPIRED, ("token has expired", "token is expired", "token expired", "expiredtoken")),
    Rule(Cause.CREDENTIALS_EXPIRED, ("credentials have expired", "password has expired", "secret keys … are expired")),
    Rule(
        Cause.TAG_NOT_FOUND,
        (
            "manifest unknown",
            "manifest_unknown",
            "was deleted or has expired",
            "manifest tagged by",
            "manifest for … not found",
            "does not use the ref tag",
        ),
    ),
    Rule(
        Cause.REPOSITORY_NOT_FOUND, ("name_unknown", "name unknown", "name not known to reg", "exist in the registry w")
    ),
    # Harbor's words, which containerd prints as "unknown: …" since it does not know the code.
    Rule(Cause.REPOSITORY_NOT_FOUND, ("unknown: repository … not found", "unknown: project … not found")),
    Rule(Cause.TAG_NOT_FOUND, ("unknown: artifact … not found",)),
    # These end like a missing image, but it is the runtime that lacks something of its own.
    Rule(
        Cause.RUNTIME_ERROR,
        (
            "lease ref: not found",
            "lease … does not exist",
            "snapshotter not loaded",
            "snapshotter ref was not found",
            "no unpack plat",
        ),
    ),
    Rule(Cause.RUNTIME_ERROR, ("sandbox id ref: not found", "container ref: not found")),
    # Behind a name that resolved, the registry lacks a part: its content is not whole.
    Rule(
        Cause.REGISTRY_CONTENT_CORRUPT,
        ("content at … not found", "fetch content descriptor … not found"),
        "the registry lacks a part behind a name it has",
    ),
    Rule(Cause.REGISTRY_ERROR, ("pinging … {404}", "token … {404}", "-token-url>: {404}")),
    Rule(Cause.IMAGE_NOT_FOUND, ("ref: not found", "{404}", "no such image", "code = notfound … failed to pull")),
    Rule(Cause.BLOB_FORBIDDEN, ("<blobs-url>: {403}", "<other-url>: {403}", "only one auth mechanism allowed")),
    Rule(Cause.REGISTRY_ERROR, ("not allowed access",), "the registry's own firewall refuses this node's address"),
    Rule(Cause.AUTH_DENIED, ("incorrect username or pass", "invalid username/pass", "invalid username or pass")),
    Rule(
        Cause.AUTH_DENIED,
        (
            "oauth token … {401}",
            "oauth token … {403}",
            "bad credentials",
            "oauth token … {400}",
            "not authorized to perform",
        ),
    ),
    Rule(
        Cause.AUTH_REQUIRED,
        ("anonymous token … {401}", "anonymous token … {403}"),
        "no credentials were sent; a repository that does not exist can look the same",
    ),
    Rule(Cause.AUTH_REQUIRED, ("no basic auth credentials",), "Harbor says so too of a user without permission"),
    Rule(
        Cause.AUTH_MISSING_OR_DENIED,
        ("access denied", "insufficient_scope", "{401}", "{403}", "unauthorized", "access to the resource is denied"),
        "a private and a missing repository can look alike; trying with and without credentials tells",
    ),
    Rule(
        Cause.AUTH_MISSING_OR_DENIED,
        (
            "authentication required",
            "authentication is required",
            "denied: denied",
            "denied: access",
            "authorization failed",
        ),
    ),
    Rule(Cause.REGISTRY_ERROR, ("{5", "{4", "{3", "registry is unavailable", "registryunavailable", "{200}")),
    Rule(Cause.REGISTRY_ERROR, ("stopped after 10 redirects", "internal server error", "bad gateway")),
    Rule(Cause.REGISTRY_ERROR, ("service unavailable", "gateway timeout")),
    Rule(
        Cause.CONNECTION_INTERRUPTED, ("connection reset", "broken pipe", "unexpected eof", ": eof", "closed network c")
    ),
    Rule(Cause.CONNECTION_INTERRUPTED, ("connection lost", "stream error", "closed idle connection")),
    Rule(Cause.UNPACK_FAILED, ("failed to extract", "failed to unpack", "error unpacking", "failed to register layer")),
    Rule(Cause.UNPACK_FAILED, ("failed to convert whiteout", "insufficient uids", "failed to lchown")),
    Rule(
        Cause.RUNTIME_ERROR, ("too many open files", "cannot allocate memory", "resourceexhausted", "database not open")
    ),
    Rule(Cause.RUNTIME_ERROR, ("failed to inspect image", "imageinspecterror", "received message larger than")),
)

# One flat row a phrase: its first part, which is all that is looked for in nearly every text, its parts, its rule.
_ROWS = tuple((phrase.split(" … ")[0], tuple(phrase.split(" … ")), rule) for rule in RULES for phrase in rule.phrases)


def rule_for(said: str) -> Rule | None:
    """The first rule of the table that the text, as `agent.explain.reading.said` gives it, speaks of."""
    for first, parts, rule in _ROWS:
        if first in said and (len(parts) == 1 or _in_order(parts, said)):
            return rule
    return None


def _in_order(parts: tuple[str, ...], said: str) -> bool:
    at = 0
    for part in parts:
        at = said.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True
