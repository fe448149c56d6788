"""The model card: origin, training and metrics of the weights, beside the metrics of simple baselines."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrayzer.interfaces import METRICS, Model

_TASK = "novel-view-synthesis"
_METRICS = {
    "psnr": "this model",
    "psnr_nearest_context": "nearest context view",
    "psnr_mean_context": "mean of the context views",
    "psnr_exchanged_cameras": "this model with its target cameras exchanged among the targets",
}
"""Metrics in metrics.jsonl in the order of the card: the model first, then the baselines."""


@dataclass(frozen=True)
class Facts:
    """Facts for the model card.

    Attributes:
        name: ``owner/name`` on the hub.
        resolved: the experiment with every default written out.
        model: the model with its weights.
        steps: number of optimizer steps that openrayzer trained it for; 0 for weights that were only imported.
        test: line of metrics.jsonl of the last evaluation; empty if there is none.
        origin: origin of imported weights; empty for other weights.
        started_from: name of the initial weights; empty if they were random.
        license: identifier on the hub; None if there is none.
    """

    name: str
    resolved: Mapping[str, Any]
    model: Model
    steps: int
    test: Mapping[str, Any]
    origin: Mapping[str, Any]
    started_from: str
    license: str | None

    @property
    def num_weights(self) -> int:
        """Number of weights in the model; shared weights count once."""
        return sum(weight.numel() for weight in self.model.parameters())


def model_card(facts: Facts) -> str:
    """Return the text of README.md: YAML front matter for the hub, then the page."""
    from huggingface_hub import ModelCard, ModelCardData

    title, results = facts.name.partition("/")[2], _eval_results(facts)
    data = ModelCardData(
        library_name="openrayzer",
        license=facts.license,
        tags=["openrayzer", _TASK, str(facts.resolved["model"]["type"])],
        model_name=title if results else None,
        eval_results=results or None,
    )
    sections = [f"# {title}", *_about(facts), *_usage(facts), *_training(facts), *_measured(facts), *_origin(facts)]
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(sections) + "\n"))


def _eval_results(facts: Facts) -> list[Any]:
    """Return the metrics for the hub; none if the last evaluation was of another step."""
    from huggingface_hub import EvalResult

    if facts.test.get("step") != facts.steps:
        return []
    sources = facts.resolved["data"]["test"]
    return [
        EvalResult(
            task_type=_TASK,
            dataset_type=_kind(sources[0]) if sources else "unknown",
            dataset_name=", ".join(map(_source_name, sources)) or "unknown",
            dataset_split="test",
            metric_type=key,
            metric_name=f"{_label()} of {meaning}",
            metric_value=round(facts.test[key], 4),
        )
        for key, meaning in _METRICS.items()
        if facts.test.get(key) is not None
    ]


def _about(facts: Facts) -> Iterator[str]:
    if facts.resolved.get("description"):
        yield f"\n{facts.resolved['description']}"
    height, width = facts.resolved["data"]["image_size"]
    yield f"\n- Model: `{facts.resolved['model']['type']}`, {facts.num_weights:,} weights, float32"
    yield f"- Cameras: {_cameras(facts.model)}"
    yield f"- Images: {height} x {width} (height x width); {_sizes('sides', facts.model)}"
    yield f"- Views: `{_component(facts.resolved['data']['view_sampler'])}`"


def _sizes(sides: str, model: Model) -> str:
    return f"{sides} must be multiples of {model.patch_size}" if model.patch_size > 1 else f"any {sides}"


def _cameras(model: Model) -> str:
    if model.posed:
        return "true cameras must be given"
    return "estimated from the images" + (" and their true intrinsics" if model.needs_intrinsics else "")


def _usage(facts: Facts) -> Iterator[str]:
    yield "\n## Use\n\n```python\nimport openrayzer\n"
    yield f'model = openrayzer.load_model("{facts.name}")'
    shape = f"images (b, v, 3, h, w) in [0, 1]; {_sizes('h and w', facts.model)}"
    if facts.model.posed:
        yield f"cameras = openrayzer.types.Cameras(c2w, intrinsics)  # true cameras; {shape}"
    elif facts.model.needs_intrinsics:
        yield f"cameras = model.estimate(images, intrinsics)  # true intrinsics; {shape}"
    else:
        yield f"cameras = model.estimate(images)  # {shape}"
    yield "scene = model.reconstruct(images, cameras)  # once per scene"
    yield "views = model.render(scene, cameras)  # as often as wanted\n```"
    yield "\nTo continue training, with clips in ROOT:\n\n```bash"
    yield "openrayzer train --exp config.json --set train.initial_weights=model.safetensors --data ROOT\n```"


def _training(facts: Facts) -> Iterator[str]:
    yield "\n## Training\n"
    if not facts.steps:
        yield "0 steps with openrayzer: these are the imported weights. The data and training settings in config.json"
        yield "are for further training; these weights were not trained with them."
        return
    train, data = facts.resolved["train"], facts.resolved["data"]
    start = f", starting from the weights of {facts.started_from}" if facts.started_from else ""
    yield f"{facts.steps} steps of {train['batch_size']} scenes{start}. Data:\n"
    for source in data["train"]:
        yield f"- {_source_name(source)}, weight {source['weight']:g}"
    terms = ", ".join(f"{term['weight']:g} x `{term['loss']['type']}`" for term in facts.resolved["loss"])
    yield f"\nLoss: {terms}. Every setting is in config.json."


def _measured(facts: Facts) -> Iterator[str]:
    yield "\n## Measured\n"
    test = facts.test
    if not test:
        yield "There are no metrics for these weights."
        return
    if test["step"] != facts.steps:
        yield f"At step {test['step']}; these weights are from step {facts.steps}.\n"
    sources = ", ".join(map(_source_name, facts.resolved["data"]["test"])) or "unknown data"
    yield f"On held-out scenes of {sources}, chosen by `{_component(facts.resolved['evaluation']['view_sampler'])}`;"
    counts = (test.get("expected"), test.get("evaluated"), test.get("skipped_scenes"))
    yield "of {} scenes {} were evaluated and {} skipped:\n".format(*counts)
    yield f"| | {_label()} |\n|---|---|"
    for key, meaning in _METRICS.items():
        if key in test:
            yield f"| {meaning} | {'not finite' if test[key] is None else format(test[key], '.2f')} |"
    used = test.get("target_pixels_used_for_cameras")
    if used is not None:
        yield f"\nPixels of the target views were {'' if used else 'not '}used to find the cameras of the target views."


def _label() -> str:
    metric = METRICS["psnr"]
    return f"{metric.label} in {metric.unit}"


def _origin(facts: Facts) -> Iterator[str]:
    yield "\n## Origin and licence\n"
    if facts.origin:
        yield "Imported weights" + (", trained on:" if facts.steps else ":") + "\n"
        for key, value in facts.origin.items():
            yield f"- {key}: {'; '.join(map(str, value)) if isinstance(value, list) else value}"
        yield ""
    yield f"Licence: {facts.license}" if facts.license else "No licence was given."


def _kind(source: Mapping[str, Any]) -> str:
    return str(source["dataset"]["type"])


def _source_name(source: Mapping[str, Any]) -> str:
    """Return kind and folder name without its path, e.g. ``chunks re10k``."""
    root = source["dataset"].get("root")
    return _kind(source) + (f" {Path(root).name}" if isinstance(root, str) else "")


def _component(spec: Mapping[str, Any]) -> str:
    values = ", ".join(f"{key}={value}" for key, value in spec.items() if key != "type" and value is not None)
    return f"{spec['type']}({values})"
