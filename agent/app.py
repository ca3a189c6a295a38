"""Builds every part by plain calls, opens and closes every connection, and runs one command."""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from agent import __version__
from agent.checks.cache import Verifier
from agent.checks.view import Limits, View
from agent.config import Settings, SettingsError, example, load
from agent.explain import explain
from agent.model import Depth, Diagnosis, Fault, Image, ImageReport, Verdict
from agent.node.ledger import Ledger, LedgerBusy
from agent.registry.credentials import Keyring
from agent.registry.credentials import read as read_credentials
from agent.round import inventory
from agent.round.advice import advice, is_needed
from agent.round.diagnose import diagnose, prove
from agent.round.inventory import layers_are_synced
from agent.round.look import Eyes, look, runtime_of
from agent.round.repair import repair_all
from agent.round.repull import repull, settle
from agent.round.tools import Tools
from agent.round.verify import bytes_of, select, store_of, unknown, verify, verify_ingests
from agent.runtime.blobs import Budget
from agent.sinks import document
from agent.sinks.terminal import Terminal, progress, pull_progress, verify_progress

AGENT = f"node-agent/{__version__}"
OK, BAD, UNKNOWN = 0, 1, 3
DEADLINE = 30.0


class UsageError(Exception):
    """What the caller has to change, in one line."""


def start(options: argparse.Namespace) -> int:
    """Run the command that was parsed. Raises `UsageError`."""
    match options.command:
        case "explain":
            return _explain(options.text, json_wanted=options.output == "json")
        case "config check":
            return _check_config(options.file)
        case "config example":
            sys.stdout.write(example())
            return OK
    settings = _settings(options)
    commands = {
        "diagnose": _diagnose,
        "verify": _verify,
        "repair": _repair,
        "repull": _repull,
        "node": _node,
        "run": _run,
    }
    # diagnose keeps its own deadline, so that it can tell what it knows by then; the daemon has none
    limit = None if options.command in {"diagnose", "run"} else options.timeout
    return asyncio.run(_guarded(commands[options.command](options, settings), limit))


async def _guarded(command: Coroutine[None, None, int], limit: float | None) -> int:
    """A fault that stops a whole command is its answer: one line, and "could not tell"."""
    try:
        async with asyncio.timeout(limit):
            return await command
    except TimeoutError:
        print(f"node-agent: not done within {limit:g} s", file=sys.stderr)  # noqa: T201 - the contract
        return UNKNOWN
    except Fault as fault:
        print(f"node-agent: {fault.cause}: {fault.detail}", file=sys.stderr)  # noqa: T201 - the contract
        return UNKNOWN
    except LedgerBusy as busy:
        print(f"node-agent: {busy}: try again when it is done", file=sys.stderr)  # noqa: T201 - the contract
        return UNKNOWN


def _settings(options: argparse.Namespace) -> Settings:
    try:
        return load(options.config)
    except SettingsError as error:
        raise UsageError(str(error)) from None


@asynccontextmanager
async def _eyes(options: argparse.Namespace, settings: Settings) -> AsyncIterator[Eyes]:
    """What looking at the node takes; the channel to the runtime is opened when it is first used."""
    root = options.host_root or (Path(settings.host_root) if settings.host_root else None)
    eyes = Eyes(
        endpoint=options.runtime_endpoint or settings.runtime.endpoint,
        timeout=min(settings.runtime.timeout, options.timeout or DEADLINE),
        host_root=root,
        agent=AGENT,
        limits=Limits(connect=settings.connect.timeout, dns=settings.dns.timeout, pull=settings.repair.pull_timeout),
    )
    try:
        yield eyes
    finally:
        await eyes.close()


def _keyring(path: Path | None) -> Keyring:
    if path is None:
        return Keyring()
    try:
        content = path.read_bytes()
        return read_credentials(content, flat=b'"auths"' not in content)
    except OSError as error:
        raise UsageError(f"--auth-file {path}: {error.strerror}") from None
    except Fault as fault:
        raise UsageError(f"--auth-file {path}: {fault.detail}") from None


def _explain(text: str | None, *, json_wanted: bool) -> int:
    terminal = Terminal()
    texts = [text] if text is not None else (line.rstrip("\n").replace("\\n", "\n") for line in sys.stdin)
    for each in texts:
        found = explain(each)
        if json_wanted:
            sys.stdout.write(document.explanation(found) + "\n")
        else:
            terminal.explanation(found)
    return OK


def _check_config(path: Path) -> int:
    try:
        load(path)
    except SettingsError as error:
        raise UsageError(str(error)) from None
    sys.stdout.write(f"{path}: ok\n")
    return OK


async def _diagnose(options: argparse.Namespace, settings: Settings) -> int:
    keyring = _keyring(options.auth_file)
    as_text = options.output == "text"
    terminal = Terminal()
    tell = terminal.diagnosis if as_text and not options.pull else _tell_nobody
    async with _eyes(options, settings) as eyes:
        view = await look(eyes)
        found = await diagnose(view, options.images, keyring, options.timeout or DEADLINE, tell)
        if options.pull:
            found = tuple([await _proved(view, diagnosis, keyring) for diagnosis in found])
    if not as_text:
        sys.stdout.writelines(document.diagnoses(found))
    elif options.pull:
        for diagnosis in found:
            terminal.diagnosis(diagnosis)
    return _status(diagnosis.verdict for diagnosis in found)


async def _proved(view: View, diagnosis: Diagnosis, keyring: Keyring) -> Diagnosis:
    with pull_progress(f"pulling {diagnosis.image}") as seen:
        return await prove(view, diagnosis, keyring, seen)


def _tell_nobody(_: Diagnosis) -> None:
    """The diagnoses are shown when all are there."""


async def _verify(options: argparse.Namespace, settings: Settings) -> int:
    began = asyncio.get_running_loop().time()
    names = _names(options.images)
    async with _eyes(options, settings) as eyes:
        store = store_of(await runtime_of(eyes))
        images = select(await store.cached(), names)
        total = await bytes_of(store, images, Depth(options.depth))
        with Budget(settings.verify.bytes_per_second) as budget, verify_progress(total, len(images)) as (seen, done):
            async with Verifier(store, budget, settings.verify.concurrency, seen) as verifier:
                reports = await verify(verifier, images, Depth(options.depth), done)
                stuck = () if names else await verify_ingests(verifier)
        advised = advice(syncs_layers=layers_are_synced(await look(eyes))) if is_needed(reports) else ()
    seconds = asyncio.get_running_loop().time() - began
    return _show(options, (*reports, *stuck), budget.spent, seconds, advised)


def _names(names: Iterable[str]) -> tuple[str, ...]:
    """The names as they are; a reference that does not parse is wrong usage."""
    found = tuple(names)
    try:
        select((), found)
    except Fault as fault:
        raise UsageError(fault.detail) from None
    return found


async def _repair(options: argparse.Namespace, settings: Settings) -> int:
    began = asyncio.get_running_loop().time()
    names = _names(options.images)
    async with _eyes(options, settings) as eyes, _tools(options, settings, eyes) as (tools, budget):
        images = select(await tools.store.cached(), names)
        reports = await verify(tools.verifier, images, Depth.FULL)
        stuck = () if names else await verify_ingests(tools.verifier)
        mended = await repair_all(tools, (*reports, *stuck), dry=options.dry_run)
        advised = advice(syncs_layers=layers_are_synced(tools.view)) if is_needed(reports) else ()
    return _show(options, mended, budget.spent, asyncio.get_running_loop().time() - began, advised)


async def _repull(options: argparse.Namespace, settings: Settings) -> int:
    began = asyncio.get_running_loop().time()
    names = _names(options.images)
    async with _eyes(options, settings) as eyes, _tools(options, settings, eyes) as (tools, budget):
        reports = tuple([await _repulled(tools, name) for name in dict.fromkeys(names)])
    _show(options, reports, budget.spent, asyncio.get_running_loop().time() - began)
    return OK if all(report.verdict is Verdict.OK for report in reports) else BAD


async def _repulled(tools: Tools, name: str) -> ImageReport:
    """A runtime that goes away in the middle of one image is that image's answer; the others are told all the same."""
    try:
        return await repull(tools, name, await tools.store.cached())
    except Fault as fault:
        return unknown(Image(id="", names=(name,), blobs=()), fault)


@asynccontextmanager
async def _tools(options: argparse.Namespace, settings: Settings, eyes: Eyes) -> AsyncIterator[tuple[Tools, Budget]]:
    """What mending takes, with the debts of earlier runs paid."""
    keyring = _keyring(options.auth_file)
    view = await look(eyes)
    store = store_of(view.runtime)
    ledger_file = Path(settings.state_dir) / "ledger.json"
    with (
        Budget(settings.verify.bytes_per_second) as budget,
        Ledger(ledger_file) as ledger,
        pull_progress("pulling") as seen,
        progress("reading", None, delay=0.5) as read,
    ):
        async with Verifier(store, budget, settings.verify.concurrency, read) as verifier:
            replace_files = settings.repair.in_use == "replace-files"
            tools = Tools(view, ledger, keyring, verifier, options.timeout or DEADLINE, seen, replace_files)
            await settle(tools, lambda text: print(f"node-agent: {text}", file=sys.stderr))  # noqa: T201 - stderr
            yield tools, budget


async def _node(options: argparse.Namespace, settings: Settings) -> int:
    async with _eyes(options, settings) as eyes:
        view = await look(eyes)
        found = inventory.of(view, eyes.endpoint)
    if options.output == "json":
        sys.stdout.write(document.inventory(found) + "\n")
    else:
        for title, values in found.items():
            Terminal().pairs(title, inventory.rows(values))
    return OK


async def _run(options: argparse.Namespace, settings: Settings) -> int:
    from agent.daemon import Daemon  # noqa: PLC0415 - structlog and prometheus_client, which no other command needs

    async with _eyes(options, settings) as eyes:
        daemon = Daemon(settings, eyes, __version__)
        if not options.once:
            return await daemon.run()
        report = await daemon.once()
    if options.output == "json":
        sys.stdout.write(document.report(report) + "\n")
    else:
        Terminal().round(report)
    return _status([finding.verdict for finding in report.findings] + [each.verdict for each in report.diagnoses])


def _show(
    options: argparse.Namespace,
    reports: tuple[ImageReport, ...],
    count: int,
    seconds: float,
    advised: tuple[str, ...] = (),
) -> int:
    if options.output == "json":
        sys.stdout.write(document.images(reports, count, seconds, advised) + "\n")
    else:
        Terminal().images(reports, count, seconds, advised)
    return _status(report.verdict for report in reports)


def _status(verdicts: Iterable[Verdict]) -> int:
    found = set(verdicts)
    return BAD if Verdict.BAD in found else UNKNOWN if Verdict.UNKNOWN in found else OK
