"""The quality page shows every section, tells what cannot be read, and needs no network."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from anndata import AnnData

from hescribe import keys
from hescribe.cards import TECHNOLOGIES, DatasetCard
from hescribe.data.cohort import Cohort
from hescribe.data.folder import write_cohort
from hescribe.errors import DataAccessError
from hescribe.report.quality import write_quality_report


class Page(HTMLParser):
    """Rows of the table, headings of the cards, and every address that the page names."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.addresses, self.texts, self._open = {}, [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.addresses += [named[k] for k in ("src", "href") if named.get(k)]
        if tag == "tr" and "data-section" in named:
            self._open = self.rows.setdefault(named["data-section"], [])

    def handle_endtag(self, tag):
        if tag == "tr":
            self._open = None

    def handle_data(self, data):
        self.texts.append(data)
        if self._open is not None and data.strip():
            self._open.append(data.strip())


def write(cohort, path, **options):
    write_cohort(cohort, path / "c")
    findings = write_quality_report(path / "c", path / "q.html", **options)
    return findings, (path / "q.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def sound(raw_cohort, tmp_path_factory):
    """Return the findings and the page of a cohort without a fault."""
    return write(raw_cohort, tmp_path_factory.mktemp("sound"))


def test_the_page_holds_a_row_and_a_drawing_of_every_section(raw_cohort, sound):
    findings, text = sound
    assert findings == []
    page = Page(text)
    assert list(page.rows) == [s.id for s in raw_cohort]
    depth = f"{np.median(raw_cohort[0].depth):,.0f}"
    assert depth in page.rows["s0"]
    assert "too coarse" in page.rows["s0"]  # 4 um per pixel
    assert text.count("<image ") == len(raw_cohort)
    assert "Synthetic data" in text


def test_the_page_needs_nothing_from_outside(sound):
    text = sound[1]
    assert all(a.startswith(("data:image/jpeg;base64,", "#")) for a in Page(text).addresses)
    assert not re.search(r"https?://|@import|url\(|<script", text)


def test_everything_from_data_is_escaped(raw_cohort, tmp_path):
    bad = "<b onclick=x>'&"
    sections = tuple(replace(s, donor=bad, card=replace(s.card, organ=bad)) for s in raw_cohort[:2])
    _, text = write(Cohort(sections, DatasetCard(id="c", title=bad, citation=bad, warnings=(bad,))), tmp_path)
    assert "<b onclick" not in text
    assert bad in "".join(Page(text).texts)


def test_a_broken_cohort_still_gives_a_page_with_the_errors_on_top(raw_cohort, tmp_path):
    write_cohort(raw_cohort, tmp_path / "c")
    (tmp_path / "c/sections/s1.h5ad").write_bytes(b"no h5")
    (tmp_path / "c/images/s2.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    findings = write_quality_report(tmp_path / "c", tmp_path / "q.html")
    text = (tmp_path / "q.html").read_text(encoding="utf-8")
    page = Page(text)
    assert {s for f in findings if f.level == "error" for s in f.sections} == {"s1", "s2"}
    assert "error" in page.rows["s1"]
    assert "error" not in page.rows["s0"]
    assert text.index('id="errors"') < text.index("s1.h5ad is damaged") < text.index('id="sections"')
    assert "Nothing could be measured" in text


def test_one_tissue_twice_is_told_in_the_page(raw_cohort, tmp_path):
    planted = replace(raw_cohort[0], id="again", donor="D9")
    findings, text = write(replace(raw_cohort, sections=(*raw_cohort, planted)), tmp_path)
    assert [f.kind for f in findings] == ["duplicate"]
    assert "sections s0 (donor D0) and again (donor D9) are the same tissue" in text
    assert "error" in Page(text).rows["again"]


def test_sections_without_an_image_are_drawn_by_depth(raw_cohort, tmp_path):
    bare = raw_cohort.map(lambda s: replace(s, image=None))
    _, text = write(bare, tmp_path)
    assert "<image " not in text
    assert "no image" in Page(text).rows["s0"]
    assert text.count('class="dots"') == len(bare)


def test_of_very_many_spots_an_even_choice_is_drawn(raw_cohort, tmp_path):
    section = raw_cohort[0]
    counts = np.tile(section.table.layers[keys.COUNTS].toarray(), (200, 1))[:9000]
    places = np.random.default_rng(0).uniform(0, 1400, (9000, 2))
    table = AnnData(layers={keys.COUNTS: counts}, obsm={keys.SPATIAL: places / 4, keys.SPATIAL_UM: places})
    table.var_names = section.genes
    card = replace(section.card, technology=TECHNOLOGIES["other"], pitch_um=15.0)
    _, text = write(Cohort((replace(section, table=table, card=card),), raw_cohort.card), tmp_path)
    assert "4,000 of 9,000 spots are drawn" in text


def test_without_an_index_there_is_no_page(tmp_path):
    with pytest.raises(DataAccessError, match="is no cohort"):
        write_quality_report(tmp_path, tmp_path / "q.html")
    assert not (tmp_path / "q.html").exists()
