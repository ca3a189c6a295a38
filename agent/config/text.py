"""From the text of a settings file to a plain tree; nothing is said about its keys here."""

import tomllib
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from agent.config.scalars import SettingsError

if TYPE_CHECKING:
    import yaml

Kind = Literal["yaml", "toml"]


def read_tree(text: str, kind: Kind) -> object:
    """The top of the tree, None for an empty text. `SettingsError` with the line where the syntax is wrong."""
    try:
        return tomllib.loads(text) if kind == "toml" else _yaml(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"not TOML: {_one_line(str(error))}") from error
    except RecursionError as error:
        raise SettingsError("nested too deeply: no settings file is") from error


def _yaml(text: str) -> object:
    import yaml  # noqa: PLC0415 - a start without a settings file does without it

    try:
        return yaml.load(text, _loader())  # noqa: S506 - a SafeLoader, made stricter
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise SettingsError(f"{where}{_one_line(error.problem or str(error))}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"not YAML: {_one_line(str(error))}") from error
    except ValueError as error:  # from PyYAML's constructors: 2024-13-45 is no date
        raise SettingsError(f"a value that YAML cannot make: {_one_line(str(error))}") from error


@cache
def _loader() -> type["yaml.SafeLoader"]:
    import yaml  # noqa: PLC0415 - as in _yaml

    class Strict(yaml.SafeLoader):
        """Refuses what YAML allows and a settings file never means: doubled keys, and aliases (and so bombs)."""

        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            if self.check_event(yaml.AliasEvent):
                mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
                raise yaml.composer.ComposerError(None, None, "aliases are refused: write the value again", mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
            seen: set[str] = set()
            for key, _ in node.value:
                if key.value in seen if isinstance(key.value, str) else False:
                    problem = f"the key {key.value[:80]} is there twice: keep one of them"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(str(key.value))
            return super().construct_mapping(node, deep=deep)

    return Strict


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
