"""Warming: what is listed is made, and then every server hits; a run that ends goes on later."""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import pytest
import servers
from commands import thumbproxy
from origin import Gallery, jpeg

from thumbproxy import Signer
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Limits
from thumbproxy.urls.codec import UrlCodec
from thumbproxy.warm import listings
from thumbproxy.warm.fleet import FleetWarmer
from thumbproxy.warm.journal import Journal, JournalInUse, digest
from thumbproxy.warm.listings import Listing, ListingFailed
from thumbproxy.warm.markup import BadMarkup, leaves
from thumbproxy.warm.names import Entry, Found, Names, Refused, from_file, from_folder
from thumbproxy.warm.pace import Pace
from thumbproxy.warm.progress import Lines
from thumbproxy.warm.run import Run
from thumbproxy.warm.tally import Tally
from thumbproxy.warm.tasks import Outcome, Planner, Task, Wanted
from thumbproxy.warm.variants import Variant, combined, variants

KEY = servers.KEY
AVIF, WEBP = Format.AVIF, Format.WEBP
URLS = UrlCodec(Signer([KEY]))
AUDIENCES = ("image/avif,image/webp,*/*", "image/webp,*/*", "*/*")


def warm(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return thumbproxy("warm", *arguments, THUMBPROXY_KEYS=KEY, **environ)


def counts(done: subprocess.CompletedProcess[str]) -> tuple[int, int, int]:
    """made, there, failed."""
    facts = {line[:15].strip(): line[15:] for line in done.stdout.splitlines()}
    return int(facts["made"]), int(facts["already there"]), int(facts["failed"])


def folder_of_pictures(folder: Path, number: int = 3) -> Path:
    (folder / "deep" / "er").mkdir(parents=True)
    for i in range(number):
        (folder / "deep" / f"{i} é.jpg").write_bytes(jpeg(120, 80))
    (folder / "deep" / "er" / "x.JPG").write_bytes(jpeg())
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.jpg").write_bytes(jpeg())
    (folder / "link.jpg").symlink_to(folder / "deep" / "er" / "x.JPG")
    return folder


# -- what a browser would ask for is there ---------------------------------------------------


def hits_only(server: servers.Server, sources: Iterable[str], formats: Iterable[str]) -> None:
    from thumbproxy.urls.options import Options  # noqa: PLC0415

    for source in sources:
        for format in formats:
            path = URLS.build(source, Options(width=40), format)
            for accept in AUDIENCES:
                reply = server.ask(path, {"Accept": accept})
                assert reply.status == 200
                assert reply["Cache-Status"].startswith("thumbproxy; hit"), (path, accept)


def test_what_was_warmed_is_a_hit_for_every_client(tmp_path: Path) -> None:
    photos, cache = folder_of_pictures(tmp_path / "photos"), str(tmp_path / "cache")
    site = ["--origin", str(photos), "--cache-dir", cache]
    work = ["--from", str(photos), "--options", "w_40", "--format", "auto", "--format", "webp"]
    done = warm(*site, *work)
    assert done.returncode == 0, done.stderr
    made, there, failed = counts(done)
    # AVIF, WebP and JPEG for `auto`, WebP once more under its own name; of four pictures.
    assert (made + there, failed) == (16, 0)
    with servers.thumbproxy(*site) as server:
        hits_only(server, ["deep/0 é.jpg", "deep/er/x.JPG"], ["auto", "webp"])
    assert counts(warm(*site, *work)) == (0, 16, 0), "a second run makes nothing"


def test_a_source_that_cannot_be_warmed_is_told_and_the_others_are_made(tmp_path: Path) -> None:
    photos = folder_of_pictures(tmp_path / "photos", 1)
    (photos / "broken.jpg").write_bytes(b"not a picture")
    site = ["--origin", str(photos), "--cache-dir", str(tmp_path / "cache")]
    done = warm(*site, "--format", "jpg", "deep/0 é.jpg", "broken.jpg", "absent.jpg", "../up.jpg")
    assert done.returncode == 1
    assert counts(done) == (1, 0, 3)
    for token in ("unsupported-image", "source-not-found", "bad-source"):
        assert token in done.stdout


class Bucket:
    """Speaks ListObjectsV2: `size` keys a page, percent-encoded where that is asked for."""

    def __init__(self, keys: list[str], size: int = 2) -> None:
        self.keys, self.size = keys, size
        self.asked: list[dict[str, list[str]]] = []

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        query = parse_qs(environ["QUERY_STRING"])
        self.asked.append(query)
        start = int(query.get("continuation-token", ["0"])[0])
        keys = [key for key in self.keys if key.startswith(query.get("prefix", [""])[0])]
        page = keys[start : start + self.size]
        encoded = "encoding-type" in query
        contents = "".join(
            f"<Contents><Key>{quote(key) if encoded else key}</Key><Size>1</Size></Contents>"
            for key in page
        )
        more = start + self.size < len(keys)
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>'
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{contents}"
            + (f"<NextContinuationToken>{start + self.size}</NextContinuationToken>" * more)
            + ("<EncodingType>url</EncodingType>" * encoded)
            + "</ListBucketResult>"
        )
        return answer(start_response, body.encode())


def answer(start_response: Callable[..., Any], body: bytes, status: str = "200 OK") -> list[bytes]:
    start_response(status, [("Content-Type", "application/xml"),
                            ("Content-Length", str(len(body)))])  # fmt: skip
    return [body]


def test_a_bucket_is_warmed_through_the_servers(tmp_path: Path) -> None:
    names = [f"a/{i} ü.jpg" for i in range(5)]
    bucket = Bucket([*names, "a/", "a/readme.txt", "b/other.jpg"])
    gallery = Gallery(**{name: jpeg() for name in names})
    with (
        servers.wsgi(gallery) as origin,
        servers.wsgi(bucket) as listing,
        servers.thumbproxy("--origin", origin.url, "--cache-dir", str(tmp_path)) as server,
    ):
        place = f"{listing.url}/?list-type=2&prefix=a/&encoding-type=url"
        work = ["--from", place, "--options", "w_40", "--base-url", server.url]
        done = warm(*work)
        assert done.returncode == 0, done.stdout + done.stderr
        assert counts(done) == (15, 0, 0)
        assert len(bucket.asked) == 4
        assert set(gallery.asked.values()) == {1}, "each source is fetched once"
        hits_only(server, names, ["auto"])
        assert counts(warm(*work)) == (0, 15, 0)


def sitemaps(documents: dict[str, bytes]) -> Callable[..., Iterable[bytes]]:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = documents.get(environ["PATH_INFO"])
        return answer(start_response, body or b"", "200 OK" if body else "404 Not Found")

    return app


NAMESPACES = (
    'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" '
    'xmlns:image="http://www.google.com/schemas/sitemap-image/1.1"'
)


def test_the_pictures_of_a_site_are_found_by_its_sitemap() -> None:
    documents: dict[str, bytes] = {}
    with servers.wsgi(sitemaps(documents)) as site:
        documents["/sitemap.xml"] = (
            f"<sitemapindex {NAMESPACES}><sitemap><loc>{site.url}/one.xml.gz</loc></sitemap>"
            f"<sitemap><loc>{site.url}/two.xml</loc></sitemap></sitemapindex>"
        ).encode()
        documents["/one.xml.gz"] = gzip.compress(
            (
                f"<urlset {NAMESPACES}><url><loc>https://shop.example/page</loc>"
                "<image:image><image:loc>https://shop.example/media/a%20b.jpg</image:loc>"
                "</image:image><image:image><image:loc>https://cdn.example/x.jpg</image:loc>"
                "</image:image></url></urlset>"
            ).encode()
        )
        documents["/two.xml"] = (
            f"<urlset {NAMESPACES}><url><loc>https://shop.example/c.png?v=1&amp;w=2</loc></url>"
            "</urlset>"
        ).encode()
        names = Names(locations={"https://shop.example": "", "/srv": "files/"})
        found = list(Listing(f"{site.url}/sitemap.xml", names))
    assert sources(found) == ["media/a b.jpg", "c.png?v=1&w=2"]
    assert [entry.reason for entry in found if isinstance(entry, Refused)] == [
        "elsewhere: https://cdn.example/x.jpg is below no origin"
    ]


def sources(found: Iterable[Found]) -> list[str]:
    return [entry.source for entry in found if isinstance(entry, Entry)]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html><body/></html>", "neither a sitemap nor"),
        (b"<urlset><url>", "not well-formed"),
        (b'<?xml version="1.0"?><!DOCTYPE urlset><urlset/>', "DOCTYPE"),
        (b"<sitemapindex><sitemap><loc>http://10.0.0.1/</loc></sitemap></sitemapindex>",
         "another server"),
        (gzip.compress(b"<urlset>" + b"<url/>" * 10_000)[:-20], "cut short"),
        (gzip.compress((b"#" * 8000 + b"\n") * 9_000), "more than 64 MiB"),
        (b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>1"
         b"</NextContinuationToken></ListBucketResult>", "this one again"),
    ],
)  # fmt: skip
def test_a_listing_that_is_none_is_refused(body: bytes, why: str) -> None:
    with (
        # Not validated: Werkzeug's server forgets to close when the client hangs up.
        servers.wsgi(sitemaps({"/": body}), validate=False) as site,
        pytest.raises(ListingFailed, match=why),
    ):
        list(Listing(f"{site.url}/", Names()))


def test_an_index_of_sitemaps_that_leads_to_itself_ends() -> None:
    documents: dict[str, bytes] = {}
    with servers.wsgi(sitemaps(documents)) as site:
        documents["/"] = (
            f"<sitemapindex><sitemap><loc>{site.url}/</loc></sitemap></sitemapindex>".encode()
        )
        with pytest.raises(ListingFailed, match="nested"):
            list(Listing(f"{site.url}/", Names()))


# -- XML from the network --------------------------------------------------------------------

LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))


@pytest.mark.parametrize(
    "text",
    [
        f'<!DOCTYPE a [<!ENTITY l0 "ha">{LAUGHS}]><a>&l11;</a>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        '<!DOCTYPE a [<!ENTITY % p SYSTEM "http://127.0.0.1:9/">%p;]><a/>',
        "<a>&undefined;</a>",
        "<a>" * 17 + "</a>" * 17,
        f"<a>{'x' * 9000}</a>",
        " " * 10_000 + "<a/>",
        "",
        "text",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_markup_that_could_do_harm_is_refused(text: str, encoding: str) -> None:
    with pytest.raises(BadMarkup):
        list(leaves([text.encode(encoding)]))


def test_a_document_type_is_refused_before_its_entities_are_read() -> None:
    """Whatever expat would do with them."""
    started = time.process_time()
    with pytest.raises(BadMarkup, match="DOCTYPE"):
        list(leaves([f'<!DOCTYPE a [<!ENTITY l0 "ha">{LAUGHS}]><a>&l11;</a>'.encode()]))
    assert time.process_time() - started < 0.1


@pytest.mark.parametrize("token", ["<a><!--", "<a><b c='", "<a><?p "])
def test_what_does_not_end_is_refused_before_it_grows(token: str) -> None:
    chunk = b"x" * 65_536
    with pytest.raises(BadMarkup, match="more than 256 KiB"):
        list(leaves([token.encode(), *[chunk] * 100]))


def test_many_short_elements_are_not_one_long_token() -> None:
    chunk = b"<b>x</b><!-- c -->" * 3_000
    assert len(list(leaves([b"<a>", *[chunk] * 20, b"</a>"]))) == 60_000


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_markup_is_the_same_in_pieces_of_any_size(size: int) -> None:
    text = '<?xml version="1.0"?><!-- c --><r xmlns:i="u"><i:a> x &amp; é </i:a><b/>t<c>1</c></r>'
    body = text.encode()
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    assert list(leaves(pieces)) == [("r/a", "x & é"), ("r/b", ""), ("r/c", "1")]


# -- names -----------------------------------------------------------------------------------


def test_a_list_has_one_source_a_line_and_faults_have_their_number(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(
        b"\xef\xbb\xbf# comment\n\nphotos/a b.jpg\r\nc.jpg\tv_7,q_50\n\xff.jpg\n"
        + b"x" * 20_000
        + b"\nlast.jpg"
    )
    found = list(from_file(str(path), Names()))
    assert [entry[:2] for entry in found if isinstance(entry, Entry)] == [
        ("photos/a b.jpg", "_"), ("c.jpg", "v_7,q_50"), ("last.jpg", "_"),
    ]  # fmt: skip
    refused = [entry for entry in found if isinstance(entry, Refused)]
    assert [entry.where for entry in refused] == [f"{path}, line 5", f"{path}, line 6"]


@pytest.mark.parametrize(
    ("text", "options", "source"),
    [
        ("a/b.jpg", {}, "a/b.jpg"),
        ("a/b.jpg", {"strip": "a/", "prepend": "c/"}, "c/b.jpg"),
        ("x/b.jpg", {"strip": "a/"}, None),
        ("http://h/m/b%20c.jpg", {"locations": {"http://h/": "", "http://h/m": "media/"}},
         "media/b c.jpg"),
        ("http://h/m/b.jpg#top", {"strip": "http://h/m/"}, "b.jpg"),
        ("http://other/b.jpg", {"locations": {"http://h": ""}}, None),
        ("http://host/b.jpg", {"locations": {"http://h": ""}}, None),
    ],
)  # fmt: skip
def test_names_and_urls_become_sources(
    text: str, options: dict[str, Any], source: str | None
) -> None:
    found = Names(**options).entry(text, "")
    assert (found.source if isinstance(found, Entry) else None) == source


def test_files_are_named_as_their_origin_names_them(tmp_path: Path) -> None:
    folder = folder_of_pictures(tmp_path / "media", 1)
    inside = Names(locations={str(folder): "m/"})
    assert sources(from_folder(str(folder / "deep"), inside)) == ["m/deep/0 é.jpg",
                                                                  "m/deep/er/x.JPG"]  # fmt: skip
    assert sources(from_folder(str(folder / "deep"), Names())) == ["0 é.jpg", "er/x.JPG"]


# -- variants --------------------------------------------------------------------------------


def test_every_base_is_wanted_in_every_width_and_format() -> None:
    wanted = variants(["h_300,w_400,fit_cover", "q_50"], [200, 100], ["webp"])
    assert [variant.options for variant in wanted] == [
        "w_200,h_150,fit_cover", "w_100,h_75,fit_cover", "w_200,q_50", "w_100,q_50",
    ]  # fmt: skip
    assert variants([]) == [Variant("_", "auto")]
    assert len(variants(["w_1", "w_1,fit_inside"])) == 1


def test_options_override_those_of_a_preset() -> None:
    assert str(combined("w_400,h_300,fit_cover", "w_200,gray")) == "w_200,h_300,fit_cover,gray"
    assert str(combined("w_400", "_")) == "w_400"
    assert str(combined("_", "q_5")) == "q_5"


def test_presets_are_warmed(tmp_path: Path) -> None:
    photos = folder_of_pictures(tmp_path / "photos", 1)
    config = tmp_path / "thumbproxy.toml"
    config.write_text(f'origin = "{photos}"\ncache_dir = "cache"\n[presets]\ncard = "w_40"\n')
    done = warm("--config", str(config), "--preset", "card", "--format", "jpg", "deep/0 é.jpg")
    assert counts(done) == (1, 0, 0), done.stderr
    assert next((tmp_path / "cache/private/deep/0 é.jpg").glob("w_40.*.jpg")).exists()


# -- pace, journal, the loop -----------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_the_rate_holds_over_the_whole_run() -> None:
    clock = Clock()
    pace = Pace(10, clock=clock, sleep=clock.sleep)
    for tokens in [1, 5, 1, 1, 12]:
        pace.take(tokens)
    assert clock.now == pytest.approx(102.0), "twenty at ten a second, and none is free"
    clock.now += 60
    for _ in range(11):
        pace.take()
    assert clock.now == pytest.approx(163.0), "a pause is not made up for"


def test_a_journal_without_its_end_forgets_no_more_than_its_end(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    marks = [digest([str(i)]) for i in range(3)]
    with Journal(path) as journal:
        journal.add("a.jpg", marks[0])
        journal.add("b\t\n.jpg", marks[1], ["broken: x", "broken: x"])
        journal.add("c.jpg", marks[2])
    whole = Path(path).read_bytes()
    assert whole.count(b"\n") == 3
    for cut in range(1, 18):
        Path(path).write_bytes(whole[:-cut])
        with Journal(path) as journal:
            assert marks[0] in journal
            assert marks[1] not in journal, "what failed is tried again"
            assert (marks[2] in journal) == (cut == 1)
            journal.add("d.jpg", 7)
        with Journal(path) as journal:
            assert marks[0] in journal
            assert 7 in journal


@pytest.mark.parametrize("end", ["d", "done", "done\t", "\n", "done\tb.jpg\t\t00000000"])
def test_a_journal_that_was_cut_anywhere_is_read(tmp_path: Path, end: str) -> None:
    path = tmp_path / "journal"
    path.write_text(f"done\ta.jpg\t\t{7:016x}\n{end}")
    for _ in range(2):
        with Journal(str(path)) as journal:
            assert 7 in journal


def test_a_journal_is_for_one_run_at_a_time(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    with Journal(path), pytest.raises(JournalInUse):
        Journal(path)


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(40):
        (photos / f"{i:02}.jpg").write_bytes(jpeg())
    journal = tmp_path / "journal"
    command = ["--origin", str(photos), "--cache-dir", str(tmp_path / "cache"),
               "--from", str(photos), "--format", "jpg", "--options", "w_30",
               "--journal", str(journal)]  # fmt: skip
    process = running(*command, "--rate", "20/s")
    try:
        wait_until(lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 5)
    finally:
        process.kill()
        process.communicate()
    done_before = journal.read_bytes().count(b"\n")
    assert 5 <= done_before < 40
    done = warm(*command)
    assert done.returncode == 0
    assert f"in the journal {done_before} sources" in done.stdout
    made, there, failed = counts(done)
    assert (made + there, failed) == (40 - done_before, 0)
    assert "in the journal 40 sources" in warm(*command).stdout
    changed = warm(*command, "--options", "w_31")
    assert counts(changed) == (40, 40, 0), "other variants are another piece of work"


def running(*arguments: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if "THUMBPROXY" not in name}
    return subprocess.Popen(
        [sys.executable, "-m", "thumbproxy", "warm", *arguments],
        env={**clean, "THUMBPROXY_KEYS": KEY},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def test_stopped_by_a_person_it_ends_with_a_summary(tmp_path: Path) -> None:
    photos = folder_of_pictures(tmp_path / "photos")
    journal = tmp_path / "journal"
    site = ["--origin", str(photos), "--cache-dir", str(tmp_path / "cache"), "--from", str(photos)]
    process = running(*site, "--format", "jpg", "--rate", "0.5", "--journal", str(journal))
    wait_until(lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out.startswith("Stopped before the end.\nmade ")
    assert "Traceback" not in err


class Nothing:
    """Warms nothing, and notes for what it was asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def warm(self, task: Task) -> Outcome:
        self.asked[task.source] += 1
        if task.source == "fault.jpg":
            raise RuntimeError("a fault of ours")
        return Outcome(task, there=len(task.wanted))


class Silent:
    def show(self, tally: Tally) -> None: ...
    def close(self) -> None: ...


def plan(*formats: str) -> Planner:
    wanted = variants(["w_40"], formats=formats)
    return Planner(URLS, wanted, (AVIF, WEBP), where="here")


def test_all_that_clients_of_auto_may_accept_is_wanted() -> None:
    accepted = [wanted.accepted for wanted in plan("auto", "jpg").task(Entry("a.jpg")).wanted]
    assert accepted == [(AVIF, WEBP), (WEBP,), (), ()]


def test_a_fault_of_ours_does_not_end_the_run() -> None:
    run = Run(plan(), Nothing(), jobs=2, display=Silent())
    tally = run.warm([Entry("a.jpg"), Entry("fault.jpg"), Entry("b.jpg"), Refused("l", "bad: x")])
    assert (tally.there, tally.failed, tally.refused, tally.complete) == (6, 1, 1, False)
    assert tally.total == tally.sources == 4


def test_a_list_that_breaks_off_is_a_failure_after_what_came_before() -> None:
    def breaking() -> Iterator[Found]:
        yield Entry("a.jpg")
        raise ListingFailed("page 2 is gone")

    tally = Run(plan(), Nothing(), jobs=2, display=Silent()).warm(breaking())
    assert (tally.there, tally.refused) == (3, 1)
    assert "page 2 is gone" in "\n".join(tally.summary())


def test_memory_does_not_grow_with_the_number_of_sources() -> None:
    class Forgetful(Nothing):
        def warm(self, task: Task) -> Outcome:
            return Outcome(task, there=1)

    def peak(number: int) -> int:
        tracemalloc.reset_peak()
        entries = (Entry(f"{i}.jpg") for i in range(number))
        Run(plan("jpg"), Forgetful(), jobs=4, display=Silent()).warm(entries)
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        few = peak(200)
        assert peak(6_000) < few + 500_000
    finally:
        tracemalloc.stop()


def test_names_do_not_steer_the_terminal() -> None:
    tally = Tally()
    tally.refuse(Refused("\x1b[2Ja.jpg", "bad-source: \udcff"))
    assert all(line.isprintable() for line in tally.summary())


def test_the_time_left_is_told_once_the_number_is_known() -> None:
    clock = Clock()
    tally = Tally(clock=clock)
    task = plan().task(Entry("a.jpg"))
    for _ in range(10):
        tally.finished(Outcome(task, made=3))
    clock.now += 5
    assert "left" not in tally.line()
    tally.total = 110
    assert tally.line() == "10 of 110 sources, 30 pictures, 6.0/s, 0 failed, 50 s left"


def test_a_log_gets_a_line_every_few_seconds() -> None:
    clock, stream = Clock(), io.StringIO()
    display = Lines(stream, clock)
    for _ in range(12):
        clock.now += 1
        display.show(Tally())
    assert len(stream.getvalue().splitlines()) == 2


# -- the fleet -------------------------------------------------------------------------------


class Busy:
    """A server that is overloaded at first."""

    def __init__(self, *statuses: str) -> None:
        self.statuses = list(statuses)

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        status = self.statuses.pop(0) if self.statuses else "200 OK"
        body = b"overloaded: Try again.\n" if status.startswith("503") else b"reply\n"
        start_response(status, [("Content-Type", "text/plain"), ("Retry-After", "7"),
                                ("Content-Length", str(len(body)))])  # fmt: skip
        return [body]


def ask(app: Busy) -> tuple[Outcome, list[float]]:
    waited: list[float] = []

    def pause(seconds: float) -> bool:
        if seconds:
            waited.append(seconds)
        return False

    with servers.wsgi(app) as server:
        warmer = FleetWarmer(server.url, Pace(None), pause)
        return warmer.warm(Task("a.jpg", (Wanted("/thumb/a.jpg/_.x.jpg"),), 0)), waited


def test_an_overloaded_server_is_given_the_time_that_it_asks_for() -> None:
    outcome, waited = ask(Busy("503 Service Unavailable", "429 Too Many Requests"))
    assert (outcome.there, outcome.failed, waited) == (1, (), [7.0, 7.0])


def test_a_server_that_stays_overloaded_is_a_failure() -> None:
    outcome, waited = ask(Busy(*["503 Service Unavailable"] * 50))
    assert outcome.failed == ("503 overloaded: Try again.",)
    assert len(waited) == 20


@pytest.mark.parametrize("status", ["404 Not Found", "302 Found", "500 Internal Server Error"])
def test_other_answers_are_failures_at_once(status: str) -> None:
    outcome, waited = ask(Busy(status))
    assert outcome.failed == (f"{status[:3]} reply",)
    assert waited == []


def test_a_server_that_is_not_there_is_a_failure() -> None:
    warmer = FleetWarmer(f"http://127.0.0.1:{servers.free_port()}", Pace(None), lambda _: False)
    outcome = warmer.warm(Task("a.jpg", (Wanted("/thumb/a.jpg/_.x.jpg"),), 0))
    assert outcome.failed[0].startswith("connection: ")


# -- usage -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "Nothing to warm"),
        (["--from", "/absent"], "no such file or folder"),
        (["a.jpg", "--widths", "1;2"], "not a list"),
        (["a.jpg", "--rate", "fast"], "not a number"),
        (["a.jpg", "--rate", "0"], "not a number"),
        (["a.jpg", "--preset", "card"], "no preset 'card'"),
        (["a.jpg", "--options", "w_x"], "whole number"),
        (["a.jpg", "--widths", "9999"], "at most 4096"),
        (["a.jpg", "--format", "bmp"], "no format 'bmp'"),
        (["a.jpg", "--journal", "/absent/journal"], "No such file"),
        (["a.jpg", "--origin", "/absent"], "no folder"),
        (["a.jpg", "--journal", __file__], f"{__file__} is no journal of thumbproxy warm; choose"),
        (["--from", "http://127.0.0.1:9/"], "http://127.0.0.1:9/: connection refused by 127.0.0.1"),
    ],
)
def test_wrong_usage_is_a_sentence_and_status_2(
    arguments: list[str], part: str, tmp_path: Path
) -> None:
    site = [] if "--origin" in arguments else ["--origin", str(tmp_path)]
    done = warm(*arguments, *site, "--cache-dir", str(tmp_path / "cache"))
    assert done.returncode == 2
    assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_limits_of_documents_are_those_of_the_protocol() -> None:
    """A sitemap may have 50 MB (sitemaps.org)."""
    assert listings._LARGEST_DOCUMENT > 50_000_000
    assert Limits().source_bytes < listings._LARGEST_DOCUMENT
