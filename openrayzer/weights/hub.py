"""Weight folders from the Hugging Face hub."""

import re
from pathlib import Path

from openrayzer.interfaces import InputError

_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


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
        InputError: there is no such model, access is denied, or the hub cannot be reached.
    """
    from huggingface_hub import errors, snapshot_download  # slow to import

    try:
        return Path(snapshot_download(name, allow_patterns=list(files)))
    except errors.GatedRepoError as error:
        remedy = f"accept its conditions on https://huggingface.co/{name}, then log in with: hf auth login"
        raise _failure(name, "its owner grants access on request", remedy) from error
    except errors.RepositoryNotFoundError as error:
        remedy = "check the spelling; for a private model, log in with: hf auth login"
        reason = "there is no such folder here, and no such model on the hub that you can access"
        raise _failure(name, reason, remedy) from error
    except errors.HFValidationError as error:
        reason = f"there is no such folder here, and it is not a valid name on the hub: {_first_line(error)}"
        raise _failure(name, reason, "check the spelling") from error
    except (errors.HTTPError, OSError, ValueError) as error:
        remedy = (
            "if you meant a folder, there is no such folder here; if you meant a model on the hub, try again when the "
            f"network is there, or run on another machine: hf download {name} --local-dir FOLDER, and load FOLDER"
        )
        raise _failure(name, f"{type(error).__name__}: {_first_line(error)}", remedy) from error


def _failure(name: str, reason: str, remedy: str) -> InputError:
    return InputError(f"{name} cannot be loaded from the Hugging Face hub ({reason}); {remedy}")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
