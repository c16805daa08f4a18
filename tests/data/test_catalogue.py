import csv
import fnmatch
import tomllib
from collections import Counter
from importlib.resources import files

import pytest
from pydantic import ValidationError

from hescribe.cards import TECHNOLOGIES
from hescribe.data.catalogue import find_corpus, find_entry, find_same_tissue, load_catalogue, load_corpora
from hescribe.data.dataset_card import Entry
from hescribe.data.toml_file import check_record
from hescribe.encode.base import encoders
from hescribe.encode.gene.base import gene_encoders
from hescribe.errors import SchemaError, UnknownNameError

CARDS = load_catalogue()
SPARED = {name: e for name, e in CARDS.items() if e.collection == "spared"}
HESCAPE = {name: e for name, e in CARDS.items() if e.collection == "hescape"}
A_CARD = """
id = "x"
title = "t"
organism = "Homo sapiens"
organ = "skin"
technology = "visium"
licence = "CC0-1.0"
terms = "open"
citation = "c"
donors_known = true
section = [{ id = "a", donor = "p" }, { id = "b", donor = "q" }]
"""


def codes(entry):
    return {w.code for w in entry.warning}


def read(text):
    return check_record(tomllib.loads(text), Entry, "x.toml")


def test_there_are_the_collections_that_the_page_promises():
    assert Counter(e.collection for e in CARDS.values()) == {"spared": 26, "hescape": 7, "hest": 1, "other": 6}


@pytest.mark.parametrize("entry", CARDS.values(), ids=CARDS)
class TestEveryCard:
    def test_is_named_like_its_file_and_complete(self, entry):
        assert (files("hescribe.data") / "catalogue" / f"{entry.id}.toml").is_file()
        assert entry.technology in TECHNOLOGIES
        assert entry.citation not in {"", "unknown"}
        assert entry.organism.split(", ")[0] in {"Homo sapiens", "Mus musculus"}

    def test_passes_its_defects_on_as_sentences(self, entry):
        assert entry.card.warnings == tuple(w.text for w in entry.warning)
        assert all(text.endswith(".") and "\n" not in text for text in entry.card.warnings)

    def test_says_where_the_files_are(self, entry):
        assert entry.source or "unpublished" in codes(entry)
        assert all(s.page.startswith("https://") for s in entry.source)

    def test_warns_of_a_gate_and_of_unknown_donors(self, entry):
        assert ("gated" in codes(entry)) == entry.gated
        if not entry.donors_known and len(entry.section) != 1:
            assert "donor_unknown" in codes(entry)

    def test_warns_of_a_missing_test_split(self, entry):
        if any(s.split for s in entry.section):
            assert ("no_test_split" in codes(entry)) == (not entry.split("test"))

    def test_warns_of_each_chip_that_splits_share(self, entry):
        splits = {}
        for section in entry.section:
            if section.chip and section.split:
                splits.setdefault(section.chip, set()).add(section.split)
        shared = {chip for chip, names in splits.items() if len(names) > 1}
        warned = [w for w in entry.warning if w.code == "chip_shared_across_splits"]
        assert {s.chip for w in warned for s in entry.section if s.id in w.sections} == shared

    def test_warns_of_each_donor_that_splits_share(self, entry):
        splits = {}
        for section in entry.section:
            if section.donor and section.split:
                splits.setdefault(section.donor, set()).add(section.split)
        shared = {donor for donor, names in splits.items() if len(names) > 1}
        assert not shared or codes(entry) & {"donor_shared_across_splits", "single_donor"}

    def test_points_to_datasets_and_sections_that_exist(self, entry):
        for target in (t for w in entry.warning for t in w.of):
            dataset, _, section = target.partition("/")
            other = CARDS[dataset]
            assert section in {"", "*"} or not other.section or section in {s.id for s in other.section}

    def test_names_sections_where_it_says_that_they_are_one_tissue(self, entry):
        assert all(len(w.sections) > 1 for w in entry.warning if w.code == "same_tissue")


def test_the_spared_cards_add_up_to_what_was_published():
    # Advertised: 105 slides, 308,843 spots; without the double count of MMBR 97 slides, 274,260 spots.
    def total(cards):
        return sum(len(e.section) for e in cards), sum(e.published.n_spots for e in cards)

    assert total(SPARED.values()) == (105, 308_843)
    assert total([e for e in SPARED.values() if e.published.name != "MMBR"]) == (97, 274_260)


def test_fifteen_spared_datasets_have_no_test_split():
    assert sum("no_test_split" in codes(e) for e in SPARED.values()) == 15


def test_the_defects_of_spared_that_are_known_are_there():
    by_name = {e.published.name: codes(e) for e in SPARED.values()}
    assert {n for n, c in by_name.items() if "immunofluorescence_image" in c} == {"10XGHB", "10XGMBC"}
    assert {n for n, c in by_name.items() if "normalised_counts" in c} == {"PMI"}
    assert {n for n, c in by_name.items() if "condition_confounded_with_split" in c} == {"PMI"}
    assert {n for n, c in by_name.items() if "duplicate_of" in c} >= {"MMBR", "MMBP1", "MMBP2"}
    assert all("chip_shared_across_splits" in by_name[n] for n in ("MMBR", "VLMB", "MHSI"))


def test_a_slide_whose_patient_was_only_a_chip_has_no_donor():
    entry = find_entry("vicari_mouse_brain")
    assert {s.donor for s in entry.section} == {None}
    assert len({s.chip for s in entry.section}) == entry.published.n_patients == 4
    assert len(entry.split("train")) == 8
    assert entry.split("test") == ("V11T17-101_A1", "V11T17-101_B1")


def test_the_two_mice_of_one_chip_are_two_donors():
    assert find_entry("parigi_mouse_intestine").donors == ("mouse_d0", "mouse_d14")


def test_the_donors_of_the_lung_panel_follow_the_sample_names():
    # TILD117MF and TILD117LF are one person, whom the published table counts twice.
    donor = {s.id: s.donor for s in find_entry("hescape_human_lung_healthy_panel").section}
    assert donor["NCBI881"] == donor["NCBI882"] == "TILD117"
    assert donor["NCBI860"] == donor["NCBI861"] == "VUILD78"
    assert len(set(donor.values())) == 15


def test_the_duplicate_samples_of_hest_are_one_tissue():
    group = next(g for g in find_same_tissue() if "hest_1k/TENX155" in g)
    assert {"hest_1k/TENX128", "hest_1k/TENX148", "hescape_human_colon_panel/TENX148"} <= group
    assert "hest_1k/TENX156" not in group
    pair = next(g for g in find_same_tissue() if "hest_1k/TENX94" in g)
    assert "hest_1k/TENX96" in pair
    assert "hest_1k/TENX95" not in pair


def test_no_section_of_mmbr_is_tissue_of_its_own():
    groups = find_same_tissue()
    for section in find_entry("mirzazadeh_mouse_brain").section:
        group = next(g for g in groups if f"mirzazadeh_mouse_brain/{section.id}" in g)
        assert {name.partition("/")[2] for name in group} == {section.id}
        assert len(group) == 2


def test_a_section_is_in_one_group_only():
    names = [name for group in find_same_tissue() for name in group]
    assert len(names) == len(set(names))


def test_every_id_that_an_encoder_was_trained_on_resolves():
    for name in encoders:
        for trained_on in encoders.create(name).card.trained_on:
            assert find_corpus(trained_on).title, (name, trained_on)


def test_every_id_that_a_gene_encoder_was_trained_on_resolves():
    for name in gene_encoders:
        assert all(find_corpus(one).title for one in gene_encoders.create(name).card.trained_on), name


def test_every_id_that_a_hub_encoder_was_trained_on_resolves():
    folder = files("hescribe.encode") / "cards"
    for file in folder.iterdir():
        trained_on = tomllib.loads(file.read_text())["card"]["trained_on"]
        assert trained_on
        assert all(find_corpus(name).title for name in trained_on), file.name


def test_a_corpus_is_no_dataset_and_a_set_of_letters_is_nothing():
    assert not load_corpora().keys() & CARDS.keys()
    with pytest.raises(UnknownNameError, match="no dataset 'V'"):
        find_corpus("V")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('licence = "CC0-1.0"', 'licence = "unknown"', "licence and terms are unknown together"),
        ("donors_known = true", "donors_known = false", "donors_known must say"),
        ('donor = "q"', 'split = "train"', "donors_known must say"),
        ('id = "b"', 'id = "a"', "section 'a' is listed twice"),
        ('technology = "visium"', 'technology = "visum"', "is not one of"),
        ('donor = "q"', 'donor = "q", split = "valid"', r"section\[1\].split"),
        ("title =", "tittle =", "tittle: is no key of this file"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(old, new, told):
    assert read(A_CARD).donors == ("p", "q")
    with pytest.raises(SchemaError, match=told):
        read(A_CARD.replace(old, new))


@pytest.mark.parametrize(
    ("warning", "told"),
    [
        ('code = "strange"\ntext = "T."', r"warning\[0\].code"),
        ('code = "image_missing"\ntext = "T."\nsections = ["z"]', "names section 'z', which the card has not"),
    ],
)
def test_a_warning_that_no_program_could_read_is_refused(warning, told):
    with pytest.raises(SchemaError, match=told):
        read(f"{A_CARD}\n[[warning]]\n{warning}")


def test_a_checksum_of_another_kind_is_refused():
    source = '[[source]]\nkind = "zenodo"\nrecord = "1"\npage = "https://x"\nfile = [{ path = "a", sha256 = "abc" }]'
    with pytest.raises(SchemaError, match="is no sha256"):
        read(f"{A_CARD}\n{source}")


def test_a_card_cannot_be_changed_at_run_time():
    with pytest.raises(ValidationError):
        find_entry("her2st").licence = "mine"


@pytest.mark.real
class TestAgainstThePublishedFiles:
    def test_the_panels_of_hescape_hold_the_published_splits(self, shared_data):
        for entry in HESCAPE.values():
            folder = shared_data / "hescape_panels" / entry.published.name
            for split in ("train", "val", "test"):
                with (folder / f"{split}.csv").open(encoding="utf-8-sig") as file:
                    published = [row["id"] for row in csv.DictReader(file)]
                if entry.id == "hescape_human_skin_panel" and split == "val":
                    assert published == ["TENX117"]  # the same as test: warned of
                    continue
                assert list(entry.split(split)) == published

    def test_the_files_of_a_card_are_those_of_its_source(self, shared_data):
        for name in ("her2st", "stutility_mob", "squidpy_visium_tile"):
            listed = {f.path: f.size for f in find_entry(name).source[0].file}
            here = [p for p in (shared_data / name).rglob("*") if p.is_file() and p.name != "SOURCE.md"]
            sizes = {str(p.relative_to(shared_data / name)): p.stat().st_size for p in here}
            assert listed == sizes

    def test_the_sections_of_her2st_are_the_files(self, shared_data):
        paths = [f.path for f in find_entry("her2st").source[0].file]
        counts = fnmatch.filter(paths, "data/ST-cnts/*.tsv.gz")
        assert sorted(s.id for s in find_entry("her2st").section) == sorted(p[13:-7] for p in counts)
