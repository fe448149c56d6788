"""prepare_data.py --part and merge: the parts of several machines become the result of one machine."""

import json
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from openrayzer.data.preparing.parts import locking
from openrayzer.data.preparing.parts.division import Part
from openrayzer.data.preparing.parts.locking import locked
from openrayzer.interfaces import InputError

TOOL = Path(__file__).parents[3] / "tools" / "prepare_data.py"
LINEAR = '{"type": "linear", "width": 32, "patch_size": 16}'
SMALL = ("--chunk_megabytes", "0.001", "--processes", "1")
"""A chunk for each scene."""


@pytest.fixture
def source(write_root, make_scene) -> Path:
    """Seven scenes in three chunks; one has a broken frame, one no usable frame, and one is there twice."""
    scenes = [make_scene(f"s{number}", frames=5) for number in range(6)]
    scenes[1].images[2] = b"no image"
    scenes[3].cameras[:] = np.nan
    return write_root(scenes[:3], scenes[3:5], [scenes[5], make_scene("s0")])


def without_times(index: Path) -> tuple[bytes, dict]:
    """The rows of a side index, and its head without the times of the chunks."""
    data = index.read_bytes()
    (size,) = struct.unpack("<Q", data[-20:-12])
    head = json.loads(data[-20 - size : -20])
    return data[: -20 - size], head | {"chunks": [[name, size, mark] for name, size, _, mark in head["chunks"]]}


def same_conversion(one: Path, other: Path) -> bool:
    """Whether two folders of chunks have the same files; the side index may differ in the times of the chunks."""
    names = {path.name for path in one.iterdir()} | {path.name for path in other.iterdir()}
    plain = names - {"frame_index.bin"}
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in plain) and without_times(
        one / "frame_index.bin"
    ) == without_times(other / "frame_index.bin")


@pytest.mark.parametrize(("count", "total"), [(10, 3), (3, 10), (0, 2), (16, 16), (7, 1)])
def test_parts_are_disjoint_neighbours_and_cover_everything(count: int, total: int):
    ranges = [part.numbers(count) for part in Part(1, total).all_parts()]
    assert [number for numbers in ranges for number in numbers] == list(range(count))
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1
    assert all(Part(1, total).of(number, count).numbers(count).count(number) for number in range(count))


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "3", "a/b", "-1/4", "1/4/2", ""])
def test_a_part_out_of_range_is_refused(prepare, source, tmp_path, text):
    done = prepare("convert", "--from", "chunks", source, "--output", tmp_path / "out", f"--part={text}")
    assert done.returncode == 2
    assert "--part" in done.stderr
    assert not (tmp_path / "out").exists()


def test_converted_parts_in_any_order_are_the_conversion_of_one_machine(prepare, source, tmp_path):
    command = ("convert", "--from", "chunks", source, *SMALL)
    whole = prepare(*command, "--output", tmp_path / "whole")
    for number in (3, 1, 3, 2):
        done = prepare(*command, "--output", tmp_path / "parts", "--part", f"{number}/3")
        assert done.returncode in (0, 1), done.stderr  # a part may have scenes with faults
        assert not (tmp_path / "parts" / "train" / "manifest.json").exists()
    merged = prepare("merge", tmp_path / "parts")
    assert merged.returncode == whole.returncode == 1
    assert merged.stdout.splitlines()[-3:] == [
        line.replace("whole", "parts") for line in whole.stdout.splitlines()[-3:]
    ]
    assert same_conversion(tmp_path / "whole" / "train", tmp_path / "parts" / "train")
    before = (tmp_path / "parts" / "train" / "manifest.json").stat().st_mtime_ns
    assert prepare("merge", tmp_path / "parts").returncode == 1  # again: nothing to do
    assert (tmp_path / "parts" / "train" / "manifest.json").stat().st_mtime_ns == before
    assert "complete already" in prepare(*command, "--output", tmp_path / "parts", "--part", "1/3").stdout


def test_missing_parts_of_a_conversion_are_named(prepare, source, tmp_path):
    command = ("convert", "--from", "chunks", source, *SMALL, "--output", tmp_path / "out")
    prepare(*command, "--part", "2/4")
    done = prepare("merge", tmp_path / "out")
    assert done.returncode == 2
    assert "3 of 4 parts are missing: 1, 3, 4; run them, e.g. with --part 1/4" in done.stderr
    done = prepare(*command, "--part", "1/2")
    assert done.returncode == 2
    assert "is converted in 4 parts; give --part K/4, or no --part" in done.stderr
    assert "of them done" in prepare(*command).stdout  # one machine does the rest
    assert (tmp_path / "out" / "train" / "manifest.json").is_file()


def test_parts_of_an_interrupted_conversion_go_on_with_its_chunks(prepare, source, tmp_path):
    command = ("convert", "--from", "chunks", source, *SMALL)
    prepare(*command, "--output", tmp_path / "whole")
    prepare(*command, "--output", tmp_path / "out", "--part", "1/2")
    plan = tmp_path / "out" / "train" / ".convert" / "plan.json"
    plan.write_text(json.dumps({name: json.loads(plan.read_text())[name] for name in ("settings", "chunks")}))  # older
    assert "run the same convert command again" in prepare("merge", tmp_path / "out").stderr
    prepare(*command, "--output", tmp_path / "out", "--part", "2/2")
    assert prepare("merge", tmp_path / "out").returncode == 1
    assert same_conversion(tmp_path / "whole" / "train", tmp_path / "out" / "train")


def test_a_part_and_the_whole_exclude_each_other_but_parts_do_not(source, tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "WAITING_SECONDS", 0.1)
    with locked(tmp_path, Part(1, 4)):
        with locked(tmp_path, Part(2, 4)):
            pass
        with pytest.raises(InputError, match=r"part 1/4 of .* is being written by process"), locked(tmp_path):
            pass
        with pytest.raises(InputError, match=r"part 1/4 of .* is being"), locked(tmp_path, Part(1, 4)):
            pass
    with locked(tmp_path), pytest.raises(InputError, match="is being written"), locked(tmp_path, Part(1, 4)):
        pass


def test_two_merges_at_once_are_refused_by_name(prepare, source, tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "WAITING_SECONDS", 0.1)
    prepare("convert", "--from", "chunks", source, "--output", tmp_path / "out", "--part", "1/1")
    prepare("verify", "--from", "chunks", source, "--output", tmp_path / "report.json", "--part", "1/1")
    for output, folder in (("out", "out/train"), ("report.json", "report.json.parts")):
        with locked(tmp_path / folder):
            done = prepare("merge", tmp_path / output)
        assert done.returncode == 2
        assert f"{tmp_path / folder} is being written by process" in done.stderr
        assert prepare("merge", tmp_path / output).returncode == 1


def test_verified_parts_are_the_report_of_one_machine(prepare, source, tmp_path):
    command = ("verify", "--from", "chunks", source, "--processes", "1")
    whole = prepare(*command, "--output", tmp_path / "whole.json")
    for number in (2, 3, 1, 4, 5, 6, 7, 8, 9):  # more parts than scenes
        prepare(*command, "--output", tmp_path / "parts.json", "--part", f"{number}/9")
    merged = prepare("merge", tmp_path / "parts.json")
    assert (merged.returncode, merged.stdout) == (whole.returncode, whole.stdout)
    assert (tmp_path / "parts.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir() if "parts" in path.name) == ["parts.json"]
    assert "complete already" in prepare("merge", tmp_path / "parts.json").stdout
    assert "--part needs --output" in prepare(*command, "--part", "1/2").stderr


def test_indexed_parts_are_the_index_of_one_machine(prepare, source, tmp_path):
    whole = prepare("index", source, "--output", tmp_path / "whole")
    for number in (2, 1):
        prepare("index", source, "--output", tmp_path / "parts", "--part", f"{number}/2")
    merged = prepare("merge", tmp_path / "parts")
    assert merged.stdout == whole.stdout.replace("whole", "parts")
    one, other = (tmp_path / name / "train" / "frame_index.bin" for name in ("whole", "parts"))
    assert one.read_bytes() == other.read_bytes()
    (source / "train" / "000009.torch").write_bytes(b"")
    prepare("index", source, "--part", "1/1")
    (source / "train" / "000009.torch").unlink()
    assert "has other chunks than when its parts were indexed" in prepare("merge", source).stderr


def test_overlap_in_parts_is_the_table_of_one_machine(prepare, source, tmp_path):
    command = ("overlap", "--from", "chunks", source, "--tokenizer", LINEAR, "--samples", 2, "--processes", 1)
    prepare(*command, "--output", tmp_path / "whole.json")
    for number in (1, 2):
        prepare(*command, "--output", tmp_path / "parts.json", "--part", f"{number}/2")
    assert "scene 's1' has 5 frames" in prepare("merge", tmp_path / "parts.json").stdout
    assert (tmp_path / "parts.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_parts_that_do_not_belong_together_are_refused(prepare, source, tmp_path):
    command = ("verify", "--from", "chunks", source, "--output", tmp_path / "report.json")
    prepare(*command, "--part", "1/2")
    assert "1 of 2 parts are missing: 2" in prepare("merge", tmp_path / "report.json").stderr
    assert "parts of another division, into 2" in prepare(*command, "--part", "1/3").stderr
    other = ("overlap", *command[1:])
    assert "parts of another command, source or setting" in prepare(*other, "--part", "2/2").stderr
    part = tmp_path / "report.json.parts" / "part_1_of_2.npz"
    part.write_bytes(part.read_bytes()[:-30])
    assert "part_1_of_2.npz is damaged; delete it, run its part again" in prepare(*command, "--part", "2/2").stderr
    assert "has no parts" in prepare("merge", tmp_path / "elsewhere").stderr


def test_a_part_is_made_again_only_if_its_files_have_changed(prepare, source, tmp_path):
    command = ("verify", "--from", "chunks", source, "--output", tmp_path / "report.json", "--part", "1/2")
    part = tmp_path / "report.json.parts" / "part_1_of_2.npz"
    first = prepare(*command)
    made = part.stat().st_mtime_ns
    assert prepare(*command) == first
    assert part.stat().st_mtime_ns == made
    chunk = source / "train" / "000000.torch"
    chunk.write_bytes(chunk.read_bytes())
    prepare(*command)
    assert part.stat().st_mtime_ns > made


def start(source: Path, output: Path, number: int, total: int) -> subprocess.Popen:
    command = [sys.executable, str(TOOL), "convert", "--from", "chunks", str(source), "--output", str(output), *SMALL]
    return subprocess.Popen(
        [*command, "--short_side", "840", "--part", f"{number}/{total}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_four_machines_killed_at_random_leave_what_one_machine_makes(prepare, write_root, make_scene, tmp_path, seed):
    source = write_root(*([make_scene(f"s{i}", frames=30, size=(900, 1200))] for i in range(24)))
    whole = prepare("convert", "--from", "chunks", source, *SMALL, "--short_side", 840, "--output", tmp_path / "whole")
    assert whole.returncode == 0
    chance, kills = random.Random(seed), 0
    left = {number: start(source, tmp_path / "out", number, 4) for number in range(1, 5)}
    until = time.monotonic() + 400
    while left and time.monotonic() < until:
        time.sleep(chance.uniform(0.3, 1.2))
        number = chance.choice(list(left))
        process = left[number]
        if process.poll() is None and kills < 10:
            process.send_signal(chance.choice([signal.SIGKILL, signal.SIGTERM]))
            kills += 1
        if process.poll() is not None or kills < 10:
            _, said = process.communicate()
            if process.returncode == 0:
                del left[number]
            else:
                assert process.returncode in (-signal.SIGKILL, -signal.SIGTERM, 143), said.decode()
                left[number] = start(source, tmp_path / "out", number, 4)
    assert not left
    assert kills == 10
    assert prepare("merge", tmp_path / "out").returncode == 0
    assert same_conversion(tmp_path / "whole" / "train", tmp_path / "out" / "train")
