"""Plugins load by file, by module and by a real entry point, and their errors name the plugin."""

import sys
from pathlib import Path

import pytest

from registry import PluginError, available_plugins, load_plugin

GROUP = "openrayzer_toys.plugins"


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Path:
    """A folder on ``sys.path`` with an installed package ``acme`` and its entry point ``acme-heads``."""
    (tmp_path / "acme_toys.py").write_text("loaded = True\n")
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nacme-heads = acme_toys\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("acme_toys", None)


def modules_of(stem: str) -> list[str]:
    return [name for name in sys.modules if name.startswith(f"plugin_{stem}_")]


def test_the_list_of_entry_points_imports_nothing(installed):
    assert available_plugins(GROUP) == {"acme-heads": "acme_toys"}
    assert "acme_toys" not in sys.modules


def test_a_plugin_loads_by_its_entry_point(installed):
    load_plugin("acme-heads", group=GROUP)
    assert sys.modules["acme_toys"].loaded


def test_a_plugin_loads_by_its_module(installed):
    load_plugin("acme_toys", group="another.group")
    assert sys.modules["acme_toys"].loaded


def test_a_plugin_file_runs_once(tmp_path):
    file = tmp_path / "toy_counter.py"
    file.write_text(
        "from pathlib import Path\nwith Path(__file__).with_suffix('.log').open('a') as log:\n    log.write('x')\n"
    )
    load_plugin("toy_counter.py", group=GROUP, root=str(tmp_path))
    load_plugin(str(file), group=GROUP)
    assert file.with_suffix(".log").read_text() == "x"
    (name,) = modules_of("toy_counter")
    del sys.modules[name]


def test_two_files_with_the_same_name_are_two_modules_unless_one_is_a_copy(tmp_path):
    for folder, content in (("a", "one = 1"), ("b", "two = 2"), ("copy_of_a", "one = 1")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "toy_twin.py").write_text(content)
        load_plugin(f"{folder}/toy_twin.py", group=GROUP, root=tmp_path)
    names = modules_of("toy_twin")
    assert len(names) == 2
    for name in names:
        del sys.modules[name]


def test_the_error_for_an_unknown_plugin_lists_the_installed_plugins(installed):
    with pytest.raises(PluginError) as caught:
        load_plugin("acme-head", group=GROUP)
    assert "plugin 'acme-head' could not be loaded" in str(caught.value)
    assert "did you mean 'acme-heads'? known: acme-heads" in str(caught.value)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_the_error_for_a_missing_file_names_it(tmp_path):
    with pytest.raises(PluginError, match=r"'none\.py' could not be loaded: FileNotFoundError") as caught:
        load_plugin("none.py", group=GROUP, root=tmp_path)
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_the_error_of_a_plugin_is_chained_and_a_fixed_plugin_loads(tmp_path):
    file = tmp_path / "toy_broken.py"
    file.write_text("1 / 0\n")
    with pytest.raises(PluginError, match="ZeroDivisionError: division by zero") as caught:
        load_plugin("toy_broken.py", group=GROUP, root=tmp_path)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert modules_of("toy_broken") == []
    file.write_text("fixed = 1  # another length, because Python compares it to detect stale bytecode\n")
    load_plugin("toy_broken.py", group=GROUP, root=tmp_path)
    (name,) = modules_of("toy_broken")
    del sys.modules[name]


@pytest.mark.parametrize("name", ["", ".", ".relative", "os.system", "no such"])
def test_an_invalid_name_is_a_plugin_error(name):
    with pytest.raises(PluginError, match="could not be loaded"):
        load_plugin(name, group=GROUP)
