"""Weight folders from the Hugging Face hub."""

import re
from pathlib import Path

from openrayzer.interfaces import InputError

_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def is_hub_name(name: str) -> bool:
    """Whether ``name`` is written like ``owner/name``. A path may be written so too; what exists here is a path."""
    return _NAME.fullmatch(name) is not None and not {".", ".."} & set(name.split("/"))


def download(name: str, *, files: tuple[str, ...]) -> Path:
    """The folder in the local cache that holds these files of a model on the hub; downloaded where they are not there.

    Raises:
        InputError: no such model, not allowed, or not reachable; says what to do.
    """
    from huggingface_hub import errors, snapshot_download  # only those pay for it who use it

    try:
        return Path(snapshot_download(name, allow_patterns=list(files)))
    except errors.GatedRepoError as error:
        remedy = f"accept its conditions on https://huggingface.co/{name}, then log in with: hf auth login"
        raise _failure(name, "its owner grants access on request", remedy) from error
    except errors.RepositoryNotFoundError as error:
        remedy = "mind the spelling; for a private model, log in with: hf auth login"
        raise _failure(
            name, "there is no such folder here, and no such model there that you may see", remedy
        ) from error
    except errors.HFValidationError as error:
        reason = f"there is no such folder here, and the name cannot be one there: {_first_line(error)}"
        raise _failure(name, reason, "mind the spelling") from error
    except (errors.HTTPError, OSError, ValueError) as error:
        remedy = (
            "if it was meant as a folder, there is none of that name here; if as a model, try again when the network "
            f"is there, or get it elsewhere with: hf download {name} --local-dir FOLDER, and load FOLDER"
        )
        raise _failure(name, f"{type(error).__name__}: {_first_line(error)}", remedy) from error


def _failure(name: str, reason: str, remedy: str) -> InputError:
    return InputError(f"{name} cannot be had from the Hugging Face hub ({reason}); {remedy}")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
