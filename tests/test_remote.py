"""Remote sources through a whole server: their hosts are named, or refused unasked."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import servers
from faulty import FaultyOrigin, replies
from origin import Gallery, jpeg, opened

from thumbproxy import Thumbnails, ThumbProxy
from thumbproxy.config.settings import Settings
from thumbproxy.config.types import OriginSetting
from thumbproxy.core.errors import SettingsError
from thumbproxy.origins.remote import RemoteOrigin
from thumbproxy.urls.codec import remote_source
from thumbproxy.urls.hosts import redact_url

THUMBS = Thumbnails([servers.KEY])


def test_a_server_fetches_from_the_hosts_of_its_configuration(tmp_path: Path) -> None:
    config = tmp_path / "thumbproxy.toml"
    with FaultyOrigin({"/a b.jpg": replies(b""), "/a%20b.jpg": replies(jpeg(60, 40))}) as host:
        config.write_text(
            'allow_networks = ["127.0.0.0/8"]\n[origins]\n'
            f'"remote/" = {{ hosts = ["images.example.com", "{host.url}"] }}\n'
        )
        with servers.thumbproxy(
            "--config", str(config), "--cache-dir", str(tmp_path / "cache")
        ) as site:
            url = THUMBS.url(remote_source(f"{host.url}/a%20b.jpg"), width=30, format="jpg")
            replied = [site.ask(url) for _ in range(2)]
            refused = site.ask(THUMBS.url(f"remote/https/127.0.0.1:{host.port}/a.jpg", width=30))
            absent = site.ask(THUMBS.url("cat.jpg", width=30))
    assert [reply.status for reply in replied] == [200, 200]
    assert opened(replied[0].body).size == (30, 20)
    assert "hit" in replied[1]["Cache-Status"]
    assert len(host.requests) == 1
    assert (refused.status, absent.status) == (400, 404)


def test_a_host_that_is_not_named_is_refused_before_anything_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither the cache, where pictures of a host that was named before may be, nor any name."""

    def no_name_is_asked_for(*_: Any, **__: Any) -> Any:
        raise AssertionError

    def ask(app: ThumbProxy, source: str) -> Any:
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": THUMBS.url(source, width=30, format="jpg")}
        reply = app.respond(environ)
        assert reply is not None
        return reply

    def site(*hosts: str) -> ThumbProxy:
        remote = RemoteOrigin(hosts, allow_networks=("127.0.0.0/8",))
        return ThumbProxy(
            Gallery(), keys=[servers.KEY], cache_dir=str(tmp_path), origins={"remote/": remote}
        )

    with FaultyOrigin(replies(jpeg())) as host:
        source = remote_source(f"{host.url}/a.jpg")
        assert ask(site(host.url), source).status == 200
    kept = sorted(tmp_path.rglob("*"))
    assert any(path.suffix == ".jpg" for path in kept)
    app = site("images.example.com")
    monkeypatch.setattr(socket, "getaddrinfo", no_name_is_asked_for)
    for refused in (source, "remote/https/evil.example/a.jpg", "remote/a.jpg"):
        reply = ask(app, refused)
        assert reply.status == 400
        assert reply.body.startswith(b"bad-source")
    assert sorted(tmp_path.rglob("*")) == kept


def test_origins_of_the_configuration_have_a_location_or_hosts() -> None:
    settings = Settings(
        keys=(servers.KEY,),
        origins={"r/": {"hosts": ["*.example.com"], "immutable": True}},  # type: ignore[dict-item]
    )
    assert settings.origins == {"r/": OriginSetting(immutable=True, hosts=("*.example.com",))}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"hosts": []}, "neither a location nor"),
        ({"hosts": ["a.example"], "location": "/srv"}, "neither a location nor"),
        ({}, "neither a location nor"),
        ("", "neither a location nor"),
        ({"hosts": "a.example"}, "no list like"),
        ({"hosts": [1]}, "no list like"),
        ({"hosts": ["a.example", "https://b.example/c"]}, "'https://b.example/c' is no host like"),
        ({"hosts": ["127.1"]}, "'127.1' is no host"),
        (
            {"hosts": ["127.1", "a.example", "b/c"]},
            "'127.1' is no host that can be asked, 'b/c' is no host like",
        ),
        ({"host": ["a.example"]}, "'host', which is none of location, immutable, hosts"),
    ],
)
def test_what_is_wrong_with_hosts_is_told(entry: Any, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(keys=(servers.KEY,), origins={"r/": entry})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://host/a?signature=x", "http://host/a?…"),
        ("http://user:pass@host/a", "http://***@host/a"),
        ("http://user:p@ss@host/a", "http://***@host/a"),
        ("http://host/a@b", "http://host/a@b"),
    ],
)
def test_a_url_is_told_without_its_secrets(url: str, told: str) -> None:
    assert redact_url(url) == told
