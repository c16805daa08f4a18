"""The whole way, for a dataset of the catalogue whose hosts are on this machine."""

import json

import pytest

from hescribe.data.fetch import fetch_dataset
from hescribe.errors import DataAccessError, UnknownNameError

TOKEN = "abc"  # noqa: S105 - of nobody


def test_the_user_reads_the_terms_before_the_first_request(host, hosts, out, patience):
    told = []
    with pytest.raises(DataAccessError):  # this host has no such file
        fetch_dataset("stutility_mob", out, only="LICENSE", hosts=hosts, patience=patience, tell=told.append)
    assert told[0] == "stutility_mob: licence MIT (open)"
    assert told[-1] == "1 files: 0.0 MB"


def test_nothing_is_asked_of_a_host_before_the_licence_is_accepted(host, hosts, out):
    with pytest.raises(DataAccessError, match="has no known licence"):
        fetch_dataset("cscc", out, hosts=hosts)
    assert host.requests == []
    assert not out.exists()


def test_the_token_of_the_user_is_sent_with_a_gated_file(host, hosts, out, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    rows = [{"type": "file", "path": "HEST_v1_1_0.csv", "size": 4, "oid": "1"}]
    tree = "/api/datasets/MahmoodLab/hest/tree/main?recursive=true"
    host.serve(tree, json.dumps(rows).encode())
    file = "/datasets/MahmoodLab/hest/resolve/main/HEST_v1_1_0.csv"
    host.serve(file, b"id\nx")
    fetch_dataset("hest_1k", out, only="HEST_v*.csv", accept_licence=True, hosts=hosts)
    assert (out / "HEST_v1_1_0.csv").read_bytes() == b"id\nx"
    assert host.asked(tree, "Authorization") == host.asked(file, "Authorization") == [f"Bearer {TOKEN}"]


def test_sizes_that_the_host_does_not_state_are_said(host, hosts, out, patience):
    told = []
    with pytest.raises(DataAccessError):
        fetch_dataset("10xgenomic_human_brain", out, hosts=hosts, patience=patience, tell=told.append)
    assert told[-1] == "6 files: 0.0 MB, and 6 files whose size the host does not state"


@pytest.mark.parametrize("switch", ["HESCRIBE_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_asks_nobody(host, hosts, out, monkeypatch, switch):
    monkeypatch.setenv(switch, "1")
    with pytest.raises(DataAccessError, match="the network is switched off"):
        fetch_dataset("her2st", out, hosts=hosts)
    assert host.requests == []


def test_an_unknown_dataset_is_suggested(out):
    with pytest.raises(UnknownNameError, match="did you mean 'her2st'"):
        fetch_dataset("her2", out)
