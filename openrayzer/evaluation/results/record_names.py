"""Names of the numbers of an evaluation while training, in metrics.jsonl and in train.best_metric."""

METHODS = {
    "": "{placement}",
    "_nearest_context": "nearest_context",
    "_mean_context": "mean_context",
    "_exchanged_cameras": "{placement}_exchanged_cameras",
}
"""End of the name -> method: psnr_nearest_context is the PSNR of nearest_context, psnr the PSNR of the model."""
PLACEMENTS = ("joint", "given_poses")
"""Placements of the evaluation while training."""


def methods_of(metric: str, placement: str) -> dict[str, str]:
    """Name in a record -> method, for one metric and one placement."""
    return {f"{metric}{end}": method.format(placement=placement) for end, method in METHODS.items()}


def record_name(metric: str, method: str) -> str:
    """Name in a record of a metric of a method; empty if the evaluation while training does not have the method."""
    for placement in PLACEMENTS:
        for name, other in methods_of(metric, placement).items():
            if other == method:
                return name
    return ""
