"""The object tree is read without running code, and all other files are refused."""

import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openrayzer.data.chunk_files.tensor_pickle import PickleRefusedError, TensorRecord, read_tree

ROOT = Path(__file__).parents[3]


def tree_bytes(value: object) -> bytes:
    """The ``data.pkl`` that torch writes for a value."""
    file = io.BytesIO()
    torch.save(value, file)
    with zipfile.ZipFile(file) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner) | st.tuples(inner),
    max_leaves=30,
)


@settings(max_examples=200, deadline=None)
@given(PLAIN)
def test_plain_values_are_read_as_torch_wrote_them(value):
    assert read_tree(tree_bytes(value)) == value


def test_tensors_are_described_not_read():
    big = torch.zeros(10, 18)
    tree = read_tree(tree_bytes({"a": big, "b": [big[2:4], big.T], "c": torch.zeros(0, dtype=torch.uint8)}))
    assert tree["a"] == TensorRecord("0", "float32", 0, (10, 18), (18, 1))
    assert tree["b"][0] == TensorRecord("0", "float32", 36, (2, 18), (18, 1))
    assert tree["a"].contiguous
    assert not tree["b"][1].contiguous
    assert tree["c"].shape == (0,)


def test_many_tensors_pass_the_narrow_memo():
    tree = read_tree(tree_bytes([{"images": [torch.zeros(i, dtype=torch.uint8) for i in range(300)]} for _ in "ab"]))
    assert [record.shape for record in tree[1]["images"]] == [(i,) for i in range(300)]


class Evil:
    def __reduce__(self):
        return os.mkdir, ("never_made",)


@pytest.mark.parametrize("protocol", range(6))
def test_code_is_refused(protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PickleRefusedError):
        read_tree(pickle.dumps([Evil()], protocol=protocol))
    assert not list(tmp_path.iterdir())


def test_refused_global_is_named():
    with pytest.raises(PickleRefusedError, match=r"refers to 'posix\.mkdir', which could run code"):
        read_tree(pickle.dumps([Evil()], protocol=2))


HUGE = struct.pack("<I", 2**32 - 1)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x80\x02]r" + HUGE + b".", id="huge memo index"),
        pytest.param(b"\x80\x02X" + HUGE + b"abc.", id="huge text"),
        pytest.param(b"\x80\x04\x96" + HUGE * 2 + b".", id="huge bytearray"),
        pytest.param(b"\x80\x02\x8b" + HUGE + b".", id="huge number"),
        pytest.param(b"\x80\x02](u.", id="items of a list"),
        pytest.param(b"\x80\x02e.", id="no mark"),
        pytest.param(b"\x80\x02h\x07.", id="unknown memo"),
        pytest.param(b"\x80\x02K\x01K\x02R.", id="call of a number"),
        pytest.param(b"\x80\x02ctorch\nByteStorage\n)R.", id="call of a storage"),
        pytest.param(b"\x80\x02]", id="no end"),
        pytest.param(b"", id="empty"),
        pytest.param(b"ccollections", id="cut in a name"),
    ],
)
def test_damage_costs_neither_memory_nor_a_strange_error(data):
    if data == b"\x80\x02]r" + HUGE + b".":
        assert read_tree(data) == []  # harmless here: the memo is a table by name
        return
    with pytest.raises(PickleRefusedError):
        read_tree(data)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_changed_bytes_end_in_a_tree_or_a_refusal(data):
    original = bytearray(tree_bytes([{"key": "a", "cameras": torch.zeros(2, 18), "images": [torch.zeros(3)] * 2}]))
    for _ in range(data.draw(st.integers(1, 4))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_tree(bytes(original))
    except PickleRefusedError as error:
        assert str(error)  # noqa: PT017


def test_keys_that_are_tuples_are_refused():
    with pytest.raises(PickleRefusedError, match="damaged"):
        read_tree(tree_bytes({(1, 2): 3}))
    with pytest.raises(PickleRefusedError, match="damaged"):
        read_tree(tree_bytes({(1, 2): 3, "b": 4}))


def test_nothing_that_takes_for_ever_to_hash_is_hashed():
    nested = b")" + b"q\x00h\x00\x86" * 60  # a pair of pairs of pairs
    key = b"\x80\x02}" + nested + b"Ns."
    kind = b"\x80\x02(X\x07\x00\x00\x00storage" + nested + b"X\x01\x00\x00\x000NNtQ."
    for data in (key, kind):
        code = f"from openrayzer.data.chunk_files.tensor_pickle import read_tree; read_tree({data!r})"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
        assert "its object tree is damaged near byte" in done.stderr


def test_tensor_of_too_many_axes_is_refused():
    tree = tree_bytes(torch.zeros([1] * 64))
    assert read_tree(tree).shape == (1,) * 64
    with pytest.raises(PickleRefusedError, match="damaged"):
        read_tree(tree.replace(b"K\x01" * 2, b"K\x01" * 3))
