"""Measure the start of the page and the latency of a view: ``openrayzer demo --measure``."""

import statistics
import time
import urllib.request
from typing import Any

from openrayzer.web.limits import EXAMPLES

VIEWS = 20
WARM_UP = 3


def measure_page(address: str, studio: Any, model: str, *, served: float) -> str:
    """Measure a page that was just served, and return the figures as text.

    Processor times do not depend on what else the machine does.

    Args:
        address: the address of the page, which ends in a slash.
        studio: the ``Studio`` of the worker.
        model: name of the model.
        served: seconds from the start of the program until the page was served.
    """
    page, begun = time.process_time(), time.perf_counter()
    studio.describe(model)
    ready = served + time.perf_counter() - begun
    worker = studio.processor_seconds()
    example = next(iter(EXAMPLES))
    *_, last = studio.reconstruct("measure", model, example=example, num_views=None)
    scene = last.result
    waits, costs = [], []
    for step in range(WARM_UP + VIEWS):
        start, before = time.perf_counter(), studio.processor_seconds()
        urllib.request.urlopen(f"{address}scene/{scene['token']}/view?step={step}").read()
        waits.append(1000 * (time.perf_counter() - start))
        costs.append(1000 * (studio.processor_seconds() - before))
    wait, cost = (statistics.median(times[WARM_UP:]) for times in (waits, costs))
    height, width = scene["size"]
    return "\n".join(
        [
            f"page served after {served:.1f} s; processor time {page:.1f} s",
            f"model {model} ready after {ready:.1f} s; processor time of the worker {worker:.1f} s",
            f"cameras and scene of {len(scene['names'])} views: {scene['seconds']:.1f} s",
            f"a view of {width} x {height} pixels: {wait:.0f} ms until received; processor time of the worker "
            f"{cost:.0f} ms (medians of {VIEWS} views)",
        ]
    )
