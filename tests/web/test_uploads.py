"""Uploads are checked before they are decoded, and every refusal says what would work."""

import struct
import zlib
from pathlib import Path

import pytest

from openrayzer.web import uploads
from openrayzer.web.answers import Refused
from openrayzer.web.uploads import take_upload


def write_bomb(file: Path, side: int = 60_000) -> Path:
    """Write a PNG file of a few kilobytes that claims side x side pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1_000_000), 9)
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    return file


def test_photos_get_safe_names_and_keep_their_order(photos: list[Path], tmp_path: Path):
    upload = take_upload(photos, tmp_path / "taken")
    assert upload.source == tmp_path / "taken"
    assert upload.problems == ()
    assert sorted(file.name for file in upload.source.iterdir()) == ["a_1.jpg", "bän_2_.png", "c.webp", "d.jpeg"]


def test_two_photos_of_the_same_name_are_both_taken(photos: list[Path], tmp_path: Path):
    upload = take_upload([photos[0], photos[0]], tmp_path / "taken")
    assert sorted(file.name for file in upload.source.iterdir()) == ["a_1.jpg", "a_1_2.jpg"]


def test_a_name_cannot_lead_out_of_the_folder(tmp_path: Path, photos: list[Path]):
    hidden = photos[0].rename(tmp_path / "..hidden..jpg")
    upload = take_upload([hidden, photos[1]], tmp_path / "taken")
    assert all(not file.name.startswith(".") for file in upload.source.iterdir())


def test_a_photo_that_claims_an_enormous_size_is_left_out_undecoded(photos: list[Path], tmp_path: Path):
    upload = take_upload([*photos, write_bomb(tmp_path / "bomb.png")], tmp_path / "taken")
    assert upload.problems == ("bomb.png: it has 60000 x 60000 pixels, more than the 67 million allowed.",)
    assert not (upload.source / "bomb.png").exists()


def test_a_text_with_the_name_of_a_photo_is_left_out(photos: list[Path], tmp_path: Path):
    text = tmp_path / "notes.jpg"
    text.write_text("milk, bread, eggs")
    (problem,) = take_upload([*photos, text], tmp_path / "taken").problems
    assert problem.startswith("notes.jpg: it is not a photo that can be read (")


def test_two_usable_photos_are_the_least(photos: list[Path], tmp_path: Path):
    with pytest.raises(Refused, match="One photo is not enough: add another one of the same place"):
        take_upload(photos[:1], tmp_path / "one")
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(Refused, match=r"Fewer than 2 photos can be used. empty.jpg: it is not a photo"):
        take_upload([photos[0], tmp_path / "empty.jpg"], tmp_path / "two")


def test_other_files_are_named(photos: list[Path], tmp_path: Path):
    (tmp_path / "scene.pdf").write_bytes(b"%PDF")
    with pytest.raises(Refused, match=r"scene.pdf: neither a photo \(.*jpg.*\) nor a video \(.*mp4.*\)"):
        take_upload([*photos, tmp_path / "scene.pdf"], tmp_path / "taken")


def test_nothing_and_mixtures_are_refused(photos: list[Path], tmp_path: Path):
    (tmp_path / "clip.mp4").write_bytes(b"")
    with pytest.raises(Refused, match="Add photos or a video first"):
        take_upload([], tmp_path / "taken")
    with pytest.raises(Refused, match="either photos or a single video"):
        take_upload([photos[0], tmp_path / "clip.mp4"], tmp_path / "taken")


def test_number_and_size_are_bounded(photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "clip.mp4").write_bytes(bytes(2000))
    monkeypatch.setattr(uploads, "MOST_PHOTOS", 3)
    with pytest.raises(Refused, match="4 photos are too many; the page takes up to 3"):
        take_upload(photos, tmp_path / "many")
    monkeypatch.setattr(uploads, "MOST_VIDEO_BYTES", 1000)
    with pytest.raises(Refused, match=r"clip.mp4 has more than 0 MB; cut or compress"):
        take_upload([tmp_path / "clip.mp4"], tmp_path / "video")
    monkeypatch.setattr(uploads, "MOST_PHOTO_BYTES", 10)
    with pytest.raises(Refused, match=r"a 1.JPG: it has more than 0 MB"):
        take_upload(photos[:2], tmp_path / "large")
