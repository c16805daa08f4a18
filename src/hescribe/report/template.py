"""Templates of the HTML pages: everything that comes from data is escaped, and nothing may be missing."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def template_environment() -> Environment:
    """Return the templates of this folder."""
    return Environment(
        loader=PackageLoader("hescribe", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
