"""Templates of the HTML pages: everything that comes from data is escaped, and nothing may be missing."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from hescribe.report.table import format_number


def template_environment() -> Environment:
    """Return the templates of this folder, with the filter ``number``."""
    environment = Environment(
        loader=PackageLoader("hescribe", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format_number
    return environment
