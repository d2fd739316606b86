"""The commands of the documentation, run by a shell, with the files that they tell of."""

from __future__ import annotations

import json
import re
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import nginx
import pytest
import servers
import yaml
from origin import jpeg, opened
from processes import family
from snippets import COMMAND, Reader, claim

from thumbproxy import Thumbnails
from thumbproxy.config.settings import Settings
from thumbproxy.config.types import EXAMPLE_KEYS

THUMBS = Thumbnails([servers.KEY])
# Each command is a process of its own, and a machine may be busy.
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path, THUMBPROXY_KEYS=servers.KEY)


# -- servers ---------------------------------------------------------------------------------

SERVE, SIGN = claim("sh", "README.md", "THUMBPROXY_KEYS")
[UPSTREAM] = claim(COMMAND, "README.md", "--upstream")
[CONTAINER] = claim("sh", "docs/serving.md", "docker")


def test_a_server_of_its_own_and_an_address_for_it(tmp_path: Path) -> None:
    """In two terminals; the second is given the key that the first has shown."""
    reader = Reader(tmp_path)
    with reader.serving(SERVE.text) as server:
        reader.places |= {"…": reader.printed[0], "127.0.0.1:8080": f"127.0.0.1:{server.port}"}
        reader.run(SIGN.text)
    [file] = reader.home.glob("w_400,*.webp")
    assert opened(file.read_bytes()).size == (400, 300)


def test_an_upstream_is_resized_and_passed_on(reader: Reader) -> None:
    with servers.wsgi(site(reader.media)) as upstream:
        reader.places["http://127.0.0.1:8000"] = upstream.url
        with reader.serving(UPSTREAM.text) as server:
            assert opened(server.ask(THUMBS.url("photos/cat.jpg", width=60)).body).width == 60
            assert opened(server.ask("/photos/cat.jpg").body).width == 600


def test_what_a_container_is_told_serves(reader: Reader) -> None:
    """Without the container: the image and what is in it are looked at by test_conf.py."""
    build, run = (shlex.split(line) for line in CONTAINER.text.replace("\\\n", "").splitlines())
    image = build[build.index("-t") + 1]
    options, arguments = run[: run.index(image)], run[run.index(image) + 1 :]
    assert "THUMBPROXY_KEYS" in options
    outside, inside, *_ = options[options.index("-v") + 1].split(":")
    port = servers.free_port()
    reader.places |= {"0.0.0.0:8080": f"0.0.0.0:{port}", inside: reader.fitted(outside)}
    command = shlex.split(reader.fitted(shlex.join(["thumbproxy", *arguments])))
    with servers.running(command, port, env=reader.environ) as server:
        assert opened(server.ask(THUMBS.url("photos/cat.jpg", width=60)).body).width == 60


SERVE_CACHED, NGINX = claim("sh", "docs/serving.md", r"\A(thumbproxy serve|nginx) ")
[TRY] = claim("sh", "docs/serving.md", "sed -e")
[STOP] = claim(COMMAND, "docs/serving.md", "^nginx ")


def test_nginx_serves_what_thumbproxy_made(reader: Reader) -> None:
    """On another port, as the page has it to try; as root with a user who may read the cache."""
    cache = reader.home / ".cache" / "thumbproxy"
    port = servers.free_port()
    serve = reader.fitted(SERVE_CACHED.text).replace(str(reader.cache), str(cache))
    del reader.places["/var/cache/thumbproxy"]  # which sed is told to change
    reader.places |= {
        "/tmp/try": str(reader.home / "try"),
        "127.0.0.1:8081": f"127.0.0.1:{port}",
        "s/^user .*//": "s/^user .*/user root;/" if nginx.as_root() else "s/^user .*//",
    }
    (reader.home / "conf").mkdir()
    conf = reader.home / "conf" / "nginx.conf"
    with reader.serving(serve) as server:
        fitted = nginx.CONF.read_text().replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")
        conf.write_text(fitted)
        reader.run(TRY.text)
        front = servers.Server(port)
        try:
            url = THUMBS.url("photos/cat.jpg", width=60, version=1, format="webp")
            assert opened(front.ask(url).body).width == 60
            assert front.ask(url).status == 200
            served = front.ask(url)
        finally:
            reader.run(STOP.text)
    assert "thumbproxy" not in (served["Cache-Status"] or "")
    assert served["ETag"]


def test_nginx_takes_the_whole_configuration(reader: Reader) -> None:
    """Its own user and its own port are the test's; it is not started."""
    (reader.home / "conf").mkdir()
    folder = reader.home / "nginx"
    folder.mkdir()
    (reader.home / "conf" / "nginx.conf").write_text(
        nginx.fitted(servers.free_port(), "127.0.0.1:9", reader.cache, folder)
    )
    reader.run(f"{NGINX.text.strip()} -t -e stderr -g 'pid {folder}/pid;'")


# -- one server with everything --------------------------------------------------------------

[KEYS] = claim("sh", "docs/configuration.md", "keygen")
[TOKEN] = claim("sh", "docs/metrics.md", "METRICS_TOKEN")
[SCRAPE] = claim("yaml", "docs/metrics.md")
[PURGE] = claim("sh", "docs/purging.md", "PURGE")
[PURGED] = claim("json", "docs/purging.md")
[TAGS] = claim("http", "docs/purging.md")
[PROCESSES] = claim("console", "docs/operating.md")
[LOGGED] = claim("text", "docs/operating.md", "^GET ")
PURGE_TOKEN = "a-token-that-only-the-tests-use"


@pytest.fixture(scope="module")
def everything(
    tmp_path_factory: pytest.TempPathFactory, memcached: servers.Server
) -> Iterator[tuple[Reader, servers.Server, Thumbnails]]:
    """A server started by a shell that made its key and token as the pages say."""
    reader = Reader(
        tmp_path_factory.mktemp("everything"), THUMBPROXY_ACCESS_LOG="true",
        THUMBPROXY_SURROGATE_KEYS="Surrogate-Key,Cache-Tag", THUMBPROXY_PURGE_TOKEN=PURGE_TOKEN,
        THUMBPROXY_MEMCACHED=f"127.0.0.1:{memcached.port}",
    )  # fmt: skip
    tell = 'echo "$THUMBPROXY_KEYS $THUMBPROXY_METRICS_TOKEN"'
    serve = "thumbproxy serve --origin /srv/media --cache-dir /var/cache/thumbproxy"
    with reader.serving(f"{KEYS.text}{TOKEN.text}{tell}\n{serve}") as server:
        key, token = reader.printed
        reader.places |= {"$TOKEN": PURGE_TOKEN, "127.0.0.1:8080": f"127.0.0.1:{server.port}"}
        reader.environ["METRICS"] = token
        yield reader, server, Thumbnails([key])


Everything = tuple[Reader, servers.Server, Thumbnails]


def test_a_picture_carries_the_tags_that_are_shown(everything: Everything) -> None:
    _, server, thumbs = everything
    reply = server.ask(thumbs.url("photos/cat.jpg", width=50))
    for line in TAGS.text.splitlines():
        name, _, value = line.partition(": ")
        assert reply[name] == value


def logged(reader: Reader, text: str) -> str:
    """The line of the log with this text, once a thread of the server's has written it."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for line in (reader.home / "log").read_text().splitlines(keepends=True):
            if text in line and line.endswith("\n"):
                return line
        threading.Event().wait(0.02)
    pytest.fail(f"the log has no {text}")


def test_the_access_log_has_the_fields_that_are_shown(everything: Everything) -> None:
    reader, server, thumbs = everything
    url = thumbs.url("photos/dogs/rex.jpg", width=400, format="webp")
    assert server.ask(url).status == 200
    line = logged(reader, url)

    def form(text: str) -> list[str]:
        words = text[text.index("GET ") :].split()
        return [words[0], words[2], *(word.partition("=")[0] for word in words[3:])]

    # `fetch` only where an origin was asked over HTTP.
    assert [name for name in form(line) if name != "fetch"] == form(LOGGED.text)


def test_the_processes_have_the_names_that_are_shown(everything: Everything) -> None:
    reader, server, thumbs = everything
    assert server.process
    assert server.ask(thumbs.url("photos/dogs/rex.jpg", width=33)).status == 200
    command, *lines = PROCESSES.text.splitlines()
    shown = {words[2] for words in map(str.split, lines) if len(words) == 3}
    ours = set(family(server.process.pid))
    rows = [row.split() for row in reader.run(command.removeprefix("$ ")).splitlines()]
    assert {name for pid, _, name, *_ in rows if int(pid) in ours} == shown


def test_a_purge_answers_as_is_shown(everything: Everything) -> None:
    reader, server, thumbs = everything
    assert server.ask(thumbs.url("photos/cat.jpg", width=51)).status == 200
    answer, shown = json.loads(reader.run(PURGE.text)), json.loads(PURGED.text)
    assert list(answer) == list(shown)
    for name in ("scope", "purged", "failed"):
        assert answer[name] == shown[name]
    assert answer["files"] >= 2


def test_prometheus_is_told_how_to_ask(everything: Everything) -> None:
    reader, server, _ = everything
    [job] = yaml.safe_load(SCRAPE.text)["scrape_configs"]
    # What prometheus.io/docs says of these: the path and the scheme that are not named here.
    assert job.get("metrics_path", "/metrics") == "/metrics"
    assert set(job) == {"job_name", "authorization", "static_configs"}
    assert Path(job["authorization"]["credentials_file"]).is_absolute()
    assert job["authorization"].get("type", "Bearer") == "Bearer"
    for target in job["static_configs"][0]["targets"]:
        assert re.fullmatch(r"[\w-]+:\d+", target)
    bearer = {"Authorization": f"Bearer {reader.environ['METRICS']}"}
    assert b"thumbproxy_requests_total" in server.ask("/metrics", bearer).body
    assert server.ask("/metrics").status == 401


# -- commands beside a configuration ---------------------------------------------------------

[CONFIG] = claim("toml", "docs/configuration.md", "presets")
[VARIABLE] = claim(COMMAND, having="^THUMBPROXY_CDN=")


def site(media: Path) -> Callable[..., Iterable[bytes]]:
    """A web server of files, which also lists what is below a prefix as S3 does."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        prefix = parse_qs(environ["QUERY_STRING"]).get("prefix", [""])[0]
        names = [path.relative_to(media) for path in media.rglob("*.jpg")]
        asked = environ["PATH_INFO"].lstrip("/")
        if not asked:
            keys = "".join(
                f"<Contents><Key>{name}</Key></Contents>"
                for name in sorted(map(str, names))
                if name.startswith(prefix)
            )
            body = f"<ListBucketResult>{keys}<IsTruncated>false</IsTruncated></ListBucketResult>"
            start_response("200 OK", [("Content-Type", "application/xml")])
            return [body.encode()]
        if asked not in map(str, names):
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b""]
        start_response("200 OK", [("Content-Type", "image/jpeg")])
        return [(media / asked).read_bytes()]

    return app


@pytest.fixture
def configured(reader: Reader, memcached: servers.Server) -> Iterator[Reader]:
    """A reader with the configuration of docs/configuration.md, whose shop is on this machine."""
    del reader.environ["THUMBPROXY_KEYS"]
    with servers.wsgi(site(reader.media)) as shop:
        (reader.home / "logo.png").write_bytes(jpeg(20, 10))
        reader.places |= {
            "https://shop.example.com": shop.url,
            "https://bucket.example.com": shop.url,
            "/srv/uploads": str(reader.media),
            "10.0.0.5:11211": f"127.0.0.1:{memcached.port}",
            "/etc/thumbproxy.toml": str(reader.home / "thumbproxy.toml"),
            **dict.fromkeys(EXAMPLE_KEYS, servers.KEY),
        }
        file = reader.home / "thumbproxy.toml"
        file.write_text(reader.fitted(CONFIG.text))
        file.chmod(0o600)
        reader.environ |= {
            "THUMBPROXY_CONFIG": str(file),
            "THUMBPROXY_MEMCACHED_NAMESPACE": str(reader.home),
        }
        yield reader


def renditions(reader: Reader) -> list[str]:
    """The names of what is kept, without signatures."""
    trees = (reader.cache / "public", reader.cache / "private")
    found = [path.name for tree in trees for path in tree.rglob("*.*")]
    return sorted(re.sub(r"\.[\w-]{22}\.", ".", name) for name in found if "_" in name)


[LIST] = claim("text", "docs/warming.md", "<TAB>")
FIRST, PRESETS, BUCKET, AWS, JOURNAL = claim("sh", "docs/warming.md", "thumbproxy warm")
[SUMMARY] = claim("text", "docs/warming.md", "^made ")


def test_presets_are_warmed_in_all_widths(configured: Reader) -> None:
    """Six addresses, three pictures of each."""
    (configured.media / "photos" / "dogs" / "rex.jpg").unlink()
    (configured.media / "static" / "photos" / "cat.jpg").unlink()
    configured.run(PRESETS.text)
    assert len(renditions(configured)) == 6 * 3


def test_a_list_is_warmed_with_its_versions(configured: Reader) -> None:
    (configured.home / "list.txt").write_text(LIST.text.replace("<TAB>", "\t"))
    configured.run(JOURNAL.text)
    names = {name.partition(".")[0] for name in renditions(configured)}
    assert names == {"w_400,h_300,fit_cover,v_7f3a"}
    assert (configured.home / "warm.journal").exists()


def test_buckets_are_warmed(configured: Reader) -> None:
    configured.run(BUCKET.text)
    assert len(renditions(configured)) == 2 * 3
    # The lines that `aws s3 ls --recursive` prints, as its manual shows them.
    listed = "2013-09-02 21:37:53         10 photos/cat.jpg\\n"
    configured.run(f"rm -r {configured.cache}; aws() {{ printf '{listed}'; }}\n{AWS.text}")
    assert len(renditions(configured)) == 3


def test_a_warm_up_tells_what_is_shown(configured: Reader) -> None:
    (configured.media / "photos" / "cut.jpg").write_bytes(jpeg(600, 400)[:-900])
    names = ["photos/cat.jpg", "https://cdn.example/x.jpg", "photos/old.jpg", "photos/older.jpg",
             "photos/cut.jpg"]  # fmt: skip

    def form(text: str) -> list[str]:
        """The lines with any number; the time that it took is another each time."""
        return [re.sub(r"\d+", "1", line) for line in text.splitlines() if " min " not in line]

    (configured.home / "list.txt").write_text("\n".join(names))
    told = configured.run("thumbproxy warm --from list.txt --format webp", status=1)
    shown = form(SUMMARY.text)
    assert [line for line in form(told) if line in shown] == shown
    assert re.search(r"^in .+ s, [\d.]+ pictures/s$", told, re.MULTILINE)


[STATS] = claim("console", "docs/cache.md", "cache stats")
[VERIFY] = claim("console", "docs/cache.md", "cache verify")
[EXPLAIN] = claim("sh", "docs/serving.md", "explain")
[DOCTOR] = claim("sh", "docs/doctor.md")
[NAMES] = claim("sh", "docs/purging.md", "^thumbproxy purge")
# Those in the text that are whole; the others are named, and looked at by test_snippets.py.
PURGES = claim(COMMAND, having="^thumbproxy purge (?!SOURCE)")
[PRESET] = claim(COMMAND, "docs/configuration.md", "--preset")


def test_a_folder_is_warmed_in_one_size_and_the_cache_tells_of_it(configured: Reader) -> None:
    configured.run(FIRST.text)
    assert renditions(configured) == ["w_400,h_300,fit_cover.webp"] * 3
    command, *shown = STATS.text.splitlines()
    told = configured.run(command.removeprefix("$ ")).splitlines()

    def form(line: str) -> str:
        """A line without its sizes and times, of one file or of several."""
        line = configured.fitted(line).replace("files", "file")
        line = re.sub(r"[\d.,]+( ([KMG]iB|bytes))?|(?<= use ).+ ago$", "", line)
        return " ".join(line.split())

    assert set(map(form, shown)) <= set(map(form, told))


def test_what_is_damaged_is_found_and_removed(configured: Reader) -> None:
    configured.run(FIRST.text)
    for path in configured.cache.rglob("*.webp"):
        path.write_bytes(b"" if "cat" in str(path) else b"cut off")
    command, *shown = VERIFY.text.splitlines()
    told = configured.run(command.removeprefix("$ "), status=1).splitlines()

    def form(line: str) -> str:
        return re.sub(r"^'.+'|\d+", "1", line)

    assert {form(line) for line in shown} == {form(line) for line in told}
    assert not list(configured.cache.rglob("*.webp"))


def test_an_address_is_explained_and_made(configured: Reader) -> None:
    page = THUMBS.url("photos/cat.jpg")
    configured.places["/thumb/photos/cat.jpg/_.ERMcXwkMqhapSqc2vwf_1g.auto"] = page
    assert page in configured.run(EXPLAIN.text)
    card = THUMBS.url("photos/cat.jpg", width=400, height=300, fit="cover")
    assert configured.run(PRESET.text).strip() == card


def test_a_purge_leaves_the_rest(configured: Reader) -> None:
    """Of two pictures, one of which is the one that the page names."""
    warm = "thumbproxy warm photos/cat.jpg photos/dogs/rex.jpg --format webp"
    steps = {
        warm: 2,
        "thumbproxy purge remote/https/images.example.com/": 2,
        "thumbproxy purge photos/cat.jpg": 1,
        "thumbproxy purge photos/": 0,
        "thumbproxy purge fire/": 0,
        NAMES.text: 0,
        "thumbproxy purge --all": 0,
    }
    assert {snippet.text for snippet in PURGES} <= steps.keys()
    for text, left in steps.items():
        configured.run(text.replace("w_400.….webp", f"w_400.{'A' * 22}.webp"))
        assert len(renditions(configured)) == left, text


def test_the_doctor_looks_at_the_file_that_it_is_given(configured: Reader) -> None:
    done = configured.run(f"{DOCTOR.text.strip()} || [ $? = 1 ]")
    for group in ("software", "renders", "settings", "reach", "machine", "disk", "memcached"):
        assert re.search(rf"^{group}$", done, re.MULTILINE), group


def test_a_variable_is_a_setting(reader: Reader) -> None:
    told = reader.run(f'{VARIABLE.text}; echo "$THUMBPROXY_CDN"')
    name, value = VARIABLE.text.partition("=")[0], told.strip()
    settings = Settings.load(None, {name: value, "THUMBPROXY_KEYS": servers.KEY})
    assert settings.cdn


[HOOKS] = claim("python", "docs/metrics.md", r"\A# gunicorn\.conf\.py")
[INODES] = claim(COMMAND, "docs/operating.md", "^df ")


def test_gunicorn_takes_the_hooks_that_are_shown(reader: Reader) -> None:
    (reader.home / "gunicorn.conf.py").write_text(HOOKS.text)
    (reader.home / "site_app.py").write_text(
        "from thumbproxy import ThumbProxy\n"
        f"app = ThumbProxy(lambda e, s: [], keys=['{servers.KEY}'], cache_dir='cache')\n"
        "import os; assert os.path.isdir(os.environ['PROMETHEUS_MULTIPROC_DIR'])\n"
    )
    told = reader.run("gunicorn --print-config --check-config site_app:app")
    assert re.search(r"^child_exit +\S.*child_exit", told, re.MULTILINE)


def test_inodes_are_counted(reader: Reader) -> None:
    assert "IFree" in reader.run(INODES.text)
