"""CDNs are told of purges as their documentation says, in bounded time, and secrets stay secret."""

from __future__ import annotations

import json
import logging
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import servers

from thumbproxy import ThumbProxy
from thumbproxy.caches.base import Scope
from thumbproxy.config.settings import Settings
from thumbproxy.config.types import CdnSetting
from thumbproxy.core.errors import PurgeFailed, SettingsError
from thumbproxy.purging.cdn import api
from thumbproxy.purging.cdn.base import Cdn
from thumbproxy.purging.cdn.cloudflare import Cloudflare
from thumbproxy.purging.cdn.fastly import Fastly

KEY = servers.KEY
TOKEN = "SECRET-of-the-cdn"
ODD = "médias/été, à Nice.jpg"
ODD_TAG = "thumbproxy/m%C3%A9dias/%C3%A9t%C3%A9%2C%20%C3%A0%20Nice.jpg"
Answer = tuple[str, list[tuple[str, str]], str]
DONE: Answer = ("200 OK", [], '{"success": true}')


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Vendor:
    """A CDN's API. answers: in their order, the last for ever."""

    answers: list[Answer] = field(default_factory=lambda: [DONE])
    asked: list[Asked] = field(default_factory=list)
    held: threading.Event | None = None

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        headers = {
            name.removeprefix("HTTP_").replace("_", "-").title(): value
            for name, value in environ.items()
            if name.startswith("HTTP_") or name == "CONTENT_TYPE"
        }
        path = environ.get("RAW_URI") or environ["PATH_INFO"]
        body = environ["wsgi.input"].read(length)
        self.asked.append(Asked(environ["REQUEST_METHOD"], path, headers, body))
        if self.held is not None:
            self.held.wait(20)
        status, more, text = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        told = text.encode()
        start_response(status, [("Content-Type", "application/json"),
                                ("Content-Length", str(len(told))), *more])  # fmt: skip
        return [told]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(api, "_LONGEST_PAUSE", 0.002)


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


@pytest.fixture
def url(vendor: Vendor) -> Iterator[str]:
    with servers.wsgi(vendor, validate=False) as server:
        yield server.url


def fastly(url: str, **more: Any) -> Fastly:
    return Fastly("SU1Z0isxPaozGVKXdv0eY", TOKEN, endpoint=url, **more)


def cloudflare(url: str, **more: Any) -> Cloudflare:
    return Cloudflare("023e105f4ecef8ad9ca31a8372d0c353", TOKEN, endpoint=url, **more)


@pytest.fixture(params=[fastly, cloudflare], ids=["fastly", "cloudflare"])
def cdn(request: pytest.FixtureRequest, url: str) -> Cdn:
    made: Cdn = request.param(url)
    return made


@pytest.mark.parametrize(
    ("scope", "tag"),
    [(ODD, ODD_TAG), ("photos/", "thumbproxy/photos/"), ("", "thumbproxy/")],
)
def test_fastly_purges_by_surrogate_key(vendor: Vendor, url: str, scope: str, tag: str) -> None:
    fastly(url).purge(Scope(scope))
    [asked] = vendor.asked
    assert (asked.method, asked.path) == ("POST", "/service/SU1Z0isxPaozGVKXdv0eY/purge")
    assert asked.headers["Fastly-Key"] == TOKEN
    assert asked.headers["Accept"] == "application/json"
    assert asked.headers["Content-Type"] == "application/json"
    assert json.loads(asked.body) == {"surrogate_keys": [tag]}


@pytest.mark.parametrize(
    ("scope", "tag"),
    [(ODD, ODD_TAG), ("photos/", "thumbproxy/photos/"), ("", "thumbproxy/")],
)
def test_cloudflare_purges_by_cache_tag(vendor: Vendor, url: str, scope: str, tag: str) -> None:
    cloudflare(f"{url}/client/v4/").purge(Scope(scope))
    [asked] = vendor.asked
    zone = "023e105f4ecef8ad9ca31a8372d0c353"
    assert (asked.method, asked.path) == ("POST", f"/client/v4/zones/{zone}/purge_cache")
    assert asked.headers["Authorization"] == f"Bearer {TOKEN}"
    assert asked.headers["Content-Type"] == "application/json"
    assert json.loads(asked.body) == {"tags": [tag]}


def test_what_else_is_at_the_cdn_is_purged_only_where_that_is_wanted(
    vendor: Vendor, url: str
) -> None:
    for whole in (fastly(url, whole=True), cloudflare(url, whole=True)):
        whole.purge(Scope(""))
        whole.purge(Scope("photos/"))
    assert [asked.path.rpartition("/")[2] for asked in vendor.asked] == [
        "purge_all", "purge", "purge_cache", "purge_cache",
    ]  # fmt: skip
    assert vendor.asked[0].body == b""
    assert json.loads(vendor.asked[2].body) == {"purge_everything": True}
    assert json.loads(vendor.asked[3].body) == {"tags": ["thumbproxy/photos/"]}


def test_netrc_does_not_decide_who_we_are(
    vendor: Vendor, cdn: Cdn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    cdn.purge(Scope("a/"))
    assert TOKEN in " ".join(vendor.asked[0].headers.values())
    assert "Basic" not in " ".join(vendor.asked[0].headers.values())


BUSY: Answer = ("429 Too Many Requests", [("Retry-After", "1")], "{}")
BROKEN: Answer = ("503 Service Unavailable", [], "<html>no JSON</html>")


@pytest.mark.parametrize("first", [[BUSY], [BROKEN], [BUSY, BROKEN, BUSY]])
def test_what_may_pass_is_tried_again(vendor: Vendor, cdn: Cdn, first: list[Answer]) -> None:
    vendor.answers = [*first, DONE]
    cdn.purge(Scope("a/"))
    assert len(vendor.asked) == len(first) + 1


@pytest.mark.parametrize(
    ("answer", "times", "said"),
    [
        (BUSY, 4, "429 Too Many Requests: {}"),
        (BROKEN, 4, "503 Service Unavailable: <html>no JSON</html>"),
        (("401 Unauthorized", [], f'{{"msg": "no such\\n key: {TOKEN}"}}'), 1, "401 Unauthorized"),
        (("404 Not Found", [], ""), 1, "404 Not Found"),
        (("302 Found", [("Location", "/elsewhere")], ""), 1, "302 Found"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_what_does_not_pass_is_told_without_secrets(
    vendor: Vendor, cdn: Cdn, answer: Answer, times: int, said: str
) -> None:
    vendor.answers = [answer]
    with pytest.raises(PurgeFailed) as failed:
        cdn.purge(Scope("a/"))
    assert len(vendor.asked) == times
    assert str(failed.value).startswith(f"{cdn.name}: {said}")
    assert TOKEN not in str(failed.value)
    assert "\n" not in str(failed.value)


def test_nobody_there_is_told_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PurgeFailed, match=r"^fastly: connection refused by 127.0.0.1:[0-9]+$"):
        fastly(f"http://127.0.0.1:{servers.free_port()}").purge(Scope("a/"))


def test_who_does_not_answer_is_not_waited_for(
    vendor: Vendor, cdn: Cdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_READ_SECONDS", 0.05)
    vendor.held = threading.Event()
    try:
        with pytest.raises(PurgeFailed, match=r": no whole answer in time from 127.0.0.1:[0-9]+$"):
            cdn.purge(Scope("a/"))
    finally:
        vendor.held.set()


@pytest.mark.parametrize("text", ["", "{}", "[]", "ok", '{"success": false}'])
def test_cloudflare_must_say_that_it_was_done(vendor: Vendor, url: str, text: str) -> None:
    vendor.answers = [("200 OK", [], text)]
    with pytest.raises(PurgeFailed, match="does not say that it was done"):
        cloudflare(url).purge(Scope("a/"))


# -- CloudFront -------------------------------------------------------------------------------


INVALIDATED = """<?xml version="1.0"?>
<Invalidation xmlns="http://cloudfront.amazonaws.com/doc/2020-05-31/"><Id>I1</Id>
<Status>InProgress</Status><CreateTime>2026-01-01T00:00:00Z</CreateTime>
<InvalidationBatch><Paths><Quantity>1</Quantity><Items><Path>/</Path></Items></Paths>
<CallerReference>x</CallerReference></InvalidationBatch></Invalidation>"""
REFUSED = """<?xml version="1.0"?>
<ErrorResponse xmlns="http://cloudfront.amazonaws.com/doc/2020-05-31/">
<Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no, said SECRET</Message></Error>
<RequestId>1</RequestId></ErrorResponse>"""


@pytest.fixture
def cloudfront(url: str, monkeypatch: pytest.MonkeyPatch) -> Cdn:
    pytest.importorskip("botocore")
    from thumbproxy.purging.cdn.cloudfront import CloudFront  # noqa: PLC0415 - an extra

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", TOKEN)
    return CloudFront("EDFDVBD6EXAMPLE", prefix="/thumb", endpoint=url)


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ("photos/cat.jpg", "/thumb/photos/cat.jpg/*"),
        (ODD, "/thumb/m%C3%A9dias/%C3%A9t%C3%A9,%20%C3%A0%20Nice.jpg/*"),
        ("photos/", "/thumb/photos/*"),
        ("", "/thumb/*"),
    ],
)
def test_cloudfront_is_told_the_paths(
    vendor: Vendor, cloudfront: Cdn, scope: str, path: str
) -> None:
    vendor.answers = [("201 Created", [("Content-Type", "text/xml")], INVALIDATED)]
    for _ in range(2):
        cloudfront.purge(Scope(scope))
    first, second = vendor.asked
    assert first.method == "POST"
    assert first.path == "/2020-05-31/distribution/EDFDVBD6EXAMPLE/invalidation"
    assert first.headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    assert TOKEN not in str(first)
    told = [ET.fromstring(asked.body) for asked in (first, second)]
    name = "{http://cloudfront.amazonaws.com/doc/2020-05-31/}"
    for batch in told:
        paths = [item.text for item in batch.iter(f"{name}Path")]
        # And what differs from it in Unicode's normalization alone.
        assert (paths[0], len(paths)) == (path, 4 if scope == ODD else 1)
        assert [item.text for item in batch.iter(f"{name}Quantity")] == [str(len(paths))]
    references = {item.text for batch in told for item in batch.iter(f"{name}CallerReference")}
    assert len(references) == 2, "the second is not taken for the first"


def test_what_cloudfront_refuses_is_told(vendor: Vendor, cloudfront: Cdn) -> None:
    vendor.answers = [("403 Forbidden", [("Content-Type", "text/xml")], REFUSED)]
    with pytest.raises(PurgeFailed, match=r"^cloudfront: AccessDenied$"):
        cloudfront.purge(Scope("a/"))


# -- configured -------------------------------------------------------------------------------


def app(environ: Any, start_response: Any) -> list[bytes]:
    start_response("404 Not Found", [])
    return []


def test_a_purge_is_told_to_the_cdns_of_the_configuration(
    vendor: Vendor, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    cdn = {
        "fastly": {"service": "S1", "token": TOKEN, "endpoint": url},
        "cloudflare": {"zone": "z1", "token": TOKEN, "endpoint": url},
    }
    proxy = ThumbProxy(app, keys=[KEY], cache_dir=str(tmp_path), cdn=cdn)
    assert proxy.purge("a/").purged == ("disk", "fastly", "cloudflare")
    assert [asked.path for asked in vendor.asked] == ["/service/S1/purge", "/zones/z1/purge_cache"]
    refused = ("403 Forbidden", [], f"not with {TOKEN}")
    vendor.answers = [refused, DONE]
    result = proxy.purge("a/")
    assert result.purged == ("disk", "cloudflare"), "one that fails does not stop the others"
    assert result.failed == {"fastly": "fastly: 403 Forbidden: not with ***"}
    assert "not purged of 'a/': fastly: 403 Forbidden" in caplog.text
    assert TOKEN not in caplog.text


def test_a_cdn_is_told_when_other_hosts_know(
    vendor: Vendor, url: str, tmp_path: Path, memcached: servers.Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Else it might fetch the old picture from one of them, and keep it for long."""
    waited: list[tuple[float, int]] = []
    monkeypatch.setattr(
        "thumbproxy.purging.purger.time.sleep",
        lambda seconds: waited.append((seconds, len(vendor.asked))),
    )
    proxy = ThumbProxy(
        app, keys=[KEY], cache_dir=str(tmp_path), memcached=[f"127.0.0.1:{memcached.port}"],
        cdn={"fastly": CdnSetting("S1", TOKEN, endpoint=url)},
    )  # fmt: skip
    assert proxy.purge("a/").complete
    assert waited == [(2.0, 0)]
    assert len(vendor.asked) == 1


def test_cdns_are_configured_in_a_file_or_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "thumbproxy.toml"
    file.write_text(
        f'keys = ["{KEY}"]\n[cdn.fastly]\nservice = "S1"\ntoken = "{TOKEN}"\nwhole = true\n'
    )
    expected = {"fastly": CdnSetting("S1", TOKEN, whole=True)}
    assert Settings.load(file).cdn == expected
    text = f'fastly = {{ service = "S1", token = "{TOKEN}", whole = true }}'
    settings = Settings.load(None, {"THUMBPROXY_KEYS": KEY, "THUMBPROXY_CDN": text})
    assert settings.cdn == expected
    assert TOKEN not in repr(settings)
    assert TOKEN not in repr(settings.cdn)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"akamai": {}}, "'akamai' is none of fastly, cloudflare, cloudfront"),
        ({"fastly": {"token": TOKEN}}, "fastly has no service"),
        ({"fastly": {"service": "S1"}}, "fastly has no token"),
        ({"fastly": TOKEN}, "fastly is no table with service and token"),
        ({"cloudflare": {"zone": "z", "token": f"{TOKEN}\r\nX: y"}}, "token of cloudflare"),
        ({"cloudflare": {"zone": "../x", "token": TOKEN}}, "zone of cloudflare"),
        ({"cloudflare": {"zone": 5, "token": TOKEN, "whole": 1}}, "whole of cloudflare"),
        ({"cloudfront": {"distribution": "E1", "token": TOKEN}}, "cloudfront has 'token'"),
        ({"fastly": {"service": "S", "token": TOKEN, "endpoint": "ftp://x"}}, "endpoint of fastly"),
    ],
)
def test_a_wrong_table_is_refused_without_showing_its_secrets(wrong: Any, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings(keys=(KEY,), cdn=wrong)
    (fault,) = refused.value.faults
    assert said in fault
    assert TOKEN not in fault
