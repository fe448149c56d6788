"""Weight folders from the Hugging Face hub."""

import re
from pathlib import Path

from openrayzer.interfaces import InputError

_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


class HubError(InputError):
    """A model that the Hugging Face hub does not provide.

    Args:
        name: ``owner/name``.
        reason: the reason, with technical details.
        remedy: commands and steps for a person at the command line.
        plain: the reason for a person who has no command line, as a whole clause.
    """

    def __init__(self, name: str, reason: str, remedy: str, *, plain: str) -> None:
        super().__init__(f"{name} cannot be loaded from the Hugging Face hub ({reason}); {remedy}")
        self.plain = f"{name} cannot be loaded from the Hugging Face hub: {plain}."


def is_hub_name(name: str) -> bool:
    """Return True if ``name`` has the form ``owner/name``. Check first that no such path exists."""
    return _NAME.fullmatch(name) is not None and not {".", ".."} & set(name.split("/"))


def download(name: str, *, files: tuple[str, ...]) -> Path:
    """Download files of a model on the hub; files in the local cache are not downloaded again.

    Args:
        name: ``owner/name``.
        files: names of the files.

    Returns:
        The folder in the local cache that holds the files.

    Raises:
        HubError: there is no such model, access is denied, or the hub cannot be reached.
    """
    from huggingface_hub import errors, snapshot_download  # slow to import

    try:
        return Path(snapshot_download(name, allow_patterns=list(files)))
    except errors.GatedRepoError as error:
        remedy = f"accept its conditions on https://huggingface.co/{name}, then log in with: hf auth login"
        plain = "its owner grants access on request"
        raise HubError(name, plain, remedy, plain=plain) from error
    except errors.RepositoryNotFoundError as error:
        remedy = "check the spelling; for a private model, log in with: hf auth login"
        reason = "there is no such folder here, and no such model on the hub that you can access"
        raise HubError(name, reason, remedy, plain="there is no such model; check the spelling") from error
    except errors.HFValidationError as error:
        reason = f"there is no such folder here, and it is not a valid name on the hub: {_first_line(error)}"
        raise HubError(name, reason, "check the spelling", plain="it is not a valid name on the hub") from error
    except (errors.HTTPError, OSError, ValueError) as error:
        remedy = (
            "if you meant a folder, there is no such folder here; if you meant a model on the hub, try again when the "
            f"network is there, or run on another machine: hf download {name} --local-dir FOLDER, and load FOLDER"
        )
        reason = f"{type(error).__name__}: {_first_line(error)}"
        plain = "the hub could not be reached, or the download failed; try again later"
        raise HubError(name, reason, remedy, plain=plain) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
