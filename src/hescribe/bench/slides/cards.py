"""Cards of slide-level tasks: what is told, from which columns, and where slides and labels come from."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Literal

from hescribe.data.toml_file import Record, check_record
from hescribe.errors import InputError
from hescribe.slide.labels import SlideTable

Kind = Literal["classes", "grades", "survival"]
# Metrics of each kind, the main one first, and what chance is of each; None: one over the number of classes.
METRICS: dict[Kind, dict[str, float | None]] = {
    "classes": {"auc": 0.5, "balanced_accuracy": None},
    "grades": {"quadratic_kappa": 0.0, "auc": 0.5, "balanced_accuracy": None},
    "survival": {"c_index": 0.5},
}
TIME, EVENTS = "time", ("event", "censorship")


class SlideTaskCard(Record):
    """Facts about a slide-level task.

    Parameters
    ----------
    name
        Also of its column in the table of labels; of survival the start of ``NAME_time`` and ``NAME_event`` (1 is an
        event) or ``NAME_censorship`` (1 is none).
    title
        For people.
    kind
        Classes, grades (ordered) or survival.
    cohort
        Of the slides.
    told
        Classes or end point, as far as they are known.
    slides, labels
        Where they come from.
    licence, access
        Terms; and whether anybody can get them, or on request, or nobody.
    doubt
        What the sources leave open.
    """

    name: str
    title: str
    kind: Kind
    cohort: str = "your own"
    told: str = ""
    slides: str = ""
    labels: str = ""
    licence: str = "unknown"
    access: Literal["open", "on request", "none"] = "open"
    doubt: str = ""

    def columns(self, table: SlideTable) -> tuple[str, ...]:
        """Return the columns of the task in a table; empty if it has none.

        Raises
        ------
        InputError
            If it has both kinds of column of events.
        """
        if self.kind != "survival":
            return (self.name,) if self.name in table.table else ()
        start = "" if self.name == TIME else f"{self.name}_"
        events = [start + e for e in EVENTS if start + e in table.table]
        if start + TIME not in table.table or not events:
            return ()
        if len(events) > 1:
            raise InputError(f"{table.source} has {events[0]} and {events[1]}, whose 1 are opposite; take one out")
        return start + TIME, events[0]


OWN = (
    SlideTaskCard(name="label", title="classes of a column 'label'", kind="classes"),
    SlideTaskCard(name="grade", title="ordered grades of a column 'grade'", kind="grades"),
    SlideTaskCard(name=TIME, title="survival of the columns 'time' and 'event' or 'censorship'", kind="survival"),
)


@cache
def read_suite() -> dict[str, SlideTaskCard]:
    """Return the twenty tasks of SPADE's paper by name, as far as its code tells them.

    Examples
    --------
    >>> len(read_suite()), read_suite()["camelyon16"].kind
    (20, 'classes')
    """
    content = tomllib.loads((files("hescribe.bench") / "suites" / "spade.toml").read_text(encoding="utf-8"))
    cards = [check_record(task, SlideTaskCard, f"spade.toml, {task.get('name')}") for task in content["task"]]
    return {card.name: card for card in cards}


def find_tasks(table: SlideTable) -> list[SlideTaskCard]:
    """Return the tasks that a table has labels for: those of the suite, and the user's own.

    Raises
    ------
    InputError
        If there is none.
    """
    found = [card for card in (*OWN, *read_suite().values()) if card.columns(table)]
    if not found:
        raise InputError(
            f"{table.source} has no column of a task; name one 'label' (classes), 'grade' (ordered numbers), 'time' "
            "and 'event' (survival), or after a task of hescribe list tasks"
        )
    return found
