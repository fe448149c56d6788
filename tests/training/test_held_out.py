"""The evaluation of held-out clips while training."""

from openrayzer.evaluation.results.scene_result import SceneResult
from openrayzer.training.held_out import HeldOutResults, merged


def results(*names: str, problems: tuple[str, ...] = ()) -> HeldOutResults:
    scenes = [SceneResult(name, number, [0], [1], {}) for number, name in enumerate(names)]
    return HeldOutResults(scenes, {name: {"psnr": 20.0} for name in names}, list(problems))


def test_a_scene_that_every_process_measured_counts_once():
    alike = results("a", "b", problems=("a broken frame",))
    both = merged([alike, results("a", "b", problems=("a broken frame",))])
    assert both == alike


def test_scenes_of_several_processes_are_put_together():
    both = merged([results("a"), results("b", problems=("a broken frame",))])
    assert [scene.scene for scene in both.scenes] == ["a", "b"]
    assert set(both.means) == {"a", "b"}
    assert both.problems == ["a broken frame"]
