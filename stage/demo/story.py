"""The story in order: why images cannot be pulled, what is damaged in the cache, how it is mended, the daemon."""

import json
import shutil
from collections.abc import Sequence
from http import HTTPStatus
from urllib.request import urlopen

from stage.demo.scene import BUSY, CONFIG, HEALTHY, NOWHERE, OUTSIDE, PORT, PRIVATE, PROXY, Scene
from stage.demo.teller import Background, Teller

OK, BAD = 0, 1
GRACE = 5.0
"""Seconds within which the daemon ends cleanly."""

WEB, CART, SEARCH = (f"{HEALTHY}/shop/{name}:1.4" for name in ("web", "cart", "search"))

# What cannot be pulled: why it is shown, the image, and the words that the answer must hold.
FAILURES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("A tag that nobody pushed.", f"{HEALTHY}/shop/web:1.5", ("tag_not_found",)),
    (
        "A registry with a private CA of which nobody told this node.",
        f"{PRIVATE}/shop/web:1.4",
        ("tls_unknown_authority",),
    ),
    (
        "A registry that limits the rate: asking again would only make it worse.",
        f"{BUSY}/shop/web:1.4",
        ("rate_limited", "429"),
    ),
    (
        "A registry behind the proxy that containerd was started with, which refuses it.",
        f"{OUTSIDE}/shop/web:1.4",
        ("proxy_refused", PROXY),
    ),
    ("A registry whose name does not resolve on this node.", f"{NOWHERE}/shop/web:1.4", ("dns_not_found",)),
)


def tell(scene: Scene, teller: Teller) -> None:
    """All steps; `MismatchError` at the first that does not do what it should."""
    teller.say(f"{CONFIG} says where that containerd's socket is, and where the agent keeps what it has to remember.")
    _node(teller)
    _diagnose(scene, teller)
    _cache(scene, teller)
    _daemon(teller)


def _agent(*arguments: str) -> Sequence[str]:
    command, *rest = arguments
    return ["node-agent", command, "--config", CONFIG, *rest]


def _node(teller: Teller) -> None:
    teller.run(
        "What would this node use for a pull? Proxies and CAs count as containerd has them, not as your shell does.",
        _agent("node"),
        status=OK,
        words=("containerd", f"{PROXY}:3128", HEALTHY),
    )


def _diagnose(scene: Scene, teller: Teller) -> None:
    teller.run(
        "An image that can be pulled: every step on the way to it, with its time.",
        _agent("diagnose", WEB),
        status=OK,
        words=("ok", WEB),
    )
    for why, image, words in FAILURES:
        teller.run(why, _agent("diagnose", image), status=BAD, words=(image, *words))
    teller.run(
        "Only an error text at hand? This one is what containerd said when it was asked to pull from there just now.",
        ["node-agent", "explain", scene.refusal(f"{PRIVATE}/shop/web:1.4")],
        status=OK,
        words=("tls_unknown_authority",),
    )


def _cache(scene: Scene, teller: Teller) -> None:
    teller.run("Three images are cached here. Are they what their digests say?", _agent("verify"), status=OK)
    scene.damage()
    teller.say(
        "Now bytes of shop/cart are changed on the disk, shop/search loses its end, and a file of shop/web that "
        "containers read is empty, as after a power cut."
    )
    teller.pipe(
        "containerd's own check sees nothing of it: it only looks whether the files are there.",
        "ctr --address node/c.sock --namespace k8s.io images check | awk '/:1.4 / {print $1, $4, $5}'",
        words=(f"{WEB} complete", f"{CART} complete", f"{SEARCH} complete"),
    )
    teller.run(
        "Every cached blob is read again, and every unpacked file beside its layer: what is damaged, and how?",
        _agent("verify"),
        status=BAD,
        words=(CART, "blob_corrupt", SEARCH, "blob_truncated", WEB, "snapshot_corrupt", "etc/web.conf"),
    )
    teller.run(
        "Mend it: damaged blobs once the registry is known to have good copies, unpacked files from the blobs here.",
        _agent("repair"),
        status=OK,
        words=(f"fetch {CART}: done", f"fetch {SEARCH}: done", f"rebuild {WEB}: done"),
    )
    teller.run("The proof: all are sound again.", _agent("verify"), status=OK, words=("3 of 3 images sound",))
    teller.run(
        "A fresh copy of one image on demand: evict, pull, verify; the old copy is kept until the new one is proved.",
        _agent("repull", WEB),
        status=OK,
        words=(WEB, "done"),
    )


def _daemon(teller: Teller) -> None:
    command = _agent("run")
    teller.announce("The daemon, as it runs on every node: it probes the registries and serves metrics.", _job(command))
    with Background(teller, *command) as daemon:
        daemon.wait_for(_ready, "it to be ready once its first round is done")
        teller.pipe(
            "What Prometheus gets of it: which registries this node can reach, and why not the others.",
            f"{_fetch()} | grep -E '^node_agent_(runtime_up|probe_success|probe_failures_total)'",
            words=(
                "node_agent_runtime_up 1.0",
                f'node_agent_probe_success{{registry="{HEALTHY}"}} 1.0',
                f'node_agent_probe_failures_total{{cause="tls_unknown_authority",registry="{PRIVATE}"}} 1.0',
                f'node_agent_probe_failures_total{{cause="dns_not_found",registry="{NOWHERE}"}} 1.0',
            ),
        )
        _stop(teller, daemon)


def _job(command: Sequence[str]) -> str:
    return f"{' '.join(command)} &"


def _ready() -> bool:
    try:
        with urlopen(f"http://localhost:{PORT}/readyz", timeout=5) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except OSError:  # not listening yet, or 503: not ready yet
        return False


def _fetch() -> str:
    url = f"localhost:{PORT}/metrics"
    if shutil.which("curl"):
        return f"curl -sS {url}"
    code = f"import urllib.request as r; print(r.urlopen('http://{url}').read().decode())"
    return f'python3 -c "{code}"'


def _stop(teller: Teller, daemon: Background) -> None:
    teller.announce("It ends when it is asked to, and each round left one sentence in its log.", "kill %1; wait %1")
    status, seconds = daemon.terminate(GRACE)
    for line in daemon.log.splitlines():
        teller.output(_sentence(line))
    if status != OK:
        raise teller.mismatch("wait %1", "exit status 0", f"it was {status}")
    teller.output(f"(ended {seconds:.1f} s after SIGTERM, exit status {status})")


def _sentence(line: str) -> str:
    """What a person reads in a line of the JSON log."""
    if not line.startswith("{"):
        return line
    record = json.loads(line)
    return f"{record['timestamp'][11:19]} {record['level']:<8}{record['event']}"
