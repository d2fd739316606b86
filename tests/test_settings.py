"""The configuration: three places, one schema, all faults at once."""

from __future__ import annotations

import signal
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import servers

from thumbproxy import ThumbProxy
from thumbproxy.assembly.build import application, standalone
from thumbproxy.config.loading import overridden
from thumbproxy.config.settings import Settings, UnusableSettings
from thumbproxy.config.types import EXAMPLE_KEYS, OriginSetting, WatermarkSetting
from thumbproxy.core.errors import SettingsError
from thumbproxy.core.limits import Limits

KEY = "a-key-that-only-the-tests-use"


def faults(*places: Any, **values: Any) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        Settings(**values) if values else Settings.load(*places)
    return refused.value.faults


def test_the_later_place_wins(tmp_path: Path) -> None:
    file = tmp_path / "thumbproxy.toml"
    file.write_text(f'keys = ["{KEY}"]\nprefix = "/file"\nworkers = 3\nbind = "127.0.0.1:1"\n')
    environ = {"THUMBPROXY_PREFIX": "/env", "THUMBPROXY_BIND": "127.0.0.1:2", "PATH": "/bin"}
    settings = Settings.load(file, environ, {"bind": "127.0.0.1:3", "prefix": None})
    assert (settings.workers, settings.prefix, settings.bind) == (3, "/env", "127.0.0.1:3")
    assert Settings.load(file, {}, {}, {"cache_dir": "/c", "workers": 9}).cache_dir == "/c"
    assert Settings.load(file, {}, {}, {"cache_dir": "/c", "workers": 9}).workers == 3


def test_lists_are_separated_by_commas_in_text() -> None:
    environ = {
        "THUMBPROXY_KEYS": f"{KEY}, {KEY}-old",
        "THUMBPROXY_MEMCACHED": "a:11211,[::1]:11212",
        "THUMBPROXY_AUTO_FORMATS": "webp",
        "THUMBPROXY_ALLOW_NETWORKS": "10.0.0.0/8",
        "THUMBPROXY_IMMUTABLE": "true",
        "THUMBPROXY_FETCH_TIMEOUT": "2.5",
    }
    settings = Settings.load(None, environ)
    assert settings.keys == (KEY, f"{KEY}-old")
    assert settings.memcached == ("a:11211", "[::1]:11212")
    assert settings.auto_formats == ("webp",)
    assert settings.allow_networks == ("10.0.0.0/8",)
    assert settings.immutable is True
    assert settings.fetch_timeout == 2.5


def test_origins_are_a_table_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "thumbproxy.toml"
    file.write_text(f"""
        keys = ["{KEY}"]
        [origins]
        "media/" = "/srv/media"
        "shop/" = {{ location = "https://shop.example", immutable = true }}
    """)
    assert Settings.load(file).origins == {
        "media/": OriginSetting("/srv/media", False),
        "shop/": OriginSetting("https://shop.example", True),
    }


def test_relative_paths_of_a_file_begin_where_it_is(tmp_path: Path) -> None:
    file = tmp_path / "thumbproxy.toml"
    file.write_text(f"""
        keys = ["{KEY}"]
        cache_dir = "cache"
        origin = "../media"
        [origins]
        "a/" = "a"
        "b/" = {{ location = "b" }}
        "c/" = "~/c"
        "d/" = "http://d.example"
    """)
    settings = Settings.load(file)
    assert settings.cache_dir == str(tmp_path / "cache")
    assert settings.origin == str(tmp_path / "../media")
    locations = {prefix: origin.location for prefix, origin in settings.origins.items()}
    assert locations == {
        "a/": str(tmp_path / "a"),
        "b/": str(tmp_path / "b"),
        "c/": "~/c",
        "d/": "http://d.example",
    }


def test_a_key_below_the_wrong_heading_is_explained_and_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "thumbproxy.toml"
    file.write_text(f'[origins]\n"" = "/srv"\nkeys = ["{KEY}"]\n')
    fault = faults(file)[0]
    assert "'keys' is a setting and belongs above [origins]" in fault
    assert KEY not in fault


def test_settings_below_the_wrong_heading_hide_no_fault_of_an_origin(tmp_path: Path) -> None:
    file = tmp_path / "thumbproxy.toml"
    file.write_text('[origins]\n"a/" = 5\nthreads = 4\nmax_age = 60\n')
    found = faults(file, {"THUMBPROXY_KEYS": KEY})
    for name in ("threads", "max_age"):
        assert f"origins in {file}: {name!r} is a setting and belongs above [origins]." in found
    assert any("the entry 'a/' is neither" in fault for fault in found)
    assert len(found) == 3


def test_all_faults_are_reported_at_once_with_what_is_allowed(tmp_path: Path) -> None:
    file = tmp_path / "thumbproxy.toml"
    file.write_text('worker = 3\nthreads = "many"\nimmutable = "yes"\norigins = 5\n')
    environ = {"THUMBPROXY_QUALITY_JPG": "101", "THUMBPROXY_BINDD": "x", "THUMBPROXY_KEYS": "tiny!"}
    found = "\n".join(faults(file, environ, {"workers": "-1"}))
    for part in (
        f"worker in {file}: there is no such setting; did you mean workers?",
        f"threads in {file}: 'many' is not allowed; it takes a whole number from 1 to 1024.",
        f"immutable in {file}: 'yes' is not allowed; it takes true or false.",
        f"origins in {file}: what was given is not allowed",
        "THUMBPROXY_QUALITY_JPG: '101' is not allowed; it takes a whole number from 1 to 100.",
        "THUMBPROXY_BINDD: there is no such setting; did you mean bind?",
        "--workers: '-1' is not allowed",
        "THUMBPROXY_KEYS: a key of 5 bytes is too short; it takes a list, each a secret of 16",
    ):
        assert part in found
    assert "tiny!" not in found, "secrets are not shown"
    assert "none given" not in found


def test_a_missing_key_is_told_with_the_other_faults() -> None:
    assert len(faults(None, {"THUMBPROXY_THREADS": "0"})) == 2
    assert len(faults(threads=0)) == 2


@pytest.mark.parametrize("name", ["fetch_timeout", "request_timeout", "render_timeout"])
def test_no_time_at_all_is_refused(name: str) -> None:
    (fault,) = faults(keys=[KEY], **{name: 0})
    assert "from 0.1 seconds to 10 minutes" in fault
    least: dict[str, Any] = {name: 0.1}
    assert getattr(Settings(keys=(KEY,), **least), name) == 0.1


def test_two_origins_for_everything_are_refused() -> None:
    (fault,) = faults(keys=[KEY], origin="/srv", origins={"": "/media"})
    assert fault.startswith("origin: ")


def test_an_unknown_setting_is_not_answered_with_all_of_them() -> None:
    (fault,) = faults(None, {"THUMBPROXY_KEYS": KEY, "THUMBPROXY_XYZZY": "1"})
    assert "docs/configuration.md" in fault
    assert len(fault) < 100


def test_the_rest_of_wrong_settings_can_be_looked_at_and_has_a_key_of_its_own() -> None:
    environ = {"THUMBPROXY_THREADS": "x", "THUMBPROXY_PREFIX": "/p", "THUMBPROXY_KEYS": "short"}
    with pytest.raises(UnusableSettings) as refused:
        Settings.load(None, environ)
    assert refused.value.wrong == {"threads", "keys"}
    assert (refused.value.rest.prefix, refused.value.rest.threads) == ("/p", 128)
    assert len(refused.value.rest.keys[0]) > 40


def test_what_the_environment_overrides_is_known(tmp_path: Path) -> None:
    file = tmp_path / "thumbproxy.toml"
    file.write_text(f'keys = ["{KEY}"]\nthreads = 3\n')
    environ = {"THUMBPROXY_KEYS": KEY, "THUMBPROXY_PREFIX": "/p", "THUMBPROXY_CONFIG": str(file)}
    assert overridden(file, environ) == {"keys": "THUMBPROXY_KEYS"}
    assert overridden(None, environ) == {}


def test_values_are_brought_to_one_form() -> None:
    settings = Settings(keys=[KEY], origins={"m/": "/srv"})  # type: ignore[arg-type, dict-item]
    assert settings.keys == (KEY,)
    assert settings.origins == {"m/": OriginSetting("/srv")}


@pytest.mark.parametrize(
    "keys", [(), ("x" * 15,), (KEY, "x"), tuple(EXAMPLE_KEYS), (KEY, *EXAMPLE_KEYS), KEY]
)
def test_keys_that_protect_nothing_are_refused_with_the_remedy(keys: Any) -> None:
    (fault,) = faults(keys=keys)
    assert "thumbproxy keygen" in fault
    assert KEY not in fault


@pytest.mark.parametrize(
    "wrong",
    [{"prefix": "thumb"}, {"prefix": "/"}, {"prefix": "/é"}, {"upstream": "ftp://x"},
     {"upstream": "http://user:pw@x"}, {"upstream": "http://x/?q"}, {"memcached": ["nohost"]},
     {"memcached": "a:1"}, {"allow_networks": ["10.0.0.1/8"]}, {"bind": "8080"},
     {"auto_formats": ["jpg"]}, {"origins": {"a": 5}}, {"origins": {"a": {"path": "/"}}},
     {"origins": {"a": {"location": 5}}},
     {"quality_jpg": True}, {"max_output_side": 0}],
)  # fmt: skip
def test_wrong_values_are_refused(wrong: dict[str, Any]) -> None:
    (fault,) = faults(keys=[KEY], **wrong)
    assert fault.startswith(next(iter(wrong)))


@pytest.mark.parametrize("text", ["keys = [", "\xff"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "thumbproxy.toml"
    file.write_bytes(text.encode("latin-1"))
    (fault,) = faults(file)
    assert str(file) in fault
    (fault,) = faults(tmp_path / "absent.toml")
    assert "absent.toml" in fault


def test_keys_are_not_shown() -> None:
    assert KEY not in repr(Settings(keys=(KEY,)))


def test_every_limit_has_a_setting_with_the_same_default() -> None:
    assert Settings(keys=(KEY,)).limits == Limits()


def test_every_setting_has_a_meaning() -> None:
    for setting in fields(Settings):
        assert setting.metadata["meaning"]
        assert setting.metadata["kind"].allowed


# -- what is found when the parts are put together -------------------------------------------


def test_middleware_reports_faults_at_once(tmp_path: Path) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        return []

    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(SettingsError) as refused:
        ThumbProxy(
            app,
            keys=[KEY],
            cache_dir=str(blocked / "cache"),
            origins={"a/": str(tmp_path / "absent"), "a": app, "/b": app},
        )
    text = "\n".join(refused.value.faults)
    assert "cache_dir" in text
    assert "absent" in text
    with pytest.raises(SettingsError, match="did you mean cache_dir"):
        ThumbProxy(app, keys=[KEY], cachedir="/x")
    with pytest.raises(SettingsError, match="5 is no origin"):
        ThumbProxy(app, keys=[KEY], origins={"": 5})  # type: ignore[dict-item]
    with pytest.raises(SettingsError, match="keygen"):
        ThumbProxy(app)


def test_middleware_tells_of_wrong_values_and_wrong_folders_together(tmp_path: Path) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        return []

    with pytest.raises(SettingsError) as refused:
        ThumbProxy(app, threads=0, nonsense=1, origins={"a/": str(tmp_path / "absent")})
    text = "\n".join(refused.value.faults)
    for part in ("nonsense: there is no such", "threads: 0", "keygen", "no folder"):
        assert part in text
    assert "none given; `--origin" not in text, "the application is the origin"
    with pytest.raises(SettingsError, match="'' is the prefix of two"):
        ThumbProxy(app, keys=[KEY], origin=str(tmp_path), origins={"": app})


def test_folders_watermarks_presets_and_keys_are_told_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "thumbproxy.toml"
    file.write_text("""
        quality_jpg = 0
        cache_dir = "/dev/null/cache"
        [origins]
        "a/" = "absent"
        "b/" = "http://[::1"
        [watermarks.logo]
        image = "absent.png"
        [presets]
        card = "w_x"
    """)
    monkeypatch.setenv("THUMBPROXY_CONFIG", str(file))
    with pytest.raises(SettingsError) as refused:
        application()
    text = "\n".join(refused.value.faults)
    for part in ("quality_jpg in", "cache_dir: ", "origins: 'a/': there is no folder",
                 "origins: 'b/': ", "watermarks: ", "presets in", "keys: none given"):  # fmt: skip
        assert part in text
    assert len(refused.value.faults) == 7
    file.write_text('upstream = "ftp://a"\n')
    with pytest.raises(SettingsError) as refused:
        application()
    assert "origin: none given" not in str(refused.value), "it may be the upstream"


def test_keys_of_a_file_that_the_environment_overrides_are_told_at_the_start_and_at_hup(
    tmp_path: Path,
) -> None:
    file, log = tmp_path / "thumbproxy.toml", tmp_path / "log"
    file.write_text(f'keys = ["{KEY}"]\norigin = "."\nworkers = 9\n')
    cache = str(tmp_path / "cache")
    with servers.thumbproxy("--config", str(file), "--cache-dir", cache, log=log) as site:
        told = f"keys of {file} are overridden by THUMBPROXY_KEYS"
        assert log.read_text().count(told) == 1
        assert site.process
        site.process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 20
        while log.read_text().count(told) < 2:
            assert time.monotonic() < until
            time.sleep(0.05)
    assert KEY not in log.read_text()
    assert "workers of" not in log.read_text()


def test_a_server_needs_to_know_where_pictures_are() -> None:
    with pytest.raises(SettingsError, match="--origin FOLDER"):
        standalone(Settings(keys=(KEY,)))


@pytest.mark.parametrize(
    "origin", ["http://user:secret@host/", "http://", "http://[::1", "http://a/?b"]
)
def test_an_origin_that_cannot_be_asked_is_refused(origin: str) -> None:
    with pytest.raises(SettingsError, match="origin"):
        standalone(Settings(keys=(KEY,), origin=origin))


def test_the_factory_for_other_servers_reads_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "thumbproxy.toml"
    file.write_text(f'keys = ["{KEY}"]\n')
    monkeypatch.setenv("THUMBPROXY_CONFIG", str(file))
    monkeypatch.setenv("THUMBPROXY_ORIGIN", str(tmp_path))
    assert callable(application())
    monkeypatch.setenv("THUMBPROXY_ORIGIN", str(tmp_path / "absent"))
    with pytest.raises(SettingsError, match="absent"):
        application()


def test_a_watermark_may_be_given_as_the_value_that_it_becomes() -> None:
    setting = WatermarkSetting("logo.png", opacity=0.5)
    made = Settings(keys=(KEY,), watermarks={"a": setting})
    assert made.watermarks == {"a": setting}
