"""A model that must be told cameras learns only from sources that know them; others are refused at once."""

from openrayzer.interfaces import InputError, registered_name
from openrayzer.settings import Experiment


def require_known_cameras(experiment: Experiment) -> None:
    """Refuse every source without cameras, if the model needs them.

    Raises:
        InputError: names model and sources.
    """
    model = experiment.model
    if not (model.posed or model.needs_intrinsics):
        return
    what = "camera poses" if model.posed else "intrinsics"
    wrong = [
        f"data.{split}[{place}]: {registered_name(source.dataset)!r} has no cameras, and the model "
        f"{registered_name(model)!r} needs {what}"
        for split, sources in (("train", experiment.data.train), ("test", experiment.data.test))
        for place, source in enumerate(sources)
        if not source.dataset.posed
    ]
    if wrong:
        raise InputError("\n".join(wrong))
