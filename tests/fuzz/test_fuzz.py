"""A thousand damaged inputs, the same ones every time; ``make fuzz`` gives more."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.harness import Box
from tests.fuzz.targets import TARGETS

PER_TARGET = 18  # for a share of 1: a thousand over all targets


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_input_is_read_or_refused_and_nothing_else(name, tmp_path):
    box = Box(TARGETS[name], tmp_path)
    n = max(int(PER_TARGET * TARGETS[name].share), 1)
    escapes = [str(box.reduce(e)) for seed in range(n) if (e := box.run(seed)) is not None]
    assert not escapes, "\n".join(escapes)


TEXTS = {"study": "study.toml", "card": "card.toml", "gene_sets": "sets.toml", "labels": "labels.csv",
         "hest_table": "hest.csv", "regions": "regions.geojson", "viewer": "urls.txt"}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_any_text_is_read_or_refused(name, tmp_path):
    box = Box(TARGETS[name], tmp_path)

    @settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(st.one_of(st.text(), st.text('[]{}=,"\n.-e0123456789\t\0')))
    def check(content):
        assert box.try_file(TEXTS[name], content.encode("utf-8", "surrogatepass")) is None

    check()
