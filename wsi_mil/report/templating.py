"""Templates of the pages, and what all of them can use."""

from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jinja2
import yaml

from wsi_mil.report.model_page import model_summary
from wsi_mil.report.survival import p_text
from wsi_mil.report.task_report import decimals
from wsi_mil.wording import digits


def render(template: str, **values: Any) -> str:
    """Return a page as HTML."""
    return _environment().get_template(template).render(**values)


def signed(value: float | None) -> str:
    """Format a signed difference to three decimals; zero has no sign."""
    if value is None or value != value:
        return "–"
    return f"{value:+.3f}".replace("-", "−") if round(value, 3) else "0.000"


def yaml_text(settings: Any) -> str:
    """Return settings as YAML, in their own order."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of installed packages; Snakemake is missing if a report is made without it."""
    versions = {}
    for name in names:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


@cache
def _environment() -> jinja2.Environment:
    loader = jinja2.PackageLoader("wsi_mil.report", "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"figure": decimals, "digits": digits, "p_text": p_text, "signed": signed, "yaml": yaml_text}
    environment.globals["model_summary"] = model_summary
    return environment
