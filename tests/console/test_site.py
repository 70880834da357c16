"""How the console is served: to its own origin alone, and with no way in but the AWS endpoint."""

import gzip
import json
import re

import anyio
from starlette.applications import Starlette

from phalanx.console import site


class Answer:
    """What the site answers to a GET (ASGI)."""

    def __init__(self, path, **headers):
        self.body = b""
        app = Starlette(routes=site.routes(region="eu-central-1", s3="http://127.0.0.1:9000"))
        anyio.run(app, scope(path, headers), receive, self._take)

    async def _take(self, message):
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")


async def receive():
    """Nobody reads the body of a GET; whoever waits for the client to go away waits."""
    await anyio.sleep_forever()


def scope(path, headers):
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 9),
    }


def test_everything_comes_with_a_strict_policy():
    for path in ("/console/", "/console/settings.json", "/console/nothing", "/console/../../etc/passwd"):
        policy = Answer(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy
        assert "http" not in policy


def test_the_page_has_no_script_of_its_own_and_names_no_other_host():
    page = Answer("/console/").body.decode()
    assert re.findall(r"<script(?![^>]* src=)", page) == []
    assert "//" not in page


def test_what_changes_is_asked_for_anew_and_what_cannot_change_is_kept():
    page = Answer("/console/")
    assert page.headers["cache-control"] == "no-cache"
    script = re.search(r'src="(/console/assets/[^"]+)"', page.body.decode())[1]
    asset = Answer(script, accept_encoding="gzip")
    assert "immutable" in asset.headers["cache-control"]
    assert asset.headers["content-encoding"] == "gzip"


def test_settings_hold_no_secret():
    assert json.loads(Answer("/console/settings.json").body) == {"region": "eu-central-1", "s3": "http://127.0.0.1:9000"}


def test_without_a_build_the_console_says_what_to_run(monkeypatch, tmp_path):
    monkeypatch.setattr(site, "BUILT", tmp_path / "dist")
    answer = Answer("/console/")
    assert (answer.status, b"make setup" in answer.body) == (503, True)


def test_the_console_is_small():
    """Compressed, all pages and both languages; each page is fetched when it is first opened."""
    files = [path for path in site.BUILT.rglob("*") if path.suffix in (".js", ".css", ".html", ".svg")]
    assert sum(len(gzip.compress(path.read_bytes(), 6)) for path in files) < 1_500_000
    assert len([path for path in files if path.suffix == ".js"]) > 5
