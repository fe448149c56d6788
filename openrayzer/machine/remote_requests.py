"""Requests to remote file systems through fsspec: with retries, checked lengths, and messages without secrets.

Every failure becomes an ``OSError`` whose number and text are like those of a local file, so that callers handle both
in the same way. Clients take their credentials from their own environment.
"""

import errno
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import fsspec

from openrayzer.interfaces import InputError
from openrayzer.machine.retries import TRANSIENT, WAITS, with_retries

T = TypeVar("T")
PATIENCE = (*WAITS, 40.0)
"""Seconds of waiting before each retry; a lost connection of a minute is waited out."""

_GIVE_UP = 240.0
"""Seconds after the first request from which none is repeated. Clients have long time limits and own retries."""

WEB = frozenset({"http", "https"})
_THREADS = 16  # requests at a time to a file system that is not asynchronous
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "http": "http", "https": "http"}
_CREDENTIALS = {
    "s3": "AWS_PROFILE or AWS_ACCESS_KEY_ID",
    "gcs": "gcloud auth application-default login",
    "hf": "HF_TOKEN or hf auth login",
    "http": "~/.netrc",
}
"""Sources of credentials, by the extra of the client, or by the protocol if there is no extra."""
_LONGEST = 200  # characters of a client's text in a message
_SECRETS = re.compile(r"(?<=://)[^/\s@'\"]*@|\?[^\s'\"<>)\]]+")
"""The user and password of an address, and its query, which holds the signature of a presigned address."""


class LostConnectionError(InputError):
    """A remote file system that answered none of the repeated requests; the message names the address."""


class WrongLengthError(OSError):
    """A server that sent another number of bytes than was asked for."""


class _PassingError(OSError):
    """A failure that may pass, so that the request is repeated."""


class FilePart(NamedTuple):
    """A part of a remote file: its address, first byte and number of bytes; None for a whole file of unknown size."""

    address: str
    start: int
    size: int | None


@dataclass
class Traffic:
    """Bytes that this process has received from remote file systems."""

    received: int = 0


TRAFFIC = Traffic()
"""The traffic of this process."""


def filesystem(protocol: str) -> Any:
    """The file system of a protocol, made once per process; fsspec makes a new one after a fork.

    Raises:
        InputError: its client is not installed, or needs options.
    """
    try:
        system = fsspec.filesystem(protocol, **_settings(protocol))
        if protocol in ("s3", "s3a"):
            system.retries = 1  # by default 25 requests, which take 7 minutes if the server hangs
        return system
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        remedy = f"pip install 'openrayzer[{extra}]'" if extra else str(error)
        raise InputError(f"{protocol}:// needs a package that is not installed: {remedy}") from None
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the client of {protocol}:// does not start: {error}; the variable FSSPEC_{protocol.upper()} gives it "
            """options as a JSON object, such as '{"host": "example.org"}'"""
        ) from None


def asked(address: str, ask: Callable[[Any], T]) -> T:
    """The answer of a file system to ``ask``, which gets the file system of the address; retried while it fails.

    Raises:
        LostConnectionError: it answered none of the requests, which are repeated after the waits of ``PATIENCE``.
        OSError: another failure, such as a missing file or a missing permission.
    """
    protocol = address.partition(":")[0]

    def once() -> T:
        try:
            return ask(filesystem(protocol))
        except (InputError, _PassingError):
            raise
        except Exception as error:
            raise failure_of(error, address) from None

    begin = time.monotonic()
    try:
        return with_retries(once, of=OSError, waits=PATIENCE, longest=_GIVE_UP)
    except OSError as error:
        if error.errno not in TRANSIENT:
            raise
        raise LostConnectionError(
            f"{address} was asked for {time.monotonic() - begin:.0f} s and did not answer: "
            f"{error.strerror}; start the same command again when the server answers"
        ) from None


def fetched(parts: Sequence[FilePart]) -> list[bytes | OSError]:
    """The bytes of each part, or its failure; all parts are requested at the same time.

    All parts must be of one file system. A part of the wrong length is requested once more.

    Raises:
        LostConnectionError: see ``asked``.
    """
    found: dict[int, bytes | OSError] = {}
    tried: set[int] = set()

    def ask(system: Any) -> None:
        missing = [place for place in range(len(parts)) if place not in found]
        passing: _PassingError | None = None
        for place, answer in zip(missing, _answers(system, [parts[place] for place in missing]), strict=True):
            checked = _checked(parts[place], answer)
            if isinstance(checked, WrongLengthError) and place not in tried:
                tried.add(place)
                passing = _PassingError(errno.EIO, checked.strerror, parts[place].address)
            elif isinstance(checked, OSError) and checked.errno in TRANSIENT:
                passing = _PassingError(*checked.args, parts[place].address)
            else:
                found[place] = checked
                TRAFFIC.received += 0 if isinstance(checked, OSError) else len(checked)
        if passing is not None:
            raise passing

    if parts:
        asked(parts[0].address, ask)
    return [found[place] for place in range(len(parts))]


def failure_of(error: BaseException, address: str) -> OSError:
    """A client's error as an ``OSError`` with a number, and with a text without passwords and signatures."""
    for cause in _causes(error):  # fsspec reports any failure of an HTTP server as a missing file, with its cause
        status = _status(cause)
        if status in (401, 403):
            return _denied(address, hidden=status == 401)
        if status in (404, 410):
            return _missing(address)
        if status is not None:
            number = errno.EIO if status >= 500 or status in (408, 429) else errno.EPROTO
            return OSError(number, f"the server answered with status {status}", address)
    first = list(_causes(error))[-1]
    if isinstance(first, TimeoutError):
        return OSError(errno.ETIMEDOUT, "the server did not answer in time", address)
    if isinstance(first, FileNotFoundError):
        return _missing(address)
    if isinstance(first, PermissionError) or "Credentials" in type(first).__name__:
        return _denied(address)
    known = first.errno if isinstance(first, OSError) else None
    # without a network, the names of servers are unknown for a while
    number = errno.EIO if known in (None, errno.EBUSY, socket.EAI_AGAIN) else known
    if _refuses(first):
        number = errno.EINVAL
    text = _SECRETS.sub("", getattr(first, "strerror", None) or str(first))[:_LONGEST]
    return OSError(number, " ".join(f"{type(first).__name__}: {text}".split()), address)


def _settings(protocol: str) -> dict[str, Any]:
    if protocol not in WEB:
        return {}
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=600, sock_connect=15, sock_read=30)
    # trust_env: passwords from ~/.netrc and proxies from the environment
    return {"encoded": True, "simple_links": False, "client_kwargs": {"trust_env": True, "timeout": timeout}}


def _answers(system: Any, parts: Sequence[FilePart]) -> list[Any]:
    """What a file system answers for each part, bytes or an exception."""
    ends = [None if part.size is None else part.start + part.size for part in parts]
    starts = [None if part.size is None else part.start for part in parts]
    addresses = [part.address for part in parts]
    if system.async_impl:
        return list(system.cat_ranges(addresses, starts, ends, on_error="return"))
    with ThreadPoolExecutor(min(_THREADS, len(parts))) as pool:
        return list(pool.map(partial(_one, system), addresses, starts, ends))


def _one(system: Any, address: str, start: int | None, end: int | None) -> Any:
    # the client of hf:// would otherwise ask for the size, and fetch 5 MB more than the part
    options = {"cache_type": "none", "size": end} if address.startswith("hf:") and end is not None else {}
    try:
        return system.cat_file(address, start=start, end=end, **options)
    except Exception as error:
        return error


def _checked(part: FilePart, answer: Any) -> bytes | OSError:
    if isinstance(answer, BaseException):
        return failure_of(answer, part.address)
    if part.size is None or len(answer) == part.size:
        return bytes(answer)
    more = "; it may not support range requests" if len(answer) > part.size else ""
    text = f"the server sent {len(answer)} bytes instead of the {part.size} from byte {part.start}{more}"
    return WrongLengthError(errno.EBADMSG, text, part.address)


def _refuses(error: BaseException) -> bool:
    """Whether a client does not accept the address, so that a repeated request would not help."""
    if isinstance(error, json.JSONDecodeError):  # of a server's answer
        return False
    kinds = (ValueError, TypeError, NotImplementedError)
    return isinstance(error, kinds) or type(error).__name__ == "ParamValidationError"  # of botocore


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _status(error: BaseException) -> int | None:
    """The HTTP status of an error of aiohttp, requests, httpx or botocore."""
    response = getattr(error, "response", None)
    stated = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
    for status in (getattr(error, "status", None), getattr(response, "status_code", None), stated):
        if isinstance(status, int) and status >= 400:
            return status
    return None


def _missing(address: str) -> OSError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), address)


def _denied(address: str, *, hidden: bool = False) -> OSError:
    """The error for a missing permission; ``hidden`` if the server answers for a missing place in the same way."""
    protocol = address.partition(":")[0]
    source = _CREDENTIALS.get(_EXTRAS.get(protocol, protocol))
    example = f", such as {source}" if source else ""
    missing = ", or there is no such repository" if hidden and protocol == "hf" else ""
    text = f"access is denied{missing}; the client of {protocol}:// takes its credentials from its own environment"
    return PermissionError(errno.EACCES, text + example, address)
