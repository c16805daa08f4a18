"""The table of labels says whose slides these are and what they are, and in which convention."""

import numpy as np
import pytest

from hescribe.errors import DataAccessError, FormatError, InputError
from hescribe.slide.labels import doubt_events, event_is_one, read_labels
from hescribe.slide.targets import Classes, Survival


@pytest.fixture
def labels(tmp_path):
    def write(text):
        path = tmp_path / "labels.csv"
        path.write_text(text)
        return read_labels(path)

    return write


def test_values_stay_text_so_that_names_keep_their_zeros(labels):
    table = labels("slide,donor,label\n001,07,NA\n002,08, b \n")
    assert table.slides == ["001", "002"]
    assert table.donors.tolist() == ["07", "08"]
    assert table.classes("label").names == ("NA", "b")


def test_tables_of_others_are_understood(labels):
    table = labels("case_id,slide_id,label\nd,s,x\n")
    assert (table.slides, table.donors.tolist()) == (["s"], ["d"])


def test_without_donors_each_slide_is_its_own(labels):
    table = labels("slide,label\ns1,a\ns2,b\n")
    assert not table.has_donors
    assert table.donors.tolist() == ["s1", "s2"]


def test_grades_are_ordered_as_numbers_and_not_as_text(labels):
    grades = labels("slide,isup\ns1,10\ns2,2\ns3,2\n").classes("isup", ordered=True)
    assert grades.names == ("2", "10")
    assert grades.codes.tolist() == [1, 0, 0]


def test_either_convention_of_censoring_gives_the_same_events(labels):
    table = labels("slide,months,os_event,censorship\ns1,5,1,0\ns2,7.5,0,1\n")
    for column in ("os_event", "censorship"):
        assert table.survival("months", column).event.tolist() == [True, False]


def test_a_column_that_does_not_say_what_1_means_is_refused():
    with pytest.raises(InputError, match="'status' does not say whether 1 is an event"):
        event_is_one("status")


def test_events_that_come_later_than_censoring_are_doubted():
    time = np.array([1.0, 2.0, 3.0, 10.0, 11.0, 12.0])
    event = np.array([True] * 3 + [False] * 3)
    assert doubt_events(Survival(time=time, event=event)) == ""
    assert "is 1 an event" in doubt_events(Survival(time=time, event=~event))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,label\ns,1\n", "no column 'slide'; it has name, label"),
        ("slide,label\n", "no slide at all"),
        ("slide,label\ns,1\ns,2\n", "slide s twice"),
        ("slide,donor\ns1,d\ns2,\n", "no donor of slide s2"),
    ],
)
def test_a_table_that_is_wrong_is_told(labels, text, told):
    with pytest.raises(InputError, match=told):
        labels(text)


def test_a_file_that_is_no_table_is_told(tmp_path):
    with pytest.raises(DataAccessError, match="cannot be read"):
        read_labels(tmp_path / "none.csv")
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match="are no CSV"):
        read_labels(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("slide,t,event\ns,0,1\n", "column 't' .* holds '0' for slide s, expected a time above 0"),
        ("slide,t,event\ns,x,1\n", "holds 'x' for slide s, expected a time above 0"),
        ("slide,t,event\ns,3,Dead\n", "column 'event' .* holds 'Dead' for slide s, expected 0 or 1"),
    ],
)
def test_a_follow_up_that_is_none_is_told(labels, text, told):
    with pytest.raises(InputError, match=told):
        labels(text).survival("t", "event")


def test_a_donor_of_two_sites_and_a_slide_of_none_are_told(labels):
    with pytest.raises(InputError, match="donor d is of the sites A and B"):
        labels("slide,donor,site\ns1,d,A\ns2,d,B\n").sites  # noqa: B018 - reading it is the test
    with pytest.raises(InputError, match="names no site of slide s2"):
        labels("slide,site\ns1,A\ns2,\n").sites  # noqa: B018
    with pytest.raises(InputError, match="no column 'site'"):
        labels("slide\ns1\n").sites  # noqa: B018


def test_one_class_alone_and_a_foreign_label_are_told():
    with pytest.raises(InputError, match=r"one class only \(a\)"):
        Classes.of(["a", "a"])
    with pytest.raises(InputError, match="label 'c' is none of the classes a, b"):
        Classes.of(["a", "c"], names=("a", "b"))
