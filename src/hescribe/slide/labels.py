"""The table of labels: a row a slide, with its donor, its site, and what it is to be told from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hescribe.errors import DataAccessError, FormatError, InputError
from hescribe.slide.targets import Classes, Survival

SLIDE, DONOR, SITE = "slide", "donor", "site"
SPELLINGS = {"slide_id": SLIDE, "case_id": DONOR, "patient": DONOR, "patient_id": DONOR}  # of others' tables
EVENT, CENSORED = "event", ("censorship", "censored")  # 1 is an event; 1 is none


@dataclass(frozen=True)
class SlideTable:
    """Labels of slides.

    Parameters
    ----------
    table
        Text, a row a slide; empty where nothing is known.
    source
        File, for messages.
    """

    table: pd.DataFrame
    source: str

    @property
    def slides(self) -> list[str]:
        """Names of the slides."""
        return list(self.table[SLIDE])

    @property
    def donors(self) -> np.ndarray:
        """Donor of each slide, shape ``(n_slides,)``; the slide itself where the table has no such column."""
        return self.table[DONOR if self.has_donors else SLIDE].to_numpy(dtype=str)

    @property
    def has_donors(self) -> bool:
        """Whether the table says whose slides these are."""
        return DONOR in self.table

    @property
    def sites(self) -> np.ndarray:
        """Hospital of each slide, shape ``(n_slides,)``.

        Raises
        ------
        InputError
            If the table does not say for every slide, or a donor has two.
        """
        if SITE not in self.table:
            raise InputError(f"{self.source} has no column {SITE!r}; folds that keep sites apart need it")
        sites: np.ndarray = self.table[SITE].to_numpy(dtype=str)
        if (unknown := np.flatnonzero(sites == "")).size:
            raise InputError(f"{self.source} names no site of slide {self.slides[unknown[0]]}")
        for donor in np.unique(self.donors):
            if len(of_donor := np.unique(sites[self.donors == donor])) > 1:
                raise InputError(f"donor {donor} is of the sites {of_donor[0]} and {of_donor[1]} in {self.source}")
        return sites

    def take(self, rows: np.ndarray) -> "SlideTable":
        """Return some rows."""
        return SlideTable(self.table.iloc[rows].reset_index(drop=True), self.source)

    def classes(self, column: str, *, names: tuple[str, ...] | None = None, ordered: bool = False) -> Classes:
        """Return the classes of a column; see ``Classes.of``. Grades without names are numbers, the lowest first.

        Raises
        ------
        InputError
            If a grade is no number, or a label is none of the names.
        """
        labels = list(self.table[column])
        try:
            if ordered and names is None:
                names = tuple(sorted(set(labels), key=float))
            return Classes.of(labels, names=names, ordered=ordered)
        except ValueError as error:
            raise InputError(f"column {column!r} of {self.source}: {error}") from error

    def survival(self, time: str, event: str) -> Survival:
        """Return the follow-up of two columns; the name of the second says what its 1 means, see ``event_is_one``.

        Raises
        ------
        InputError
            If a time is no number above 0, or an event is neither 0 nor 1.
        """
        times = pd.to_numeric(self.table[time], errors="coerce").to_numpy(dtype=np.float64)
        flags = pd.to_numeric(self.table[event], errors="coerce").to_numpy(dtype=np.float64)
        for column, bad in ((time, ~(times > 0) | np.isinf(times)), (event, ~np.isin(flags, (0, 1)))):
            if bad.any():
                row = int(np.flatnonzero(bad)[0])
                wanted = "a time above 0" if column == time else "0 or 1"
                raise InputError(
                    f"column {column!r} of {self.source} holds {self.table[column].iloc[row]!r} for slide "
                    f"{self.table[SLIDE].iloc[row]}, expected {wanted}"
                )
        return Survival(time=times, event=flags == (1 if event_is_one(event) else 0))


def event_is_one(column: str) -> bool:
    """Return what 1 means in a column of events, which its name says: an event, or that there was none.

    Tables come in both conventions: ``os_event`` counts events, ``censorship_dss`` counts those without one.

    Raises
    ------
    InputError
        If the name says neither.

    Examples
    --------
    >>> event_is_one("os_event"), event_is_one("censorship_dss")
    (True, False)
    """
    if any(word in column.lower() for word in CENSORED):
        return False
    if EVENT in column.lower():
        return True
    raise InputError(f"column {column!r} does not say whether 1 is an event; put 'event' or 'censorship' into its name")


def doubt_events(target: Survival) -> str:
    """Return why events and censored follow-up may be swapped; empty if nothing speaks for it.

    In a study that ends, who is censored was mostly followed for longer than it took those with an event. No proof.

    Examples
    --------
    >>> late = Survival(time=np.array([1.0, 2.0, 8.0, 9.0]), event=np.array([False, False, True, True]))
    >>> doubt_events(late).partition(":")[0]
    'events come later than censoring (median 8.5 against 1.5)'
    """
    if target.event.all() or not target.event.any():
        return ""
    event, censored = (float(np.median(target.time[x])) for x in (target.event, ~target.event))
    if event <= censored:
        return ""
    return f"events come later than censoring (median {event:g} against {censored:g}): is 1 an event in this column?"


def read_labels(path: Path) -> SlideTable:
    """Return the labels of a CSV file with a column ``slide`` and, where known, ``donor`` and ``site``.

    ``slide_id``, ``case_id``, ``patient`` and ``patient_id`` are understood. All values are kept as text.

    Raises
    ------
    DataAccessError
        If the file cannot be read.
    FormatError
        If it is no CSV.
    InputError
        If it has no column of slides, a slide twice, or a slide without a donor in a table of donors.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except OSError as error:
        raise DataAccessError(f"labels {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise FormatError(f"labels {path} are no CSV: {error}") from error
    table = table.rename(columns={k: v for k, v in SPELLINGS.items() if v not in table})
    table = table.apply(lambda column: column.str.strip())
    if SLIDE not in table:
        raise InputError(f"{path} has no column {SLIDE!r}; it has {', '.join(table.columns) or 'none'}")
    if table.empty or (table[SLIDE] == "").any():
        raise InputError(f"{path} has no slide at all, or a row without a slide")
    if (twice := table[SLIDE].duplicated()).any():
        raise InputError(f"{path} has slide {table[SLIDE][twice].iloc[0]} twice; give one row a slide")
    if DONOR in table and (table[DONOR] == "").any():
        raise InputError(f"{path} names no donor of slide {table[SLIDE][table[DONOR] == ''].iloc[0]}")
    return SlideTable(table, str(path))
