"""The closed list of causes: the same word in metrics, JSON, logs, events, alerts and docs/causes.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Scope(StrEnum):
    """Where a cause lies, and so who can act on it."""

    IMAGE = "image"
    CREDENTIALS = "credentials"
    REGISTRY = "registry"
    NETWORK = "network"
    TLS = "tls"
    PROXY = "proxy"
    RUNTIME = "runtime"
    DISK = "disk"
    CACHE = "cache"
    NONE = "-"


class Cause(StrEnum):
    """One word for one reason why a pull fails or a cached image is not sound."""

    INVALID_REFERENCE = "invalid_reference"
    IMAGE_NOT_FOUND = "image_not_found"
    REPOSITORY_NOT_FOUND = "repository_not_found"
    TAG_NOT_FOUND = "tag_not_found"
    DIGEST_NOT_FOUND = "digest_not_found"
    PLATFORM_MISMATCH = "platform_mismatch"
    UNSUPPORTED_MANIFEST = "unsupported_manifest"
    AUTH_MISSING_OR_DENIED = "auth_missing_or_denied"
    AUTH_REQUIRED = "auth_required"
    AUTH_DENIED = "auth_denied"
    CREDENTIALS_EXPIRED = "credentials_expired"
    SECRET_MISSING = "secret_missing"
    SECRET_IN_OTHER_NAMESPACE = "secret_in_other_namespace"
    SECRET_MALFORMED = "secret_malformed"
    SECRET_NOT_FOR_REGISTRY = "secret_not_for_registry"
    RATE_LIMITED = "rate_limited"
    REGISTRY_ERROR = "registry_error"
    BLOB_FORBIDDEN = "blob_forbidden"
    REGISTRY_CONTENT_CORRUPT = "registry_content_corrupt"
    DNS_NOT_FOUND = "dns_not_found"
    DNS_FAILURE = "dns_failure"
    CONNECT_REFUSED = "connect_refused"
    CONNECT_TIMEOUT = "connect_timeout"
    CONNECTION_INTERRUPTED = "connection_interrupted"
    PULL_TIMEOUT = "pull_timeout"
    TLS_UNKNOWN_AUTHORITY = "tls_unknown_authority"
    TLS_EXPIRED = "tls_expired"
    TLS_NOT_YET_VALID = "tls_not_yet_valid"
    TLS_NAME_MISMATCH = "tls_name_mismatch"
    TLS_CLIENT_CERTIFICATE = "tls_client_certificate"
    TLS_HANDSHAKE = "tls_handshake"
    HTTP_HTTPS_MISMATCH = "http_https_mismatch"
    CLOCK_SKEW = "clock_skew"
    PROXY_UNREACHABLE = "proxy_unreachable"
    PROXY_AUTH_REQUIRED = "proxy_auth_required"
    PROXY_REFUSED = "proxy_refused"
    PROXY_MISCONFIGURED = "proxy_misconfigured"
    NO_PROXY_GAP = "no_proxy_gap"
    HOSTS_CONFIG_INVALID = "hosts_config_invalid"
    HOSTS_CONFIG_IGNORED = "hosts_config_ignored"
    MIRROR_FAILING = "mirror_failing"
    RUNTIME_UNAVAILABLE = "runtime_unavailable"
    RUNTIME_ERROR = "runtime_error"
    UNPACK_FAILED = "unpack_failed"
    POLICY_BLOCKED = "policy_blocked"
    THROTTLED_LOCALLY = "throttled_locally"
    DISK_FULL = "disk_full"
    DISK_TOO_SMALL = "disk_too_small"
    DISK_READ_ONLY = "disk_read_only"
    CACHE_CORRUPT = "cache_corrupt"
    BLOB_CORRUPT = "blob_corrupt"
    BLOB_TRUNCATED = "blob_truncated"
    BLOB_MISSING = "blob_missing"
    SNAPSHOT_MISSING = "snapshot_missing"
    SNAPSHOT_CORRUPT = "snapshot_corrupt"
    METADATA_BROKEN = "metadata_broken"
    INGEST_STUCK = "ingest_stuck"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a cause says to an operator: a short noun phrase, why it happens, and steps in the order to try them.

    Words in capitals (``IMAGE``, ``HOST``, ``NAMESPACE``, ``NODE`` …) are for the reader to fill in.
    The table of all meanings is `agent.meanings.MEANINGS`.
    """

    scope: Scope
    title: str
    meaning: str
    fix: tuple[str, ...]


# Every cause after its scope, in the order of the enum: `scope_of` walks it once at import.
_FIRST_OF_SCOPE = {
    Cause.INVALID_REFERENCE: Scope.IMAGE,
    Cause.AUTH_MISSING_OR_DENIED: Scope.CREDENTIALS,
    Cause.RATE_LIMITED: Scope.REGISTRY,
    Cause.DNS_NOT_FOUND: Scope.NETWORK,
    Cause.TLS_UNKNOWN_AUTHORITY: Scope.TLS,
    Cause.PROXY_UNREACHABLE: Scope.PROXY,
    Cause.HOSTS_CONFIG_INVALID: Scope.RUNTIME,
    Cause.DISK_FULL: Scope.DISK,
    Cause.CACHE_CORRUPT: Scope.CACHE,
    Cause.UNKNOWN: Scope.NONE,
}


def _scopes() -> dict[Cause, Scope]:
    scope, scopes = Scope.NONE, {}
    for cause in Cause:
        scope = _FIRST_OF_SCOPE.get(cause, scope)
        scopes[cause] = scope
    return scopes


SCOPES: Mapping[Cause, Scope] = MappingProxyType(_scopes())


def scope_of(cause: Cause) -> Scope:
    """Where the cause lies; every cause has exactly one scope."""
    return SCOPES[cause]
