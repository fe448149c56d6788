"""Chunks are read in place; messages name broken scenes and frames, and the others are used."""

import json
import os
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from openrayzer.data.chunk_files import table
from openrayzer.data.chunk_files.format import write_chunk, write_index
from openrayzer.data.chunk_files.side_index import FRAME_INDEX_NAME
from openrayzer.data.preparing.indexing import index_chunks
from openrayzer.data.sources import chunks as chunks_module
from openrayzer.data.sources.chunks import Chunks
from openrayzer.interfaces import BrokenSceneError, InputError


def opened(root, **settings) -> Chunks:
    dataset = Chunks(root=root, **settings)
    dataset.open()
    return dataset


def keys(dataset: Chunks) -> list[str]:
    return [dataset.key(scene) for scene in range(len(dataset))]


SCAN_LIMITS = [pytest.param(64, id="checked"), pytest.param(0, id="trusted")]


@pytest.mark.parametrize("scan_limit", SCAN_LIMITS)
def test_frames_are_those_written(write_root, make_scene, scan_limit):
    root = write_root([make_scene("a", frames=5), make_scene("b", frames=3)], [make_scene("c", frames=4)])
    dataset = opened(root, scan_limit=scan_limit)
    assert keys(dataset) == ["a", "b", "c"]
    assert [dataset.num_frames(scene) for scene in range(3)] == [5, 3, 4]
    assert dataset.problems == ()
    frames = dataset.read(0, [3, 1, 3])
    assert [tuple(image[0, 0]) for image in frames.images] == [(3, 252, 7), (1, 254, 7), (3, 252, 7)]
    assert frames.images[0].shape == (24, 32, 3)
    np.testing.assert_allclose(frames.c2w[:, 0, 3], [3, 1, 3], atol=1e-5)
    np.testing.assert_allclose(frames.intrinsics[0], [0.8, 1.1, 0.5, 0.5], rtol=1e-6)


def test_split_is_its_own_folder(write_root, make_scene):
    write_root([make_scene("a")])
    root = write_root([make_scene("b")], split="test")
    assert keys(opened(root)) == ["a"]
    assert keys(opened(root, split="test")) == ["b"]


@pytest.mark.parametrize("scan_limit", SCAN_LIMITS)
def test_only_listed_chunks_are_used(write_root, make_scene, scan_limit):
    root = write_root([make_scene("a", frames=3)], [make_scene("b", frames=4)], [make_scene("c", frames=5)])
    dataset = opened(root, scan_limit=scan_limit, chunks=("00000[01].torch", "000001.torch"))
    assert [(dataset.key(scene), dataset.num_frames(scene)) for scene in range(len(dataset))] == [("a", 3), ("b", 4)]
    index_chunks(root / "train", root / "train" / FRAME_INDEX_NAME, processes=1)
    dataset = opened(root, chunks=("000002.torch",))
    assert (keys(dataset), dataset.num_frames(0), len(dataset.read(0, [4]).images)) == (["c"], 5, 1)
    with pytest.raises(InputError, match=r"no chunk of .*train has the name 00001\?.torch"):
        opened(root, chunks=("000000.torch", "00001?.torch"))


@pytest.mark.parametrize("scan_limit", SCAN_LIMITS)
def test_index_is_not_needed(write_root, make_scene, scan_limit):
    dataset = opened(write_root([make_scene("a")], [make_scene("b")], index=False), scan_limit=scan_limit)
    assert keys(dataset) == ["a", "b"]
    assert dataset.problems == ()


@pytest.mark.parametrize("text", ['{"a": "0000', "[1, 2]", '{"a": 3}', "[" * 100_000])
@pytest.mark.parametrize("scan_limit", SCAN_LIMITS)
def test_damaged_index_is_reported_and_done_without(write_root, make_scene, scan_limit, text):
    root = write_root([make_scene("a")])
    (root / "train" / "index.json").write_text(text)
    dataset = opened(root, scan_limit=scan_limit)
    assert keys(dataset) == ["a"]
    assert len(dataset.problems) == 1
    assert "the program searched all chunks instead" in dataset.problems[0]


def test_index_that_names_other_scenes_is_reported(write_root, make_scene):
    root = write_root([make_scene("a"), make_scene("b")])
    write_index(root / "train", {"a": "000000.torch", "gone": "000000.torch", "far": "../../etc/passwd"})
    dataset = opened(root)
    assert keys(dataset) == ["a", "b"]
    report = "\n".join(dataset.problems)
    assert "scene 'gone' should be in 000000.torch, which has no such scene" in report
    assert "scene 'far' should be in '../../etc/passwd', which does not exist" in report
    assert "1 scene(s) of 000000.torch are not listed: 'b'" in report


def test_large_folder_is_opened_without_reading_its_chunks(write_root, make_scene, monkeypatch):
    root = write_root([make_scene("a")], [make_scene("b")])
    looked_at = []
    read = chunks_module.read_chunk_table
    monkeypatch.setattr(
        chunks_module,
        "read_chunk_table",
        lambda path, **settings: looked_at.append(path.name) or read(path, **settings),
    )
    dataset = opened(root, scan_limit=1)
    assert looked_at == []
    assert dataset.num_frames(1) == 8
    dataset.read(1, [0, 1])
    assert looked_at == ["000001.torch"]


def test_chunk_that_the_index_leaves_out_is_looked_through(write_root, make_scene):
    root = write_root([make_scene("a")], [make_scene("b")])
    write_index(root / "train", {"a": "000000.torch"})
    assert keys(opened(root, scan_limit=1)) == ["a", "b"]


def test_trusted_scene_that_is_broken_is_named_on_use(write_root, make_scene, make_cameras):
    broken = make_scene("b")
    root = write_root([make_scene("a"), replace(broken, cameras=np.full_like(broken.cameras, np.nan))])
    dataset = opened(root, scan_limit=0)
    assert keys(dataset) == ["a", "b"]
    with pytest.raises(BrokenSceneError, match=r"000000\.torch: scene 'b' is left out: not one frame has a usable"):
        dataset.num_frames(1)
    write_index(root / "train", {"a": "000000.torch", "ghost": "000000.torch"})
    dataset.open()
    with pytest.raises(BrokenSceneError, match=r"it has no scene 'ghost', although index\.json lists it"):
        dataset.read(1, [0])


def test_first_of_two_equal_names_is_kept(write_root, make_scene):
    dataset = opened(write_root([make_scene("a", frames=5)], [make_scene("a", frames=6)], index=False))
    assert keys(dataset) == ["a"]
    assert dataset.num_frames(0) == 5
    assert (
        "000001.torch: scene 'a' is left out, because 000000.torch has a scene of the same name" in dataset.problems[0]
    )


def test_broken_scene_does_not_hide_its_namesake(write_root, make_scene):
    broken = make_scene("a", frames=5)
    broken = replace(broken, cameras=np.zeros_like(broken.cameras))
    dataset = opened(write_root([broken, make_scene("a", frames=6)], index=False))
    assert dataset.num_frames(0) == 6
    assert len(dataset.read(0, [5]).images) == 1


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        (6, np.nan, "not finite"),
        (9, np.inf, "not finite"),
        (6, 0.5, "rotation is off by"),
        (0, 0.0, "focal lengths 0 and 1.1 are not above 0"),
        (1, -1.0, "not above 0"),
    ],
)
def test_frame_with_a_bad_camera_is_missing_and_keeps_its_number(write_root, make_scene, column, value, fault):
    scene = make_scene("a")
    scene.cameras[3, column] = value
    dataset = opened(write_root([scene]))
    assert dataset.num_frames(0) == 8
    assert "'a': 1 frame(s) marked missing, the first is frame 3" in dataset.problems[0]
    assert tuple(dataset.read(0, [4]).images[0][0, 0]) == (4, 251, 7)
    with pytest.raises(BrokenSceneError, match=rf"000000\.torch: scene 'a', frame 3: .*{fault}"):
        dataset.read(0, [2, 3])


def test_mirrored_camera_is_missing(write_root, make_scene):
    scene = make_scene("a")
    scene.cameras[2, 6:] = [-1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]
    with pytest.raises(BrokenSceneError, match=r"frame 2: .*mirror image"):
        opened(write_root([scene])).read(0, [2])


@pytest.mark.parametrize("image", [b"", b"no image", b"\xff\xd8\xff\xe0\x00\x10JFIF"])
def test_frame_with_a_bad_image_is_named_when_read(write_root, make_scene, image):
    scene = make_scene("a")
    scene.images[5] = image
    dataset = opened(write_root([scene]))
    assert len(dataset.read(0, [4, 6]).images) == 2
    with pytest.raises(BrokenSceneError, match=r"000000\.torch: scene 'a', frame 5: "):
        dataset.read(0, [4, 5])


def test_flipped_bit_is_noticed(write_root, make_scene):
    scene = make_scene("a")
    root = write_root([scene])
    path = root / "train" / "000000.torch"
    data = bytearray(path.read_bytes())
    data[data.index(scene.images[2]) + len(scene.images[2]) - 30] ^= 1
    path.write_bytes(data)
    with pytest.raises(BrokenSceneError, match=r"frame 2: .* does not match its checksum"):
        opened(root).read(0, [2])


@pytest.mark.parametrize("frame", [-1, 8])
def test_frame_beyond_the_scene_is_named(write_root, make_scene, frame):
    with pytest.raises(BrokenSceneError, match=rf"frame {frame}: the scene has 8 frames"):
        opened(write_root([make_scene("a")])).read(0, [frame])


def test_images_may_differ_in_size_and_kind(write_root, make_scene, make_picture):
    scene = make_scene("a")
    scene.images[1] = make_picture(1, size=(10, 40), form=".jpg")
    shapes = [image.shape for image in opened(write_root([scene])).read(0, [0, 1]).images]
    assert shapes == [(24, 32, 3), (10, 40, 3)]


def test_tensors_may_share_a_storage(tmp_path, make_picture, make_cameras):
    images = [make_picture(i) for i in range(3)]
    whole = torch.from_numpy(np.frombuffer(b"".join(images), np.uint8).copy())
    parts = list(torch.split(whole, [len(image) for image in images]))
    cameras = torch.cat([torch.zeros(2, 18), torch.from_numpy(make_cameras(3))])[2:]
    (tmp_path / "train").mkdir()
    torch.save([{"key": "a", "cameras": cameras, "images": parts}], tmp_path / "train" / "0.torch")
    frames = opened(tmp_path).read(0, [2])
    assert tuple(frames.images[0][0, 0]) == (2, 253, 7)
    np.testing.assert_allclose(frames.c2w[0, 0, 3], 2, atol=1e-5)


def scene_of(images, key="a") -> dict[str, object]:
    """A scene for torch.save, with usable cameras and a list of images that scenes may share."""
    cameras = torch.eye(4)[:3].reshape(1, 12).expand(len(images), 12)
    return {"key": key, "images": images, "cameras": torch.cat([torch.ones(len(images), 6), cameras], dim=1)}


def save(root, scenes):
    (root / "train").mkdir()
    torch.save(scenes, root / "train" / "000000.torch")


@pytest.mark.parametrize("posed", [True, False])
def test_scenes_that_share_images_cannot_outgrow_their_file(tmp_path, make_picture, posed):
    own, shared = (torch.from_numpy(np.frombuffer(make_picture(i), np.uint8).copy()) for i in (1, 2))
    shared = scene_of([shared] * 100)
    many = [shared | {"key": f"s{i}"} for i in range(1000)]
    save(tmp_path, [scene_of([own], "own"), *many])
    dataset = opened(tmp_path, posed=posed)
    size = (tmp_path / "train" / "000000.torch").stat().st_size
    assert dataset.key(0) == "own"
    assert 1 < len(dataset) < 100
    assert sum(dataset._table(i).images["size"].sum() for i in range(len(dataset))) < 4 * size
    assert (
        "its 100 images need more bytes than the file has: it refers to the same data many times"
        in dataset.problems[-1]
    )


@pytest.mark.parametrize("posed", [True, False])
def test_images_are_counted_before_they_are_looked_at(tmp_path, monkeypatch, posed):
    """Ten references to one list of 200,000 images cost no memory, because neither cameras nor bytes back them."""
    images, cameras = [torch.zeros(1, dtype=torch.uint8)] * 200_000, torch.zeros(3, 18)
    bombs = [{"key": f"b{i}", "images": images, "cameras": cameras} for i in range(10)]
    save(tmp_path, [scene_of(images[:1], "good"), *bombs])
    looked, look = [], table._byte_range
    monkeypatch.setattr(
        table, "_byte_range", lambda entries, tensor, what: looked.append(what) or look(entries, tensor, what)
    )
    tables = table.read_chunk_table(tmp_path / "train" / "000000.torch", posed=posed)
    assert [table.key for table in tables if not table.fault] == ["good"]
    assert len(looked) < 10


def test_a_scene_may_list_an_image_again(tmp_path, make_picture):
    images = [torch.from_numpy(np.frombuffer(make_picture(i), np.uint8).copy()) for i in range(4)]
    save(tmp_path, [scene_of([*images, images[3], images[3]])])
    dataset = opened(tmp_path)
    assert (dataset.problems, dataset.num_frames(0)) == ((), 6)
    assert tuple(dataset.read(0, [5]).images[0][0, 0]) == (3, 252, 7)


@pytest.mark.parametrize(
    "scenes",
    [
        pytest.param([{"key": "a"}] * 100_000, id="one scene again and again"),
        pytest.param([3] * 100_000, id="no scenes"),
        pytest.param([{"key": key, "n": n} for key in ["k" * 10_000] for n in range(100)], id="a long name"),
    ],
)
def test_more_scenes_than_a_file_can_hold_are_refused_with_it(write_root, make_scene, scenes):
    root = write_root([make_scene("a")], index=False)
    torch.save(scenes, root / "train" / "000001.torch")
    dataset = opened(root)
    assert keys(dataset) == ["a"]
    assert len(dataset.problems) == 1
    assert f"000001.torch: its {len(scenes)} scenes need more bytes than the file has" in dataset.problems[0]


def test_a_long_address_is_left_out(tmp_path, make_picture):
    image = torch.from_numpy(np.frombuffer(make_picture(0), np.uint8).copy())
    save(tmp_path, [scene_of([image], f"s{n}") | {"url": "u" * n} for n in (2048, 2049)])
    dataset = opened(tmp_path)
    assert [dataset.origin(scene).url for scene in range(2)] == ["u" * 2048, ""]


@pytest.mark.parametrize("scan_limit", SCAN_LIMITS)
def test_chunk_that_is_a_pipe_is_named(write_root, make_scene, waiting_pipe, scan_limit):
    root = write_root([make_scene("a")])
    pipe = waiting_pipe(root / "train" / "000001.torch")
    (root / "train" / "000002.torch").mkdir()
    dataset = opened(root, scan_limit=scan_limit)
    assert keys(dataset) == ["a"]
    assert f"{pipe}: it is not a regular file" in dataset.problems
    assert f"{root / 'train' / '000002.torch'}: it is not a regular file" in dataset.problems


@pytest.mark.parametrize("name", ["index.json", "frame_index.bin"])
def test_index_that_is_no_file_is_named_and_done_without(write_root, make_scene, waiting_pipe, name):
    root = write_root([make_scene("a")], index=False)
    path = waiting_pipe(root / "train" / name)
    dataset = opened(root)
    assert keys(dataset) == ["a"]
    assert "it is not a regular file" in dataset.problems[0]
    for place, said in (("/dev/zero", "it is not a regular file"), ("nowhere", "no such file")):
        path.unlink()
        path.symlink_to(place)
        dataset = opened(root)
        assert keys(dataset) == ["a"]
        assert said in dataset.problems[0].lower()


@pytest.mark.parametrize("key", ["../evil", "/etc/passwd", "a/../../b", "..\\evil", "", "a\nb", "a\0b"])
def test_key_that_could_leave_a_folder_is_left_out(write_root, make_scene, key):
    dataset = opened(write_root([make_scene("good"), make_scene(key)], index=False))
    assert keys(dataset) == ["good"]
    assert "its key cannot be part of a file name" in dataset.problems[0]


@pytest.mark.parametrize("key", ["場景_Ω_café_🦊 1", "1K/0a1b", "dl3dv_ff"])
def test_other_keys_are_kept(write_root, make_scene, key):
    assert keys(opened(write_root([make_scene(key)]))) == [key]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({"key": "a"}, "holds a dict"),
        ([1], "not a dict with a text 'key'"),
        ([{"key": 3}], "not a dict with a text 'key'"),
        ([{"key": "a", "images": [], "cameras": torch.zeros(0, 18)}], "'a' is left out: it has no frames"),
        ([{"key": "a", "cameras": torch.zeros(0, 18)}], "no list of images"),
        ([{"key": "a", "images": ["x"], "cameras": torch.zeros(1, 18)}], "image 0 is not a uint8 tensor"),
        ([{"key": "a", "images": [torch.zeros(3)], "cameras": torch.zeros(1, 18)}], "image 0 is not a uint8 tensor"),
        ([{"key": "a", "images": [torch.zeros(3, dtype=torch.uint8)]}], "no tensor 'cameras'"),
        ([scene_of([torch.zeros(6, dtype=torch.uint8)[::2]])], "image 0 has no plain storage"),
        ([], "its chunks are empty"),
    ],
)
def test_wrong_content_is_named(tmp_path, content, fault):
    (tmp_path / "train").mkdir()
    torch.save(content, tmp_path / "train" / "000000.torch")
    with pytest.raises(InputError, match=r"no usable scene in .*") as caught:
        opened(tmp_path)
    assert fault in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.6, 0.99])
def test_cut_chunk_is_named_and_the_others_are_used(write_root, make_scene, share):
    root = write_root([make_scene("a")], [make_scene("b")])
    path = root / "train" / "000000.torch"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    dataset = opened(root)
    assert keys(dataset) == ["b"]
    assert "000000.torch: " in dataset.problems[0]


def test_damaged_chunk_never_ends_in_another_error(write_root, make_scene):
    root = write_root([make_scene("a", frames=2)], index=False)
    path = root / "train" / "000000.torch"
    original, generator = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(original)
        for place in generator.integers(0, len(data), 8):
            data[place] = generator.integers(256)
        path.write_bytes(data)
        try:
            dataset = opened(root)
            dataset.read(0, range(dataset.num_frames(0)))
        except (InputError, BrokenSceneError) as error:
            assert str(path.parent) in str(error)  # noqa: PT017


def test_old_file_is_refused_with_a_remedy(tmp_path):
    (tmp_path / "train").mkdir()
    torch.save([], tmp_path / "train" / "0.torch", _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match=r"is not a zip file.*weights_only=True"):
        opened(tmp_path)


def test_compressed_file_is_refused(write_root, make_scene, tmp_path):
    path = write_root([make_scene("a")]) / "train" / "000000.torch"
    shutil.unpack_archive(path, tmp_path / "unpacked", "zip")
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "unpacked")
    os.replace(tmp_path / "packed.zip", path)
    with pytest.raises(InputError, match=r"is compressed or encrypted; torch\.save writes neither"):
        opened(path.parents[1])


def test_missing_root_missing_split_and_empty_folder_have_different_messages(tmp_path, write_root, make_scene):
    root = write_root([make_scene("a")])
    with pytest.raises(InputError, match=r"no folder .*root/no/where; the nearest that exists is .*root, with .*train"):
        opened(root / "no" / "where")
    with pytest.raises(InputError, match=r"root has no folder 'test'; it has the folders train"):
        opened(root, split="test")
    with pytest.raises(InputError, match=r"train itself holds chunks, so root should be .*root"):
        opened(root / "train")
    with pytest.raises(InputError, match="is a file; root must be the folder"):
        opened(root / "train" / "index.json")
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match=r"looked for .*empty/train/\*\.torch, found nothing"):
        opened(tmp_path / "empty")


def test_opening_again_finds_changes(write_root, make_scene):
    root = write_root([make_scene("a")])
    dataset = opened(root)
    write_chunk(root / "train" / "000001.torch", [make_scene("b")])
    write_index(root / "train", {"a": "000000.torch", "b": "000001.torch"})
    dataset.open()
    assert keys(dataset) == ["a", "b"]


def test_a_table_is_read_once_as_long_as_memory_allows(write_root, make_scene, monkeypatch):
    root = write_root(*[[make_scene(f"s{i}", frames=2)] for i in range(6)])
    looked = []
    monkeypatch.setattr(
        chunks_module, "read_chunk_table", lambda path, posed: looked.append(path) or read(path, posed=posed)
    )
    read = table.read_chunk_table

    def tables_read(room):
        monkeypatch.setattr(chunks_module, "_CACHED_TABLES", room)
        dataset = opened(root)
        looked.clear()
        for scene in [*range(6), *range(6)]:
            dataset.read(scene, [0])
        return len(looked)

    assert tables_read(room=10_000) == 6
    assert tables_read(room=3000) == 12  # each table is dropped before it is needed again
    assert tables_read(room=0) == 12


EXPECTED = {  # case: (usable scenes, scenes with a broken frame, part of the report)
    "truncated_chunk": ([], [], "was it cut short?"),
    "empty_file": ([], [], "the file is empty"),
    "malicious_pickle": ([], [], "which could run code"),
    "malicious_pickle_legacy": ([], [], "never unpickled"),
    "missing_cameras": (["good_0"], [], "'bad_0' is left out: it has no tensor 'cameras'"),
    "camera_rows_mismatch": (["good_0"], [], "'bad_0' is left out: cameras have shape (5, 18)"),
    "nan_pose": (["good_0", "bad_0"], ["bad_0"], "frame 3: its camera has numbers that are not finite"),
    "not_jpeg": (["good_0", "bad_0"], ["bad_0"], "frame 2: it is neither JPEG nor PNG"),
    "zero_byte_image": (["good_0", "bad_0"], ["bad_0"], "frame 4: it has no bytes"),
    "too_few_frames": (["good_0", "bad_0"], [], "'bad_none' is left out: it has no frames"),
    "noninvertible_rotation": (["good_0", "bad_0"], ["bad_0"], "frame 5: its camera's rotation is off by"),
    "huge_image_header": (["good_0", "bad_0"], ["bad_0"], "frame 1: its header says 65500 x 65500 pixels"),
    "path_traversal_key": (["good_0"], [], "'../../evil' is left out"),
    "duplicate_keys": (["good_0"], [], "'good_0' is left out, because 000000.torch has a scene of the same name"),
    "unicode_key": (["good_0", "場景_Ω_café_🦊 1"], [], ""),
    "empty_list": ([], [], "its chunks are empty"),
    "index_missing_chunk": (["good_0"], [], "'ghost' should be in '000007.torch', which does not exist"),
    "camera_columns_12": (["good_0"], [], "'bad_0' is left out: cameras have shape (8, 12)"),
    "mixed_image_sizes": (["good_0", "bad_0"], [], ""),
    "chunk_is_dict": ([], [], "this file holds a dict"),
    "no_index_json": (["good_0"], [], ""),
}


@pytest.mark.parametrize("case", EXPECTED)
@pytest.mark.parametrize("split", ["train", "test"])
def test_published_bad_chunks(shared_data, tmp_path, monkeypatch, case, split):
    usable, broken, report = EXPECTED[case]
    monkeypatch.chdir(tmp_path)
    dataset = Chunks(root=shared_data / "bad" / case, split=split)
    said, failed = [], []
    try:
        dataset.open()
    except InputError as error:
        said.append(str(error))
    for scene in range(len(dataset)):
        try:
            dataset.read(scene, range(dataset.num_frames(scene)))
        except BrokenSceneError as error:
            failed.append(dataset.key(scene))
            said.append(str(error))
    assert (keys(dataset), failed) == (usable, broken)
    assert report in "\n".join([*said, *dataset.problems])
    assert not list(tmp_path.iterdir())  # no code was run


def test_published_bad_chunks_are_all_expected(shared_data):
    cases = json.loads((shared_data / "bad" / "MANIFEST.json").read_text(encoding="utf-8"))["cases"]
    assert {case for case in cases if "/" not in case} == set(EXPECTED)


def test_real_chunks_agree_with_torch(shared_data):
    root = shared_data / "re10k_style"
    dataset = opened(root, split="test")
    stored = torch.load(root / "test" / "000001.torch", weights_only=True)
    for scene in stored:
        frames = dataset.read(keys(dataset).index(scene["key"]), [0, 7])
        image = cv2.imdecode(scene["images"][7].numpy(), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(frames.images[1], image[:, :, ::-1])
        w2c = np.eye(4)
        w2c[:3] = scene["cameras"][7, 6:].double().reshape(3, 4)
        np.testing.assert_allclose(frames.c2w[1], np.linalg.inv(w2c), atol=1e-4)
