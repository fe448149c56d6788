"""index, verify and convert report the faults of data sets that are broken in known ways."""

import json

import pytest

from openrayzer.data.sources.chunks import Chunks

OUTCOMES = {  # case: exit codes of index, verify, convert; written scenes: (frames, missing frames); part of the output
    "truncated_chunk": (1, 1, 1, {}, "was it cut short?"),
    "empty_file": (1, 1, 1, {}, "the file is empty"),
    "malicious_pickle": (1, 1, 1, {}, "which could run code"),
    "malicious_pickle_legacy": (1, 1, 1, {}, "never unpickled"),
    "missing_cameras": (1, 1, 1, {"good_0": (8, [])}, "'bad_0' is left out: it has no tensor 'cameras'"),
    "camera_rows_mismatch": (1, 1, 1, {"good_0": (8, [])}, "'bad_0' is left out: cameras have shape (5, 18)"),
    "nan_pose": (1, 1, 1, {"good_0": (8, []), "bad_0": (8, [3])}, "frame 3: its camera has numbers that are not"),
    "not_jpeg": (1, 1, 1, {"good_0": (8, []), "bad_0": (8, [2])}, "frame 2: it is neither JPEG"),
    "zero_byte_image": (1, 1, 1, {"good_0": (8, []), "bad_0": (8, [4])}, "frame 4: it has no bytes"),
    "too_few_frames": (1, 1, 1, {"good_0": (8, []), "bad_0": (1, [])}, "'bad_none' is left out: it has no frames"),
    "noninvertible_rotation": (1, 1, 1, {"good_0": (8, []), "bad_0": (8, [5])}, "frame 5: its camera's rotation is"),
    "huge_image_header": (1, 1, 1, {"good_0": (8, []), "bad_0": (8, [1])}, "frame 1: its header says 65500 x 65500"),
    "path_traversal_key": (1, 1, 1, {"good_0": (8, [])}, "'../../evil' is left out"),
    "duplicate_keys": (
        1,
        1,
        1,
        {"good_0": (8, [])},
        "'good_0' is left out, because 000000.torch has a scene of the same name",
    ),
    "unicode_key": (0, 0, 0, {"good_0": (8, []), "場景_Ω_café_🦊 1": (8, [])}, "0 problem(s)"),
    "empty_list": (1, 1, 1, {}, "its chunks are empty"),
    "index_missing_chunk": (1, 1, 1, {"good_0": (8, [])}, "'ghost' should be in '000007.torch'"),
    "camera_columns_12": (1, 1, 1, {"good_0": (8, [])}, "'bad_0' is left out: cameras have shape (8, 12)"),
    "mixed_image_sizes": (0, 1, 0, {"good_0": (8, []), "bad_0": (8, [])}, "frame 3: its pixels are not square"),
    "chunk_is_dict": (1, 1, 1, {}, "this file holds a dict"),
    "no_index_json": (0, 0, 0, {"good_0": (8, [])}, "0 problem(s)"),
    "dl3dv/missing_image": (2, 1, 1, {"missing_image": (4, [1])}, "frame 1: frame_00002.png is not"),
    "dl3dv/path_traversal": (2, 1, 1, {"path_traversal": (4, [1])}, "leaves the scene's folder"),
    "dl3dv/no_focal": (2, 1, 1, {}, "it has no fl_x"),
    "dl3dv/cut_json": (2, 1, 1, {}, "it is not JSON, was it cut short?"),
    "dl3dv/nan_matrix": (2, 1, 1, {"nan_matrix": (4, [2])}, "frame 2: its camera has numbers that are not finite"),
    "dl3dv/duplicate_frame": (2, 1, 1, {"duplicate_frame": (5, [4])}, "and is listed again"),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_published_bad_data(shared_data, tmp_path, prepare, case):
    indexed, verified, converted, scenes, said = OUTCOMES[case]
    root, kind = shared_data / "bad" / case, "dl3dv" if case.startswith("dl3dv") else "chunks"
    before = sorted(tmp_path.iterdir())
    assert prepare("index", root, "--output", tmp_path / "index").returncode == indexed
    done = prepare("verify", "--from", kind, root)
    assert done.returncode == verified
    assert said in done.stdout + done.stderr
    assert prepare("convert", "--from", kind, root, "--output", tmp_path / "out").returncode == converted
    assert written(tmp_path / "out") == scenes
    assert {path.name for path in set(tmp_path.iterdir()) - set(before)} <= {"index", "out"}
    assert not list((shared_data / "bad").rglob("BAD_PICKLE_EXECUTED"))


def written(output) -> dict[str, tuple[int, list[int]]]:
    """Length and missing frames of each written scene; all other frames are readable."""
    if not (output / "train" / "manifest.json").exists():
        return {}
    dataset = Chunks(root=output)
    dataset.open()
    found = {}
    for scene in range(len(dataset)):
        missing = sorted(dataset._table(scene).frame_faults)
        dataset.read(scene, [frame for frame in range(dataset.num_frames(scene)) if frame not in missing])
        found[dataset.key(scene)] = (dataset.num_frames(scene), missing)
    return found


def test_every_published_case_is_in_the_table(shared_data):
    cases = json.loads((shared_data / "bad" / "MANIFEST.json").read_text(encoding="utf-8"))["cases"]
    assert {case for case in cases if not case.startswith("evaluation_index/")} == set(OUTCOMES)
