"""Every frame of a video is the one shown at its time, in any order and in any process."""

import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from openrayzer.data.loading.numbered_batches import load_batches
from openrayzer.data.sources import video
from openrayzer.data.sources.video import Video
from openrayzer.data.sources.video_decoder import VideoIndex
from openrayzer.interfaces import BrokenSceneError, InputError

av = pytest.importorskip("av")
SIZE = (48, 64)


def opened(root: Path, **settings) -> Video:
    dataset = Video(root=root, **settings)
    dataset.open()
    return dataset


def picture(frame: int) -> np.ndarray:
    """A picture of the frame's number in binary, as eight squares; the right half is darker."""
    image = np.full((*SIZE, 3), 128, np.uint8)
    for bit in range(8):
        image[:24, 8 * bit : 8 * bit + 8] = 230 if frame >> bit & 1 else 20
    image[24:, 32:] = 60
    return image


def number(image: np.ndarray) -> int:
    return sum((int(image[4:20, 8 * bit + 2 : 8 * bit + 6].mean()) > 128) << bit for bit in range(8))


def write_video(
    path: Path,
    *,
    frames: int = 60,
    codec: str = "libx264",
    rotation: int = 0,
    times: list[int] | None = None,
    bf: int = 2,
    **options,
) -> Path:
    """A video of 30 frames per second with key frames 12 frames apart and frames that refer to later frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(
        str(path), "w", options={key: value for key, value in options.items() if key == "movflags"}
    ) as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height = SIZE[1], SIZE[0]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.options = {"g": "12", "bf": str(bf), "crf": "12"} if codec == "libx264" else {"g": "12"}
        if codec == "mpeg4":
            stream.codec_context.max_b_frames = bf
        if rotation:
            stream.set_display_rotation(rotation)
        for place in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(place), format="rgb24")
            frame.pts = times[place] if times else place
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4")


def read_numbers(dataset: Video, frames) -> list[int]:
    return [number(image) for image in dataset.read(0, frames).images]


def _read_one(dataset: Video, frame: int) -> list[int]:
    return read_numbers(dataset, [frame])


def test_every_frame_is_where_it_belongs(clip):
    dataset = opened(clip)
    assert (len(dataset), dataset.key(0), dataset.num_frames(0), dataset.posed) == (1, "clip.mp4", 60, False)
    assert read_numbers(dataset, range(60)) == list(range(60))
    frames = dataset.read(0, [0])
    assert (frames.c2w, frames.intrinsics, frames.images[0].shape) == (None, None, (*SIZE, 3))


def test_order_does_not_matter(clip):
    dataset, inorder = opened(clip), opened(clip).read(0, range(60)).images
    for frame in np.random.default_rng(0).permutation(np.tile(np.arange(60), 2)).tolist():
        np.testing.assert_array_equal(dataset.read(0, [frame]).images[0], inorder[frame])
    frames = [31, 2, 59, 2, 30]
    assert read_numbers(dataset, frames) == frames


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4", "libvpx-vp9"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_any_codec_and_container(tmp_path, codec, suffix):
    dataset = opened(write_video(tmp_path / f"x{suffix}", codec=codec, frames=40))
    frames = [25, 3, 24, 39, 0, 12]
    assert dataset.num_frames(0) == 40
    assert read_numbers(dataset, frames) == frames


@pytest.mark.parametrize(("codec", "bf"), [("mpeg4", 2), ("mpeg4", 0), ("mjpeg", 0), ("libx264", 0)])
def test_frames_of_avi_are_where_they_belong(tmp_path, codec, bf):
    dataset = opened(write_video(tmp_path / "x.avi", codec=codec, bf=bf, frames=30))
    assert dataset.num_frames(0) == 30
    assert read_numbers(dataset, [20, 3, 0, 12, 27]) == [20, 3, 0, 12, 27]


def copy_packets(source: Path, target: Path) -> Path:
    """The packets of a video, with times in the order of decoding."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.pts, packet.stream = packet.dts, stream
                new.mux(packet)
    return target


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
def test_a_video_that_does_not_say_when_frames_are_shown_is_refused(tmp_path, suffix):
    path = write_video(tmp_path / "else" / "x.avi")
    (tmp_path / "root").mkdir()
    copy_packets(path, tmp_path / "root" / f"x{suffix}")
    with pytest.raises(InputError, match=r"is left out: its times do not give the order .* ffmpeg -i IN .* OUT"):
        opened(tmp_path / "root")


def test_times_that_fall_where_a_frame_is_read_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("openrayzer.data.sources.video_decoder._TRIED", 0)
    dataset = opened(copy_packets(write_video(tmp_path / "x.avi"), tmp_path / "x.mp4"))
    with pytest.raises(BrokenSceneError, match=r"the times before it do not rise; to create new times: ffmpeg"):
        dataset.read(0, [11])


def test_frames_per_second_choose_frames(clip):
    dataset = opened(clip, fps=10.0)
    assert dataset.num_frames(0) == 20
    assert read_numbers(dataset, range(20)) == list(range(0, 60, 3))
    assert read_numbers(opened(clip, fps=7.0), range(4)) == [0, 4, 8, 12]  # on screen at 0, 1/7, 2/7, 3/7 seconds
    assert opened(clip, fps=90.0).num_frames(0) == 60


def test_frames_of_uneven_length_are_on_screen_until_the_next(tmp_path):
    times = [0, 1, 2, 30, 31, 60]
    path = write_video(tmp_path / "x.mp4", frames=6, times=times)
    assert read_numbers(opened(path), range(6)) == list(range(6))
    assert read_numbers(opened(path, fps=2.0), range(4)) == [0, 2, 3, 4]  # at 0, 15, 30, 45


def test_frames_on_screen_at_each_moment_are_those_of_the_definition():
    generator = np.random.default_rng(0)
    for _ in range(50):
        times = np.cumsum(generator.integers(1, 30, 20))
        fps = float(generator.choice([0.5, 3.0, 7.0, 25.0, 30.0]))
        passed = (times - times[0]) / 90.0
        moments = np.arange(int(passed[-1] * fps + 1e-6) + 1) / fps
        wanted = {int(times[passed <= moment + 1e-6][-1]) for moment in moments}
        assert VideoIndex(times, times[:1], 1 / 90).at_rate(fps).tolist() == sorted(wanted)


def test_a_frame_stamped_centuries_later_takes_no_memory():
    index = VideoIndex(np.array([0, 1, 2, 10**13]), np.array([0]), 1e-3)
    assert index.at_rate(30.0).tolist() == [0, 2, 10**13]  # 0.033 s later the third is on screen, and till the fourth


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_stored_rotation_is_applied(tmp_path, rotation):
    path = write_video(tmp_path / "x.mp4", frames=3, rotation=rotation)
    image = opened(path).read(0, [1]).images[0]
    turned = np.rot90(picture(1), rotation // 90)  # PyAV and numpy both turn against the clock
    assert image.shape == turned.shape
    assert np.abs(image.astype(int) - turned).mean() < 6


def test_workers_have_a_decoder_of_their_own(clip):
    dataset = opened(clip)
    dataset.read(0, [20])
    assert read_numbers(pickle.loads(pickle.dumps(dataset)), [21, 5]) == [21, 5]
    frames = [40, 22, 23, 59]
    batches = load_batches(partial(_read_one, dataset), numbers=frames, workers=2, prefetch=1)
    assert [batch[0] for batch in batches] == frames
    assert read_numbers(dataset, [21]) == [21]


COUNT_THREADS = """
import sys
import time
from pathlib import Path
from openrayzer.data.sources.video import Video

def threads():
    return len(list(Path("/proc/self/task").iterdir()))

before = threads()
dataset = Video(root=Path(sys.argv[1]))
dataset.open()
dataset.read(0, [20, 21, 40])
given_up = time.monotonic() + 5
while threads() > before and time.monotonic() < given_up:  # a thread that has ended stays listed for a moment
    time.sleep(0.01)
print(threads() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux to count threads")
def test_reading_starts_no_threads_that_a_forked_process_would_miss(clip):
    """The test runs in a separate process, in which no other code starts or ends threads."""
    command = [sys.executable, "-c", COUNT_THREADS, str(clip)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "0\n", done.stderr


def test_folders_of_videos_and_one_open_decoder(tmp_path):
    for name in ("b/10.mp4", "b/9.mkv", "a.mp4", "b/c/d.mp4"):
        write_video(tmp_path / name, frames=4)
    (tmp_path / "b" / "notes.txt").write_text("")
    dataset = opened(tmp_path)
    assert [dataset.key(scene) for scene in range(len(dataset))] == ["a.mp4", "b/9.mkv", "b/10.mp4", "b/c/d.mp4"]
    for scene in (0, 1, 0, 3):
        assert number(dataset.read(scene, [2]).images[0]) == 2
    assert dataset._decoder[1] == 3


def test_memory_does_not_hold_the_video(clip):
    dataset = opened(clip)
    dataset.read(0, range(60))
    assert len(pickle.dumps(dataset)) < 2000
    assert dataset.table(0).index.times.nbytes < 1000


@pytest.mark.parametrize("share", [0.7, 0.8, 0.9])
def test_a_video_cut_in_the_middle_ends_there(tmp_path, share):
    path = write_video(tmp_path / "root" / "x.mp4", movflags="faststart")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    dataset = opened(tmp_path / "root")
    assert dataset.num_frames(0) < 60
    assert "x.mp4: scene 'x.mp4': it is cut short: " in dataset.problems[0]
    for frame in range(dataset.num_frames(0)):
        try:
            assert number(dataset.read(0, [frame]).images[0]) == frame
        except BrokenSceneError as error:
            assert f"frame {frame}: it cannot be decoded" in str(error)  # noqa: PT017
            assert frame > 0


@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "libx264"), (".webm", "libvpx-vp9")])
def test_frames_cut_off_a_matroska_file_are_counted(tmp_path, suffix, codec):
    path = write_video(tmp_path / "root" / f"x{suffix}", codec=codec)
    assert opened(path).problems == ()
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    dataset = opened(path)
    lost = dataset.table(0).index.num_lost
    assert abs(lost + dataset.num_frames(0) - 60) <= 2
    assert f"it is cut short: {lost} frame(s) at its end are missing" in dataset.problems[0]


def test_a_length_that_is_wrong_by_a_few_frames_says_nothing(tmp_path):
    path = write_video(tmp_path / "x.mkv", times=[*range(57), 60, 64, 70])
    assert opened(path).problems == ()


def test_damage_in_the_middle_is_a_missing_frame_and_shifts_nothing(tmp_path):
    path = write_video(tmp_path / "x.mp4")
    data = bytearray(path.read_bytes())
    place = data.index(b"moov") // 2  # the pictures are before it
    data[place : place + 60] = np.random.default_rng(0).bytes(60)
    path.write_bytes(data)
    dataset = opened(path)
    good = []
    for frame in range(dataset.num_frames(0)):
        try:
            image = dataset.read(0, [frame]).images[0]
        except BrokenSceneError:
            continue
        assert number(image) == frame
        good.append(frame)
    assert 36 <= len(good) < 60


WRONG = {
    "empty": (b"", "it cannot be opened"),
    "text": (b"no video" * 100, "it cannot be opened"),
    "playlist": (b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n#EXT-X-ENDLIST\n", "it cannot be opened"),
    "zeros": (bytes(10000), "it cannot be opened"),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_files_are_left_out_and_named(tmp_path, case):
    write_video(tmp_path / "good.mp4", frames=4)
    (tmp_path / "wrong.mp4").write_bytes(WRONG[case][0])
    dataset = opened(tmp_path)
    assert len(dataset) == 1
    assert f"scene 'wrong.mp4' is left out: {WRONG[case][1]}" in dataset.problems[0]


def test_a_video_without_frames_is_left_out(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(InputError, match=r"scene 'sound\.mp4' is left out: .*the file has no video stream"):
        opened(tmp_path)


def test_a_link_out_of_the_root_is_left_out(tmp_path):
    write_video(tmp_path / "else" / "x.mp4", frames=4)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "x.mp4").symlink_to(tmp_path / "else" / "x.mp4")
    with pytest.raises(InputError, match=r"it is a link to .*else/x"):
        opened(tmp_path / "root")
    assert opened(tmp_path / "root", follow_links=True).num_frames(0) == 4


def test_missing_package_is_named(clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"videos need PyAV: pip install 'openrayzer\[video\]'"):
        opened(clip)


def test_nothing_there_and_a_wrong_rate_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no videos in .*: looked for"):
        opened(tmp_path)
    with pytest.raises(InputError, match="fps must be above 0"):
        Video(root=tmp_path, fps=0.0)


def test_real_video(shared_data):
    dataset = opened(shared_data / "unposed" / "ramen_1fps.mp4")
    assert dataset.num_frames(0) == 32
    whole = dataset.read(0, range(32)).images
    assert whole[0].shape == (336, 448, 3)
    np.testing.assert_array_equal(dataset.read(0, [17]).images[0], whole[17])


def test_many_videos_are_looked_into_once(tmp_path, monkeypatch):
    for place in range(20):
        write_video(tmp_path / f"{place:02}.mp4", frames=2)
    looked = []
    read_index = video.read_index
    monkeypatch.setattr(video, "read_index", lambda file: (looked.append(file.path.name), read_index(file))[1])
    for limit in (5, 100):
        dataset = opened(tmp_path, scan_limit=limit)
        for _ in range(2):
            assert [dataset.num_frames(scene) for scene in range(20)] == [2] * 20
            assert [number(dataset.read(scene, [1]).images[0]) for scene in range(20)] == [1] * 20
        assert sorted(looked) == [f"{place:02}.mp4" for place in range(20)]
        looked.clear()


def test_frames_are_stamped_with_the_times_at_which_they_are_shown(clip):
    origin = opened(clip).origin(0)
    assert origin.timestamps[:4].tolist() == pytest.approx([0, 1e6 / 30, 2e6 / 30, 3e6 / 30], abs=1)
