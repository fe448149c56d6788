"""Load modules from outside the package, so that their decorators run. Nothing loads unasked."""

import importlib.util
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from zlib import crc32

from registry.errors import PluginError, did_you_mean


def available_plugins(group: str) -> dict[str, str]:
    """Installed plugins: entry-point name -> module. Reads metadata only, imports nothing."""
    return {point.name: point.value for point in entry_points(group=group)}


def load_plugin(spec: str, *, group: str, root: Path = Path()) -> None:
    """Import one plugin, named by an entry point, a dotted module, or a ``.py`` file.

    Args:
        spec: what the experiment names. Loading the same plugin again does nothing.
        group: the entry-point group in which installed plugins announce themselves.
        root: folder that a relative ``.py`` path starts from.

    Raises:
        PluginError: nothing answers to ``spec``, or importing it failed (the cause is chained).
    """
    installed = available_plugins(group)
    try:
        if spec.endswith(".py"):
            _import_file((root / spec).resolve())
        else:
            import_module(installed.get(spec, spec))
    except Exception as error:  # a plugin is foreign code: whatever it raises is named as its own
        cause = f"{type(error).__name__}: {error}"
        missing = isinstance(error, ImportError | FileNotFoundError)
        hint = did_you_mean(spec, installed) if missing and not spec.endswith(".py") else ""
        raise PluginError(f"plugin {spec!r} could not be loaded: {cause}{hint}") from error


def _import_file(path: Path) -> None:
    name = f"plugin_{path.stem}_{crc32(bytes(path)):08x}"  # the same in every process
    if name in sys.modules:
        return
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module  # before exec: dataclasses and pickling look the module up by name
    try:
        module_spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
