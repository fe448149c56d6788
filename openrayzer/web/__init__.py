"""The web page: photos or a video become cameras, a scene to walk through, and files.

``server`` starts two processes. The first one holds the page (gradio) and never imports torch. The second one, the
worker, holds the models and the scenes (``studio``). So both start at the same time, and a broken upload cannot stop
the page.
"""
