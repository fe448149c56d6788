"""The layout of the page and the actions of its buttons. This file imports gradio and not torch."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from openrayzer.web.answers import Refused, Step
from openrayzer.web.limits import EXAMPLES, MOST_VIEWS
from openrayzer.web.studio_process import StudioProcess

ASSETS = Path(__file__).parent / "assets"
TITLE = "openrayzer"
QUEUE = 16
"""Largest number of waiting jobs; the page asks further visitors to come back."""
KEPT_SECONDS = 3600
"""Age at which uploaded files are deleted, even if their tab is still open."""
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
CODE_FONTS = ["ui-monospace", "Menlo", "Consolas", "monospace"]
JOB = {"concurrency_id": "job", "concurrency_limit": 1, "show_progress": "minimal"}
VIEWS = [("as in training", 0), *((str(count), count) for count in (2, 3, 4, 5, 6, 8, 12, 16, 24, MOST_VIEWS))]
UPLOADED, EXAMPLE = "Photos or video", "Example"

logger = logging.getLogger(__name__)


def build_page(worker: StudioProcess, runs: Sequence[str], *, hub: bool) -> gr.Blocks:
    """The page.

    Args:
        worker: the process that computes.
        runs: names of the models to choose from.
        hub: whether the visitor may type the name of a model on the Hugging Face hub.
    """
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, KEPT_SECONDS)) as page:
        gr.HTML(
            "<h1>openrayzer</h1><p>A few photos of a place become cameras, a scene, and new views of it.</p>",
            elem_id="orz-head",
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=300):
                kind = gr.Radio([UPLOADED, EXAMPLE], value=UPLOADED, label="Views", elem_id="orz-kind")
                files = gr.File(
                    file_count="multiple",
                    label="Photos of one place, or a video",
                    elem_id="orz-upload",
                    height=180,
                )
                example = gr.Radio(
                    list(EXAMPLES), value=next(iter(EXAMPLES)), label="A room", visible=False, elem_id="orz-example"
                )
                model = gr.Dropdown(
                    list(runs),
                    value=runs[0] if runs else None,
                    label="Model",
                    info="A run" + (", or owner/name of a model on the Hugging Face hub" if hub else ""),
                    allow_custom_value=hub,
                    elem_id="orz-model",
                )
                facts = gr.HTML(elem_id="orz-facts")
                views = gr.Dropdown(VIEWS, value=0, label="Number of views", elem_id="orz-views")
                run = gr.Button("Run", variant="primary", elem_id="orz-run")
                status = gr.HTML(_status(Step("")), elem_id="orz-status")
            with gr.Column(scale=3, min_width=320):
                viewer = gr.HTML(
                    "",
                    html_template=(ASSETS / "result.html").read_text(encoding="utf-8"),
                    css_template=(ASSETS / "result.css").read_text(encoding="utf-8"),
                    js_on_load=(ASSETS / "result.js").read_text(encoding="utf-8"),
                    apply_default_css=False,
                    film="",
                    elem_id="orz-viewer",
                )

        def show_facts(name: str | None) -> str:
            try:
                return _facts(worker.studio.describe(name or ""))
            except Refused as error:
                return _refusal(error)

        def reconstruct(
            kind: str, files: list[str] | None, example: str, model: str | None, views: int, request: gr.Request
        ) -> Iterator[tuple[Any, Any]]:
            yield from _steps(
                worker,
                lambda: worker.studio.reconstruct(
                    str(request.session_hash),
                    model or "",
                    files=files or [],
                    example=example if kind == EXAMPLE else None,
                    num_views=views or None,
                ),
                lambda result: gr.update(value=json.dumps(result), film=""),
            )

        def film(event: gr.EventData) -> Iterator[tuple[Any, Any]]:
            token, path, shown = (str(getattr(event, name)) for name in ("token", "course", "shown"))
            yield from _steps(
                worker,
                lambda: worker.studio.film(token, path, shown),
                lambda result: gr.update(film=json.dumps(result)),
            )

        def leave(request: gr.Request) -> None:
            worker.studio.forget(str(request.session_hash))

        kind.change(
            lambda kind: (gr.update(visible=kind == UPLOADED), gr.update(visible=kind == EXAMPLE)),
            kind,
            [files, example],
            show_progress="hidden",
        )
        page.load(show_facts, model, facts, show_progress="hidden")
        model.change(show_facts, model, facts, show_progress="hidden")
        run.click(reconstruct, [kind, files, example, model, views], [status, viewer], show_progress_on=status, **JOB)
        viewer.film(film, None, [status, viewer], show_progress_on=status, **JOB)
        page.unload(leave)
    page.queue(max_size=QUEUE)
    return page


def page_style() -> dict[str, Any]:
    """The theme, fonts and style sheet of the page, as arguments of ``launch``; nothing comes from the network."""
    return {
        "theme": gr.themes.Default(primary_hue="orange", font=FONTS, font_mono=CODE_FONTS),
        "css": (ASSETS / "page.css").read_text(encoding="utf-8"),
        "footer_links": [],
    }


def _steps(
    worker: StudioProcess, job: Callable[[], Iterator[Step]], finished: Callable[[Any], Any]
) -> Iterator[tuple[Any, Any]]:
    """Updates of the status and the viewer for each step of a job. A closed tab ends the job after its step.

    If the worker crashes, for example in a decoder, a new one starts.
    """
    steps: Any = None
    try:
        yield _status(Step("Starting", 0.0)), gr.skip()
        steps = job()
        for step in steps:
            yield _status(step), gr.skip() if step.result is None else finished(step.result)
    except Refused as error:
        yield _refusal(error), gr.skip()
    except (EOFError, ConnectionError):
        worker.restart()
        steps = None
        yield _refusal(Refused("The program crashed over these views and starts again. Try others.")), gr.skip()
    except RuntimeError:
        logger.exception("the worker of the page did not start")
        yield _refusal(Refused("The program does not start. The log of the server has the details.")), gr.skip()
    finally:
        if steps is not None:
            steps.close()


def _status(step: Step) -> str:
    if not step.text:
        return '<div class="orz-status" role="status"></div>'
    value = "" if step.share is None else f' value="{step.share:.3f}"'
    bar = "" if step.share == 1 else f"<progress{value}></progress>"
    return f'<div class="orz-status" role="status"><p>{escape(step.text)}</p>{bar}</div>'


def _refusal(error: Refused) -> str:
    return f'<div class="orz-status orz-refused" role="alert"><p>{escape(str(error))}</p></div>'


def _facts(facts: dict[str, Any]) -> str:
    if facts["refusal"]:
        return f'<div class="orz-status orz-refused"><p>{escape(facts["refusal"])}</p></div>'
    return (
        f'<p class="orz-facts">{escape(facts["name"])}, {escape(facts["size"])} pixels, '
        f"trained with {facts['views']} views</p>"
    )
