"""Data sets of the Hugging Face Hub, which are read with the Hub's own client."""

import logging
from pathlib import Path

import pytest
from conftest import HUB
from hub_server import SIGNATURE, TOKEN
from range_server import RangeServer

from openrayzer.data.sources.chunks import Chunks
from openrayzer.data.sources.images import Images
from openrayzer.interfaces import InputError
from openrayzer.machine.remote_requests import FilePart, fetched


def test_a_part_of_a_file_is_fetched_and_no_more(hub: RangeServer, library: Path):
    place = "indexed/train/000000.torch"
    [part] = fetched([FilePart(f"{HUB}/{place}", 1000, 500)])
    assert part == (library / place).read_bytes()[1000:1500]
    assert hub.gets(place) == ["bytes=1000-1499"]


@pytest.mark.parametrize(
    ("root", "token", "text"),
    [
        (
            "owner/library/gone",
            TOKEN,
            f"there is no folder .*/gone.*; the nearest that exists is {HUB}, with the folde",
        ),
        ("owner/gone/re10k", TOKEN, "there is no folder hf://datasets/owner/gone/re10k"),
        ("owner/library@v2/chunks", TOKEN, "there is no folder hf://datasets/owner/library@v2/chunks"),
        ("owner/closed/re10k", TOKEN, "owner/closed/re10k cannot be listed: access is denied; .* HF_TOKEN or hf auth"),
        (
            "owner/library/chunks",
            "hf_old",
            "denied, or there is no such repository; .* such as HF_TOKEN or hf auth login",
        ),
        ("library", TOKEN, "Repository id must be 'namespace/name', got 'library'"),
    ],
)
@pytest.mark.parametrize("kind", [Chunks, Images])
def test_a_repository_that_cannot_be_read_is_named_at_once(hub: RangeServer, monkeypatch, kind, root, token, text):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(InputError, match=text) as caught:
        kind(root=f"hf://datasets/{root}").open()
    assert token not in str(caught.value)


def test_no_log_has_the_token_or_a_signature(hub: RangeServer, caplog):
    caplog.set_level(logging.DEBUG, "openrayzer")
    caplog.set_level(logging.WARNING)
    dataset = Chunks(root=f"{HUB}/chunks")
    dataset.open()
    dataset.read(0, [0])
    assert TOKEN not in caplog.text
    assert SIGNATURE not in caplog.text
