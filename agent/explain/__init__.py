"""An error text of the kubelet or the runtime → one cause, said in a sentence. Pure: no clock, no files, no network.

The theory: an error of this kind is a chain, ``wrapper: wrapper: reason``, often quoted once more by the kubelet's
back-off, joined from several credentials (``[err1, err2]``), or cut by an event's length. `reading` puts marks in the
place of names, so that nothing which people choose is taken for an answer of a registry; the ordered table in `rules`
then decides, and what it finds is made narrower here only where the text itself allows it.
"""

from dataclasses import dataclass

from agent.causes import Cause, Scope
from agent.explain.reading import Facts, facts_of, said, words_of
from agent.explain.rules import Rule, rule_for
from agent.meanings import MEANINGS


@dataclass(frozen=True, slots=True)
class Explanation:
    """The cause, where it lies, one sentence about this text, and the steps to take."""

    cause: Cause
    scope: Scope
    summary: str
    fix: tuple[str, ...]


def explain(text: str) -> Explanation:
    """The most specific cause that the text proves, else the honest wider one; any text, never an exception.

    Only the first and last 8 KiB of a longer text are read. No credentials of the text reach the summary.
    """
    words = words_of(text)
    plain, facts = said(words), facts_of(words)
    rule = rule_for(plain)
    cause = _narrowed(rule.cause, facts) if rule else Cause.UNKNOWN
    meaning = MEANINGS[cause]
    hint = _hint(rule, cause, facts, plain)
    return Explanation(cause, meaning.scope, _sentence(meaning.title, facts, hint), meaning.fix)


def _narrowed(cause: Cause, facts: Facts) -> Cause:
    """Docker Hub answers 404 only where the repository can be read: a missing one is 401 there (insufficient_scope)."""
    if cause is Cause.TAG_NOT_FOUND or (cause is Cause.IMAGE_NOT_FOUND and _of_hub(facts)):
        return Cause.DIGEST_NOT_FOUND if "@" in facts.image else Cause.TAG_NOT_FOUND
    return cause


def _of_hub(facts: Facts) -> bool:
    first, slash, _ = facts.image.partition("/")
    elsewhere = slash and first != "docker.io" and ("." in first or ":" in first or first == "localhost")
    return bool(facts.image) and not facts.mirrored and not elsewhere


def _hint(rule: Rule | None, cause: Cause, facts: Facts, plain: str) -> str:
    if rule is None:
        return _why_unknown(plain)
    if facts.mirrored:
        # containerd 1.x shows the first error that is no 404, so a mirror's hides what the upstream said.
        return rule.hint or "that host is a mirror, whose error may hide the upstream's (containerd's journal has both)"
    if cause is Cause.IMAGE_NOT_FOUND:
        return "a list of the repository's tags tells whether the tag or the repository is missing"
    return rule.hint


def _why_unknown(plain: str) -> str:
    if "context canceled" in plain:
        return "'context canceled' names only the effect; containerd's journal has the reason before it"
    if "back-off" in plain or "backoff" in plain or "errimagepull" in plain:
        return "it is only the kubelet's wrapper; an earlier event of the pod or containerd's journal has the reason"
    return "containerd's journal of that minute has the whole error"


def _sentence(title: str, facts: Facts, hint: str) -> str:
    named = (
        ("registry host", facts.host),
        ("looked up", facts.name),
        ("name server", facts.nameserver),
        ("address", facts.address),
    )
    where = ", ".join(f"{what} {value}" for what, value in named if value)
    subject = f"{facts.image}: {title}" if facts.image else title[:1].upper() + title[1:]
    return subject + (f" ({where})" if where else "") + (f"; {hint}" if hint else "") + "."
