"""Plugins: modules from outside the package that register classes. A plugin loads only on request."""

import importlib.util
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from zlib import crc32

from registry.errors import PluginError, did_you_mean


def available_plugins(group: str) -> dict[str, str]:
    """Installed plugins, from the name of the entry point to the module. This reads metadata and imports nothing."""
    return {point.name: point.value for point in entry_points(group=group)}


def load_plugin(spec: str, *, group: str, root: Path | str = ".") -> None:
    """Import one plugin. A second import of the same plugin does nothing.

    Args:
        spec: name of an entry point, name of a module, or path of a ``.py`` file.
        group: entry-point group of installed plugins.
        root: folder for relative ``.py`` paths.

    Raises:
        PluginError: the plugin does not exist, or its import failed; the cause is chained.
    """
    installed = available_plugins(group)
    try:
        if spec.endswith(".py"):
            _import_file((Path(root) / spec).resolve())
        else:
            import_module(installed.get(spec, spec))
    except Exception as error:  # a plugin may raise any exception
        cause = f"{type(error).__name__}: {error}"
        missing = isinstance(error, ImportError | FileNotFoundError)
        hint = did_you_mean(spec, installed) if missing and not spec.endswith(".py") else ""
        raise PluginError(f"plugin {spec!r} could not be loaded: {cause}{hint}") from error


def _import_file(path: Path) -> None:
    # The name depends on file name and content, so it is the same in all processes and for a copy of the plugin.
    name = f"plugin_{path.stem}_{crc32(path.read_bytes()):08x}"
    if name in sys.modules:
        return
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module  # before exec_module, because dataclasses and pickle find the module by name
    try:
        module_spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
