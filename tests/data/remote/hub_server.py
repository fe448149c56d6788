"""A server on loopback with the interface of the Hugging Face Hub, for one data set: ``datasets/owner/library``."""

import json
import re
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

from range_server import Handler, RangeServer

TOKEN = "hf_hunter2"
SIGNATURE = "X-Amz-Signature=hunter3"
_PAGE = 2  # entries of one page of a listing; few, so that all listings have several pages


class HubHandler(Handler):
    """Answers the requests of ``HfFileSystem``: a repository, its folders page by page, and its files by a redirect.

    Other repositories do not exist; ``owner/closed`` needs a permission that ``TOKEN`` does not give.
    """

    def respond(self) -> None:
        place = urlsplit(self.path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" and not place.path.startswith("/cdn/"):
            self.refuse(401, "")  # the Hub tells nobody which private repositories exist
        elif found := re.fullmatch(r"/api/datasets/owner/library/tree/main(/.*)?", place.path):
            self.send_page(unquote(found.group(1) or "").strip("/"), int(parse_qs(place.query).get("cursor", "0")[0]))
        elif re.fullmatch(r"/api/datasets/owner/library(/revision/main)?", place.path):
            self.answer(200, json.dumps({"id": "owner/library", "siblings": []}).encode(), "application/json")
        elif found := re.fullmatch(r"/datasets/owner/library/resolve/main/(.*)", place.path):
            self.forward(f"/cdn/{found.group(1)}?{SIGNATURE}")
        elif place.path.startswith("/cdn/") and place.query == SIGNATURE:
            self.path = place.path.removeprefix("/cdn")
            super().respond()
        elif "/owner/library/" in place.path:
            self.refuse(404, "RevisionNotFound")
        elif "/owner/closed" in place.path:
            self.refuse(403, "GatedRepo")
        else:
            self.refuse(404, "RepoNotFound")

    def send_page(self, path: str, first: int) -> None:
        folder = self.server.folder / path
        self.server.requests.append(("LIST", path, str(first)))
        if not folder.is_dir():
            self.refuse(404, "EntryNotFound")
            return
        entries = [
            {
                "type": "directory" if entry.is_dir() else "file",
                "path": entry.relative_to(self.server.folder).as_posix(),
                "size": 0 if entry.is_dir() else entry.stat().st_size,
                "oid": f"{entry.stat().st_mtime_ns:040x}",
            }
            for entry in sorted(folder.iterdir())
        ]
        more = f'<{self.server.address}{urlsplit(self.path).path}?cursor={first + _PAGE}>; rel="next"'
        links = {"Link": more} if len(entries) > first + _PAGE else {}
        page = json.dumps(entries[first : first + _PAGE]).encode()
        self.answer(200, page, "application/json", **links)

    def forward(self, path: str) -> None:
        self.answer(302, b"", Location=self.server.address + quote(path, safe="/%?&=-"))

    def refuse(self, status: int, code: str) -> None:
        self.answer(status, b"", **({"X-Error-Code": code} if code else {}))


class HubServer(RangeServer):
    """Serves a folder as ``hf://datasets/owner/library``; ``gets`` counts the requests that follow a redirect."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, HubHandler)
