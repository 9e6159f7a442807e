"""Validate values as settings; report all faults together, with the nearest known key for an unknown one."""

import difflib
import json
import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from wsi_mil.config.models import MHIM, BaseModelSettings, Model
from wsi_mil.config.settings import Settings
from wsi_mil.config.stages import BagUnit, Config, Protocol
from wsi_mil.config.targets import KINDS, Target
from wsi_mil.config.training import CurveLog, KeepGB, Train
from wsi_mil.errors import ConfigError

T = TypeVar("T", bound=Settings)

PLACEHOLDERS = {
    "cohort": "cohort.csv",
    "targets": {"t": {"kind": "classes", "classes": ["a", "b"]}},
    "models": {"m": {"model": "abmil"}},
}
"""Valid values for required blocks, used in place of blocks with faults."""

NO_TEXT = ("yes", "no", "on", "off", "true", "false", "null", "y", "n")
"""Words that YAML does not read as text."""


def parse_settings(model: type[T], values: object, *, where: str = "") -> T:
    """Validate values as settings.

    Raises:
        ConfigError: lists every fault with its key; for an unknown key, with the nearest known one.
    """
    parsed: T = _parse(model, values, where)
    return parsed


def valid_part(values: Mapping[str, object]) -> tuple[Config, set[str]]:
    """Return the valid part of a configuration that has faults, so that the sheet can be checked with it.

    Returns:
        A configuration with the valid blocks, and defaults or placeholders in place of the others; and the keys whose values
        are the user's. A missing block has its default, unless an unknown key may be a misspelling of its name.
    """
    trusted_keys = set[str]()
    valid_values = dict[str, object](PLACEHOLDERS)
    unknown = [str(key) for key in values if key not in Config.model_fields]
    for key in Config.model_fields:
        if key in values and _is_valid({**PLACEHOLDERS, key: values[key]}):
            valid_values[key] = values[key]
            trusted_keys.add(key)
        elif key not in values and key not in PLACEHOLDERS and not difflib.get_close_matches(key, unknown, n=1, cutoff=0.5):
            trusted_keys.add(key)
    return parse_settings(Config, valid_values), trusted_keys


def parse_model(values: object, *, where: str = "") -> Model:
    """Validate an entry of `models`. Raises ConfigError."""
    parsed: Model = _parse(Model, values, where)
    return parsed


def parse_target(values: object, *, where: str = "") -> Target:
    """Validate an entry of `targets`. Raises ConfigError."""
    parsed: Target = _parse(Target, values, where)
    return parsed


def parse_base(values: object, *, where: str = "") -> BaseModelSettings:
    """Validate the settings of a model that has no base model. Raises ConfigError."""
    parsed = parse_model(values, where=where)
    if isinstance(parsed, MHIM):
        raise ConfigError([f"{where}model: expected a model without a base model, got 'mhim'"])
    return parsed


def parse_bag(value: str) -> BagUnit:
    """Validate the unit of a bag: slide or patient. Raises ConfigError."""
    unit: BagUnit = _parse(BagUnit, value, "bag: ")
    return unit


def parse_protocol(value: str) -> Protocol:
    """Validate the protocol by which epoch and threshold are chosen. Raises ConfigError."""
    protocol: Protocol = _parse(Protocol, value, "protocol: ")
    return protocol


def parse_keep_gb(value: str) -> KeepGB:
    """Validate the bound on features kept in memory: auto or GB. Raises ConfigError."""
    return parse_settings(Train, {"keep_gb": value}).keep_gb


def parse_curve_log(value: str) -> CurveLog:
    """Validate where training curves are shown: none or tensorboard. Raises ConfigError."""
    return parse_settings(Train, {"log": value}).log


def _parse(kind: Any, values: object, where: str) -> Any:
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        errors = [dict(e) for e in error.errors()]
        raise ConfigError([where + _fault(kind, e) for e in errors if not _is_consequence(e, errors)]) from error


def nearest(name: str, known: list[str]) -> str:
    """Return "; did you mean …?" for a misspelt name, or the list of known names."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}" if known else ""


def _is_valid(values: Mapping[str, object]) -> bool:
    try:
        parse_settings(Config, values)
    except ConfigError:
        return False
    return True


def _is_consequence(error: dict[str, Any], errors: list[dict[str, Any]]) -> bool:
    """Whether a list is too short only because its items have faults, or a key is missing only because it is misspelt."""
    depth = len(error["loc"])
    if error["type"] == "missing":
        if error["loc"] == ("targets",) and any(_is_former(e) for e in errors):
            return True
        beside = [str(e["loc"][-1]) for e in errors if e["type"] == "extra_forbidden" and e["loc"][:-1] == error["loc"][:-1]]
        return bool(difflib.get_close_matches(str(error["loc"][-1]), beside, n=1, cutoff=0.6))
    return error["type"] == "too_short" and any(e["loc"][:depth] == error["loc"] and e is not error for e in errors)


def _fault(kind: Any, error: dict[str, Any]) -> str:
    loc, inner = _walk(kind, [str(part) for part in error["loc"] if part != "[key]"])
    key = ".".join(loc) or "configuration"
    if _is_former(error) and kind is Config:
        return _how_to_write(error["input"])
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key{nearest(loc[-1], list(getattr(inner, 'model_fields', {})))}"
    if error["type"] == "missing":
        return f"{key}: missing"
    if error["type"] in ("union_tag_not_found", "union_tag_invalid"):
        return _fault_of_tag(loc, error)
    message = error["msg"].removeprefix("Value error, ")
    got = "" if isinstance(error["input"], dict) else f", got {error['input']!r}"
    hint = ""
    if error["type"] == "literal_error":
        expected = error["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        hint = nearest(str(error["input"]), expected)
    return f"{key}: {message}{got}{hint}"


def _fault_of_tag(loc: list[str], error: dict[str, Any]) -> str:
    """Fault of the key that says which member of a union is meant: missing, or of no member."""
    tag = error["ctx"]["discriminator"].strip("'")
    key = ".".join([*loc, tag])
    if error["type"] == "union_tag_not_found":
        return f"{key}: missing{nearest('', list(KINDS)) if tag == 'kind' else ''}"
    known = error["ctx"]["expected_tags"].replace("'", "").split(", ")
    return f"{key}: no {tag} {error['ctx']['tag']!r}{nearest(error['ctx']['tag'], known)}"


def _is_former(error: dict[str, Any]) -> bool:
    """Whether the fault is the key `classes`, which `targets` has replaced."""
    return (error["type"], error["loc"]) == ("extra_forbidden", ("classes",))


def _how_to_write(classes: object) -> str:
    """Fault of a configuration with `classes`: the same as a target."""
    names = list(classes) if isinstance(classes, list | tuple) else []
    are_names = names and all(isinstance(name, str | int) and not isinstance(name, bool) for name in names)
    listed = ", ".join(map(_in_yaml, names if are_names else ["negative", "positive"]))
    return (
        f"classes: has become targets; write targets: {{label: {{kind: classes, column: label, classes: [{listed}]}}}}"
        " in its place, where the first `label` is a name of your choice and the second the column of the sheet"
    )


def _in_yaml(name: str | int) -> str:
    """A class name in YAML, in quotes where it would be read as something else."""
    is_plain = isinstance(name, str) and re.fullmatch(r"[^\W\d][\w-]*", name) and name.casefold() not in NO_TEXT
    return str(name) if is_plain or isinstance(name, int) else json.dumps(name, ensure_ascii=False)


def _walk(kind: Any, loc: list[str]) -> tuple[list[str], Any]:
    """Key of a pydantic location, without the names pydantic adds for members of a union, and the model that contains it."""
    key = []
    inside = kind
    for part in loc:
        members = _members(kind)
        if len(members) > 1:
            kind = next((m for m in members if part in get_args(m.model_fields[_tag_of(m)].annotation)), None)
            continue
        key.append(part)
        inside, kind = kind, _inside(kind, part)
    return key, inside


def _members(kind: Any) -> tuple[Any, ...]:
    """Members of a union of settings that is discriminated by `model` or `kind`."""
    return tuple(m for m in get_args(_bare(kind)) if isinstance(m, type) and issubclass(m, Settings) and _tag_of(m))


def _tag_of(settings: type[Settings]) -> str:
    """Key that says which member of a union is meant, or ""."""
    return next((key for key in ("model", "kind") if key in settings.model_fields), "")


def _inside(kind: Any, part: str) -> Any:
    kind = _bare(kind)
    if isinstance(kind, type) and issubclass(kind, Settings):
        field = kind.model_fields.get(part)
        return _without_none(field.annotation) if field else None
    return get_args(kind)[1] if get_origin(kind) is dict else None


def _bare(kind: Any) -> Any:
    """The type inside `Annotated`."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType) and type(None) in get_args(kind):
        return next(k for k in get_args(kind) if k is not type(None))
    return kind
