"""Parse the text of a configuration. Repeated keys are errors: YAML loaders silently keep the last value."""

from collections.abc import Iterator
from typing import Any

import yaml

from wsi_mil.errors import ConfigError
from wsi_mil.wording import in_rows

MERGE = "tag:yaml.org,2002:merge"


def yaml_values(text: str, *, where: str) -> Any:
    """Parse a YAML text.

    Args:
        text: one document; JSON is valid YAML.
        where: name of the file, for messages.

    Raises:
        ConfigError: the text is not valid YAML, or keys are repeated; each with its lines.
    """
    try:
        faults = [f"{where}: {fault}" for fault in repeated_keys(text)]
        if not faults:
            return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        line = f"line {at.line + 1}, column {at.column + 1}: " if at else ""
        raise ConfigError([f"cannot read {where}: {line}{' '.join(filter(None, (error.context, error.problem)))}"]) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # a date such as 2024-13-40 is a ValueError
        raise ConfigError([f"cannot read {where}: {' '.join(str(error).split())}"]) from error
    except RecursionError as error:
        raise ConfigError([f"cannot read {where}: blocks are nested too deeply"]) from error
    raise ConfigError(faults)


def repeated_keys(text: str) -> list[str]:
    """Messages about keys that are repeated in one mapping, with their lines. Raises yaml.YAMLError."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    return [] if root is None else list(_repeated(root, "", set()))


def _repeated(node: yaml.Node, path: str, seen: set[int]) -> Iterator[str]:
    """Repeated keys of a node and its descendants; the target of aliases is visited once."""
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _repeated(item, f"{path}{number}.", seen)
        return
    lines: dict[tuple[str, str], list[int]] = {}
    for key, value in node.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else "…"
        if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:  # several merges in one mapping are joined
            lines.setdefault((key.tag, name), []).append(key.start_mark.line + 1)
        yield from _repeated(value, f"{path}{name}.", seen)
    for (_, name), numbers in lines.items():
        if len(numbers) > 1:
            yield f"{path}{name} is set {len(numbers)} times, in {in_rows(numbers, 'line')}: keep one of them, or merge them"
