"""What the page on analyses says of gene sets is so."""

import re
from pathlib import Path

from hescribe.analysis.gene_sets import published_sets, read_gene_sets

PAGE = (Path(__file__).resolve().parents[2] / "docs/analyse.md").read_text(encoding="utf-8")


def test_the_example_of_gene_sets_is_valid(tmp_path):
    block = re.search(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[1]
    (tmp_path / "sets.toml").write_text(block, encoding="utf-8")
    assert set(read_gene_sets(tmp_path / "sets.toml")) == {"interferon"}


def test_the_page_names_the_paper_of_every_published_set():
    table = PAGE[PAGE.index("| set |") : PAGE.index("Your own sets")]
    for gene_set in published_sets().values():
        first_author = re.match(r"[^\s,]+", gene_set.source)[0]
        assert first_author in table, gene_set.source
