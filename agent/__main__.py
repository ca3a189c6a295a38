"""node-agent: arguments and exit codes, nothing else."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

from agent import __version__

USAGE_ERROR = 2

EPILOG = """\
examples:
  node-agent diagnose registry.example/app:1.2        why can this node not pull it?
  node-agent explain "failed to resolve reference …"  what does this error mean?
  node-agent verify                                   is what is cached here sound?
  node-agent repair --dry-run                         what would be mended?
  node-agent run --config /etc/node-agent.yaml        the daemon: probes, and /metrics on :9100

exit status: 0 all is well · 1 a cause was found · 2 wrong usage or settings · 3 could not tell
"""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error of the program."""

    def error(self, message: str) -> NoReturn:
        """One line on stderr and status 2."""
        self.exit(USAGE_ERROR, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and answer its exit status."""
    options = parser().parse_args(arguments)
    if not hasattr(options, "command"):
        parser().error("say what to do: run, diagnose, explain, verify, repair, repull, node or config")
    from agent import app  # noqa: PLC0415 - --version and --help answer without gRPC being loaded

    try:
        return app.start(options)
    except app.UsageError as error:
        print(f"node-agent: {error}", file=sys.stderr)  # noqa: T201 - the contract: one line on stderr
        return USAGE_ERROR
    except BrokenPipeError:  # whoever read our answer has seen enough: nothing more is written, not even by Python
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def parser() -> Parser:
    """The whole command line."""
    top = Parser(
        prog="node-agent",
        description="Finds out why this node cannot pull an image, verifies the cached images, and mends them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"node-agent {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    _add_run(commands)
    _add_diagnose(commands)
    _add_explain(commands)
    _add_cache_commands(commands)
    _add_node(commands)
    _add_config(commands)
    return top


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001 - the only name that the type has


def _add_run(commands: Commands) -> None:
    run = _command(commands, "run", "the daemon: probes registries, serves /metrics, /healthz and /readyz")
    run.add_argument("--once", action="store_true", help="run one full round, print its report and end")


def _add_diagnose(commands: Commands) -> None:
    diagnose = _command(commands, "diagnose", "why can this node not pull these images?")
    diagnose.add_argument("images", nargs="+", metavar="IMAGE", help="as in a pod's spec, such as nginx:1.27")
    diagnose.add_argument(
        "--pull",
        action="store_true",
        help="prove it by a pull through the runtime; what was not cached is removed again",
    )
    _add_auth_file(diagnose)


def _add_explain(commands: Commands) -> None:
    explain = commands.add_parser("explain", help="what does this error text mean?", description=(
        "Names the cause behind an error text of the kubelet, containerd or CRI-O. "
        "Without TEXT, reads one text a line from stdin (line breaks inside a text as \\n) and answers each in order."
    ))  # fmt: skip
    explain.set_defaults(command="explain")
    explain.add_argument("text", nargs="?", metavar="TEXT")
    _add_output(explain)


def _add_cache_commands(commands: Commands) -> None:
    verify = _command(commands, "verify", "are the cached images what their digests say, down to the unpacked files?")
    verify.add_argument("images", nargs="*", metavar="IMAGE", help="all cached images when none is named")
    verify.add_argument(
        "--depth", choices=("quick", "blobs", "full"), default="full",
        help="quick: records, sizes and the number of unpacked files; blobs: also the digest of every blob; "
        "full (default): also every unpacked layer against its blob, by content",
    )  # fmt: skip
    repair = _command(commands, "repair", "verify, mend what is corrupt, verify again")
    repair.add_argument("images", nargs="*", metavar="IMAGE", help="all cached images when none is named")
    repair.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    repull = _command(commands, "repull", "force a fresh copy: evict, pull, verify")
    repull.add_argument("images", nargs="+", metavar="IMAGE")
    _add_auth_file(repair)
    _add_auth_file(repull)


def _add_node(commands: Commands) -> None:
    _command(commands, "node", "what this node would use: runtime, proxies, resolvers, mirrors, trust store, disk")


def _add_config(commands: Commands) -> None:
    config = commands.add_parser("config", help="work with a settings file")
    actions = config.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser, required=True)
    check = actions.add_parser("check", help="say what is wrong in a settings file, by key")
    check.set_defaults(command="config check")
    check.add_argument("file", type=Path, metavar="FILE")
    example = actions.add_parser("example", help="print a settings file with every key, its default and meaning")
    example.set_defaults(command="config example")


def _command(commands: Commands, name: str, help_text: str) -> argparse.ArgumentParser:
    """A command with the flags that all commands have which look at the node."""
    command = commands.add_parser(name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}")
    command.set_defaults(command=name)
    command.add_argument("--config", type=Path, metavar="F", help="settings file (YAML or TOML)")
    command.add_argument(
        "--runtime-endpoint", metavar="SOCKET", help="such as unix:///run/containerd/containerd.sock (found by itself)"
    )
    command.add_argument(
        "--host-root", type=Path, metavar="DIR", help="where the node's files are (as containerd sees them)"
    )
    command.add_argument(
        "--timeout", type=_seconds, metavar="S", help="seconds for the whole of it (diagnose: 30 if not given)"
    )
    _add_output(command)
    return command


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument("--output", choices=("text", "json"), default="text", help="for people or for programs")


def _add_auth_file(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--auth-file", type=Path, metavar="F", help="credentials: a docker config.json, or a pull secret's content"
    )


def _seconds(text: str) -> float:
    try:
        value = float(text.removesuffix("s"))
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, such as 30")
    return value


if __name__ == "__main__":
    sys.exit(main())
