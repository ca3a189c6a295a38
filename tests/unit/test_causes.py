"""The closed list: every cause has its scope, its words and its steps, and the list itself does not drift."""

import ast
import re
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from agent.causes import SCOPES, Cause, Scope, scope_of
from agent.meanings import MEANINGS

AGENT = Path(__file__).resolve().parents[2] / "agent"

# Written out again on purpose: dashboards, alerts and the collector know these words, so a change must be meant.
CONTRACT = {
    Scope.IMAGE: "invalid_reference image_not_found repository_not_found tag_not_found digest_not_found "
    "platform_mismatch unsupported_manifest",
    Scope.CREDENTIALS: "auth_missing_or_denied auth_required auth_denied credentials_expired secret_missing "
    "secret_in_other_namespace secret_malformed secret_not_for_registry",
    Scope.REGISTRY: "rate_limited registry_error blob_forbidden registry_content_corrupt",
    Scope.NETWORK: "dns_not_found dns_failure connect_refused connect_timeout connection_interrupted pull_timeout",
    Scope.TLS: "tls_unknown_authority tls_expired tls_not_yet_valid tls_name_mismatch tls_client_certificate "
    "tls_handshake http_https_mismatch clock_skew",
    Scope.PROXY: "proxy_unreachable proxy_auth_required proxy_refused proxy_misconfigured no_proxy_gap",
    Scope.RUNTIME: "hosts_config_invalid hosts_config_ignored mirror_failing runtime_unavailable runtime_error "
    "unpack_failed policy_blocked throttled_locally",
    Scope.DISK: "disk_full disk_too_small disk_read_only",
    Scope.CACHE: "cache_corrupt blob_corrupt blob_truncated blob_missing snapshot_missing snapshot_corrupt "
    "metadata_broken ingest_stuck",
    Scope.NONE: "unknown",
}
COMMAND = re.compile(
    r"\b(kubectl|crictl|ctr|containerd|systemctl|journalctl|openssl|dig|curl|crane|getent|ip|ping|df|dmesg|timedatectl"
    r"|chronyc|findmnt|docker|skopeo|node-agent|/etc/|/var/lib/|HTTPS_PROXY)"
)


@pytest.mark.parametrize("scope", Scope)
def test_a_scope_holds_exactly_the_causes_of_the_contract(scope: Scope) -> None:
    assert [cause.value for cause in Cause if scope_of(cause) is scope] == CONTRACT[scope].split()


def test_every_cause_has_one_meaning_in_the_order_of_the_list() -> None:
    assert list(MEANINGS) == list(Cause) == list(SCOPES)


@pytest.mark.parametrize("cause", Cause)
def test_a_meaning_has_the_scope_of_its_cause(cause: Cause) -> None:
    assert MEANINGS[cause].scope is scope_of(cause)


@pytest.mark.parametrize("cause", Cause)
def test_a_title_is_a_short_phrase_that_fits_into_a_sentence(cause: Cause) -> None:
    title = MEANINGS[cause].title
    assert 3 <= len(title) <= 70
    assert title[-1] not in ".;:!"
    assert title[0].islower() or title.split()[0].isupper()


@pytest.mark.parametrize("cause", Cause)
def test_a_meaning_is_one_to_three_sentences(cause: Cause) -> None:
    meaning = MEANINGS[cause].meaning
    assert meaning.endswith(".")
    assert 1 <= len(re.findall(r"[.!?](?= [A-Z]|$)", meaning)) <= 3
    assert "  " not in meaning
    assert "\n" not in meaning


@pytest.mark.parametrize("cause", Cause)
def test_a_fix_has_one_to_four_steps_and_something_to_type(cause: Cause) -> None:
    fix = MEANINGS[cause].fix
    assert 1 <= len(fix) <= 4
    assert all(step.strip() == step and "\n" not in step and "  " not in step for step in fix)
    assert any(COMMAND.search(step) for step in fix)


def test_titles_are_all_different() -> None:
    assert len({meaning.title for meaning in MEANINGS.values()}) == len(Cause)


def test_no_step_prints_the_password_of_a_secret() -> None:
    steps = [step for meaning in MEANINGS.values() for step in meaning.fix if "base64 -d" in step]
    assert steps
    assert all("| jq " in step and not step.endswith("jq .") for step in steps)


def test_denied_access_says_that_private_and_missing_look_alike() -> None:
    assert "look alike" in MEANINGS[Cause.AUTH_MISSING_OR_DENIED].meaning


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        MEANINGS[Cause.UNKNOWN] = MEANINGS[Cause.DISK_FULL]  # type: ignore[index] # what the test is about
    with pytest.raises(FrozenInstanceError):
        MEANINGS[Cause.UNKNOWN].title = "x"  # type: ignore[misc] # what the test is about


@pytest.mark.parametrize("file", [AGENT / "causes.py", *sorted((AGENT / "meanings").glob("*.py"))], ids=str)
def test_the_lowest_floor_imports_only_the_standard_library_and_itself(file: Path) -> None:
    nodes = list(ast.walk(ast.parse(file.read_text("utf-8"))))
    names = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    own = ("agent.causes", "agent.meanings")
    assert [name for name in names if name.partition(".")[0] not in sys.stdlib_module_names | {"agent"}] == []
    assert [name for name in names if name.startswith("agent") and not name.startswith(own)] == []
