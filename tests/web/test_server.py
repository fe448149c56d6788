"""The command's arguments, and the modules of the page, which start without torch."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tool_runs import make_run

from openrayzer.web import server
from openrayzer.web.answers import Refused
from openrayzer.web.server import chosen_runs, named_runs, parser
from openrayzer.web.studio_process import StudioProcess

ROOT = Path(__file__).parents[2]


def test_the_page_is_for_this_machine_only_unless_asked():
    options = parser().parse_args([])
    assert options.host == "127.0.0.1"
    assert options.share is False


def test_folders_of_the_same_name_get_more_of_their_path(tmp_path: Path):
    folders = [tmp_path / "a/demo", tmp_path / "b/demo", tmp_path / "c"]
    assert [*named_runs(folders)] == ["demo", "b/demo", "c"]


def test_without_run_all_runs_with_weights_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, inside in (("trained", "checkpoints"), ("started", "samples")):
        (tmp_path / "runs" / name / inside).mkdir(parents=True)
        (tmp_path / "runs" / name / "experiment.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert [*chosen_runs(None)] == ["trained"]
    with pytest.raises(Refused, match="--run missing: there is no such folder"):
        chosen_runs([Path("missing")])


def test_a_public_address_that_cannot_be_opened_has_a_remedy():
    assert server.public_address("https://a1.gradio.live", 7860) == "openrayzer, for everybody: https://a1.gradio.live"
    note = server.public_address(None, 7861)
    assert note.startswith("note: --share: gradio's servers cannot be reached")
    assert "ssh -L 7861:127.0.0.1:7861" in note


def test_without_gradio_the_command_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # the environment is restored afterwards
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "")
    monkeypatch.setenv("no_proxy", "example.org")
    unstarted = StudioProcess.__new__(StudioProcess)
    with pytest.raises(Refused, match=r"pip install 'openrayzer\[web\]'"):
        server.opened_page(parser().parse_args([]), unstarted, [], folder=str(tmp_path), hub=True)
    assert os.environ["no_proxy"] == "example.org,127.0.0.1,localhost", "gradio's own request avoids proxies"
    assert server.main(["--run", str(tmp_path / "missing")]) == 2
    assert capsys.readouterr().err.startswith("error: --run ")


def test_the_process_of_the_page_does_not_import_torch():
    modules = "answers, limits, server, studio_process"
    code = f"import sys; from openrayzer.web import {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_worker_answers_streams_and_ends(tmp_path: Path):
    before = set(multiprocessing.active_children())
    run = make_run(tmp_path / "run")
    worker = StudioProcess({"tiny": str(run)}, folder=str(tmp_path / "studio"), device="cpu", hub=False)
    try:
        assert worker.studio.describe("tiny") == {"name": "rayzer", "size": "32 x 24", "views": 3, "refusal": ""}
        with pytest.raises(Refused, match="There is no model 'other' here"):
            worker.studio.describe("other")
        steps = worker.studio.reconstruct("visitor", "tiny", files=[], num_views=None)
        assert next(steps).text == "Loading the model"
        with pytest.raises(Refused, match="Add photos or a video first"):
            list(steps)
        steps.close()
    finally:
        worker.close()
    worker.restart()
    assert set(multiprocessing.active_children()) == before, "no worker starts after the end"


@pytest.mark.slow
def test_a_crashed_worker_is_replaced(tmp_path: Path):
    before = set(multiprocessing.active_children())
    worker = StudioProcess({}, folder=str(tmp_path / "studio"), device="cpu", hub=False)
    try:
        assert worker.studio.processor_seconds() > 0
        (process,) = set(multiprocessing.active_children()) - before
        process.kill()
        process.join()
        with pytest.raises((EOFError, ConnectionError)):
            worker.studio.processor_seconds()
        worker.restart()
        assert worker.studio.processor_seconds() > 0
    finally:
        worker.close()
