"""Writes the pages of this folder that are generated from the code: ``python docs/generate.py [--check]``.

A page is one function and one entry in ``PAGES``. ``--check`` writes nothing and ends with 1 and one line on stderr
when a page is not what the code says.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))  # so that it runs from a checkout that is not installed

from agent.causes import Cause, Scope  # noqa: E402 - needs the line above
from agent.config import markdown  # noqa: E402 - needs the line above
from agent.meanings import MEANINGS  # noqa: E402 - needs the line above


def causes() -> str:
    """The page of causes: a list by scope, then one section a cause."""
    return "\n".join([*_list_of_causes(), *_sections_of_causes()])


def _list_of_causes() -> Iterator[str]:
    yield "# Causes"
    yield ""
    yield "The closed list of reasons why a pull fails or a cached image is not sound. The same word stands in metrics,"
    yield "JSON, logs, events and alerts; events and conditions write it in CamelCase. Generated from `agent/meanings`"
    yield "by `python docs/generate.py`: change it there."
    yield ""
    yield "| scope | causes |"
    yield "|---|---|"
    for scope in Scope:
        of_scope = (cause for cause in Cause if MEANINGS[cause].scope is scope)
        yield f"| {_shown(scope)} | {' '.join(f'[`{cause}`](#{cause})' for cause in of_scope)} |"


def _sections_of_causes() -> Iterator[str]:
    for cause, told in MEANINGS.items():
        yield ""
        yield f"## {cause}"
        yield ""
        yield f"*{told.title[:1].upper() + told.title[1:]}* (scope: {_shown(told.scope)})"
        yield ""
        yield _escaped(told.meaning)
        yield ""
        yield "```text"  # as it is, so that a command can be copied from the page or from the file
        yield from (f"{number}. {step}" for number, step in enumerate(told.fix, 1))
        yield "```"
    yield ""


def _shown(scope: Scope) -> str:
    return "none" if scope is Scope.NONE else str(scope)


def _escaped(text: str) -> str:
    """So that ``*.io`` and ``<host>`` are shown, not read as markup."""
    return text.replace("*", "\\*").replace("<", "\\<")


PAGES: Mapping[str, Callable[[], str]] = {"causes.md": causes, "settings.md": markdown}


def stale() -> list[str]:
    """The pages whose file differs from what the code says, or is not there."""
    files = {name: FOLDER / name for name in PAGES}
    return [name for name, file in files.items() if not file.is_file() or file.read_text("utf-8") != PAGES[name]()]


def main() -> int:
    """0 when all is written or current, 1 when ``--check`` found a stale page."""
    parser = argparse.ArgumentParser(description="Write the pages of docs/ that are generated from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page is stale")
    old = stale()
    if parser.parse_args().check:
        if old:
            sys.stderr.write(f"stale: {', '.join(f'docs/{name}' for name in old)}; run python docs/generate.py\n")
        return 1 if old else 0
    for name in old:
        (FOLDER / name).write_text(PAGES[name](), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
