"""Registries of interchangeable classes by name. This package uses the standard library only."""

from registry.catalogue import annotation_text as annotation_text
from registry.catalogue import as_markdown as as_markdown
from registry.catalogue import as_text as as_text
from registry.errors import ContractError as ContractError
from registry.errors import DuplicateNameError as DuplicateNameError
from registry.errors import PluginError as PluginError
from registry.errors import RegistryError as RegistryError
from registry.errors import UnknownNameError as UnknownNameError
from registry.errors import did_you_mean as did_you_mean
from registry.plugins import available_plugins as available_plugins
from registry.plugins import load_plugin as load_plugin
from registry.registry import Entry as Entry
from registry.registry import Registry as Registry
