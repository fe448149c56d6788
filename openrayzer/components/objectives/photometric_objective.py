"""Objective "photometric": predict the target views as in every use of the model."""

from openrayzer.interfaces import OBJECTIVES, Model, Objective
from openrayzer.types import Prediction, Views


@OBJECTIVES.register("photometric")
class Photometric(Objective):
    """Calls the model: cameras from all images, the scene from the context views, images of the target views."""

    shares_views = True

    def forward(self, model: Model, views: Views) -> Prediction:
        return model(views)
