"""The way to the wire: proxies, certificates, redirects, keys, queries, and the bound on a reply."""

from __future__ import annotations

import asyncio
import gzip
import re
import ssl
import subprocess

import pytest
from aiohttp import web

from datagen.openai import transport
from datagen.openai.addresses import api_root
from datagen.teachers.openai_chat import OpenaiChat
from tests.support.asking import ask, closed_port
from tests.support.fakes import FakeOpenai, LoopbackServer
from warehouse.errors import TeacherUnusable, TransientError

KEY = "sk-very-secret-key-0002"
HEADERS = {"X-Team": "blue-team-secret", "api-key": KEY}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", *transport.CERTIFICATES):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("MY_KEY", KEY)


def teacher(base_url, **more):
    return OpenaiChat(model="fake", base_url=base_url, api_key_env="MY_KEY", **more)


class Redirecting(LoopbackServer):
    """Answers every request with one status and one `Location`."""

    def __init__(self, status, location):
        self.status, self.location, self.headers = status, location, []

    def routes(self):
        return [web.route("*", "/{path:.*}", self.redirect)]

    async def redirect(self, request):
        self.headers.append(dict(request.headers))
        location = self.location.replace("PATH", request.path.removeprefix("/v1"))
        return web.Response(status=self.status, headers={"Location": location})


@pytest.mark.parametrize("status", [307, 308])
def test_a_post_stays_with_its_origin_and_the_error_names_the_new_address(status):
    with FakeOpenai() as server, Redirecting(status, f"{server.base_url}PATH?a=1") as gate:
        other = teacher(gate.base_url, headers=HEADERS, extra_body={"secret": "of the body"})
        told = re.escape(
            f"redirects requests to {server.base_url}/chat/completions?a=1 (HTTP {status})"
        )
        advice = re.escape(f"; set base_url to {server.base_url}?a=1") + "$"
        with pytest.raises(TeacherUnusable, match=f"{told}{advice}"):
            ask(other, "q")
        assert len(gate.headers) == 1 and gate.headers[0]["Authorization"] == f"Bearer {KEY}"
        assert server.asked == 0  # neither the prompt nor the body's secrets went there
        there = teacher(f"{server.base_url}?a=1")
        assert ask(there, "q")[0].text == "echo q"


def test_a_get_goes_to_another_origin_without_headers_that_may_hold_a_secret():
    listing = []

    class Listing(FakeOpenai):
        async def _list(self, request):
            self.headers.append(dict(request.headers))
            if listing:
                raise listing.pop()
            return await super()._list(request)

    with Listing() as server, Redirecting(308, f"{server.base_url}PATH") as gate:
        assert teacher(gate.base_url, headers=HEADERS).check() == [f"fake at {gate.base_url}"]
        listing.append(web.HTTPUnauthorized())
        with pytest.raises(TeacherUnusable, match="redirects.*set base_url to http://127.0.0.1"):
            teacher(gate.base_url).check()
    assert gate.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert len(server.headers) == 2
    assert KEY not in str(server.headers) and "blue-team-secret" not in str(server.headers)


def test_nothing_goes_from_https_to_http(tmp_path, monkeypatch):
    class Lowering(Encrypted):
        def routes(self):
            return [web.route("*", "/v1/{path:.*}", self.lower)]

        async def lower(self, request):
            raise web.HTTPTemporaryRedirect(self.plain + request.path)

    with FakeOpenai() as plain, Lowering(tmp_path) as server:
        server.plain = plain.base_url.removesuffix("/v1")
        monkeypatch.setenv("SSL_CERT_FILE", str(server.cert))
        here = teacher(server.base_url)
        for use in (lambda: ask(here, "q"), here.check):
            with pytest.raises(TeacherUnusable, match=f"set base_url to {plain.base_url}$"):
                use()
        assert plain.asked == 0


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("https://a.example/v1/chat/completions", "https://a.example/v1"),
        ("http://a.example:8/x/models/?v=2#top", "http://a.example:8/x?v=2"),
        ("https://a.example/login", None),
        ("/v1/chat/completions", None),
        ("nowhere", None),
    ],
)
def test_the_base_url_behind_a_request(url, root):
    assert api_root(url) == root


def test_a_redirect_at_home_keeps_method_and_headers():
    class Moved(FakeOpenai):
        def routes(self):
            return [*super().routes(), web.post("/old/chat/completions", self.move)]

        async def move(self, request):
            raise web.HTTPTemporaryRedirect("/v1/chat/completions")

    with Moved() as server:
        [reply] = ask(teacher(server.base_url.replace("/v1", "/old"), headers=HEADERS), "q")
    assert reply.text == "echo q"
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert server.headers[0]["X-Team"] == HEADERS["X-Team"]


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_that_would_turn_a_post_into_a_get_is_told(status):
    with (
        Redirecting(status, "https://elsewhere.invalid/login") as gate,
        pytest.raises(TeacherUnusable, match=r"https://elsewhere.invalid/login .HTTP 30"),
    ):
        ask(teacher(gate.base_url), "q1", "q2")


def test_a_circle_of_redirects_ends():
    with Redirecting(307, "/v1PATH") as gate:
        with pytest.raises(TeacherUnusable, match="redirects requests to /v1/chat/completions"):
            ask(teacher(gate.base_url), "q")
        assert len(gate.headers) == 1 + transport.MOST_REDIRECTS


def test_the_query_of_base_url_stands_behind_every_path():
    queries = []

    class Azure(FakeOpenai):
        async def _chat(self, request):
            queries.append((request.method, request.path, request.query_string))
            return await super()._chat(request)

        async def _list(self, request):
            queries.append((request.method, request.path, request.query_string))
            return await super()._list(request)

    with Azure() as server:
        here = teacher(f"{server.base_url}?api-version=2024-10-21&a=b%20c")
        [reply] = ask(here, "q")
        here.check()
    assert reply.text == "echo q"
    query = "api-version=2024-10-21&a=b c"
    assert queries == [
        ("POST", "/v1/chat/completions", query),
        ("GET", "/v1/models", query),
    ]


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_is_used_by_check_and_by_requests(name, monkeypatch):
    with FakeOpenai() as proxy:
        address = proxy.base_url.removesuffix("/v1")
        monkeypatch.setenv(
            name, address if name != "ALL_PROXY" else address.removeprefix("http://")
        )
        away = teacher("http://teacher.invalid/v1")
        assert away.check() == ["fake at http://teacher.invalid/v1"]
        [reply] = ask(away, "q")
        assert reply.text == "echo q"
        assert proxy.headers[0]["Host"] == "teacher.invalid"
        monkeypatch.setenv("NO_PROXY", "teacher.invalid")
        with pytest.raises(
            TeacherUnusable, match="host name of http://teacher.invalid/v1 is not kn"
        ):
            ask(away, "q")


def test_only_a_proxy_on_this_machine_is_used_for_an_address_of_this_machine(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    assert transport.proxy_for("http://teacher.invalid/v1") == "http://proxy.invalid:3128"
    assert transport.proxy_for("http://localhost:8000/v1") is None
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:3128")
    assert transport.proxy_for("http://127.0.0.1:8000/v1") == "http://127.0.0.1:3128"


def test_what_is_wrong_with_a_proxy_is_one_line(monkeypatch):
    away = teacher("http://teacher.invalid/v1")
    monkeypatch.setenv("HTTP_PROXY", f"http://me:{KEY}@127.0.0.1:{closed_port()}")
    with pytest.raises(TeacherUnusable, match="through the proxy 127.*NO_PROXY") as caught:
        ask(away, "q")
    assert KEY not in str(caught.value)
    monkeypatch.setenv("HTTP_PROXY", "socks5://127.0.0.1:1080")
    for use in (lambda: ask(away, "q"), away.check):
        with pytest.raises(TeacherUnusable, match="is a socks5 proxy, and only HTTP proxies"):
            use()


class Encrypted(FakeOpenai):
    """With a certificate that no system trusts."""

    def __init__(self, folder):
        super().__init__()
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        names = "subjectAltName=IP:127.0.0.1"
        words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                 "-nodes", "-days", "2", "-subj", "/CN=fake", "-addext", names,
                 "-keyout", str(self.key), "-out", str(self.cert)]  # fmt: skip
        subprocess.run(words, check=True, capture_output=True)

    def tls(self):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.cert, self.key)
        return context


def test_an_untrusted_certificate_is_told_and_may_be_trusted(tmp_path, monkeypatch):
    with Encrypted(tmp_path) as server:
        here = teacher(server.base_url)
        for use in (lambda: ask(here, "q"), here.check):
            with pytest.raises(TeacherUnusable, match="certificate is not trusted.*SSL_CERT_FILE"):
                use()
        for name in transport.CERTIFICATES:
            if name == "SSL_CERT_DIR":
                continue  # needs names that are hashes
            with monkeypatch.context() as patch:
                patch.setenv(name, str(server.cert))
                assert ask(here, name)[0].text == f"echo {name}"
                assert here.check() == [f"fake at {server.base_url}"]
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "gone.pem"))
        with pytest.raises(TeacherUnusable, match="REQUESTS_CA_BUNDLE = .*gone.pem holds no cert"):
            ask(here, "q")
    with FakeOpenai() as plain:
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        with pytest.raises(TeacherUnusable, match="no encrypted connection.*http:// address"):
            ask(teacher(plain.base_url.replace("http:", "https:")), "q")


def test_a_name_that_is_not_known_and_a_port_where_nobody_listens_are_told_apart():
    for use in (OpenaiChat.check, lambda teacher: ask(teacher, "q")):
        with pytest.raises(TeacherUnusable, match="host name of http://teacher.invalid/v1 is not"):
            use(teacher("http://teacher.invalid/v1"))
        with pytest.raises(TeacherUnusable, match="no teacher answers.*start the server"):
            use(teacher(f"http://127.0.0.1:{closed_port()}/v1"))
        with pytest.raises(TeacherUnusable, match="this is no address; correct base_url"):
            use(teacher("http://127.0.0.1:99999999/v1"))


@pytest.mark.parametrize("packed", [False, True])
def test_a_reply_without_end_is_not_read_to_its_end(packed, monkeypatch):
    monkeypatch.setattr(transport, "LARGEST_REPLY", 2**20)

    class Endless(FakeOpenai):
        sent = 0

        async def _chat(self, request):
            if packed:
                bomb = gzip.compress(b" " * 2**26)
                return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})
            response = web.StreamResponse()
            await response.prepare(request)
            while self.sent < 2**28:
                await response.write(b" " * 2**16)
                self.sent += 2**16
            return response

    with Endless() as server:
        [reply] = ask(teacher(server.base_url, max_tries=2), "q")
    assert isinstance(reply.error, TransientError)
    assert "more than 1 MB" in str(reply.error)
    assert server.sent < 2**27


def test_a_packed_reply_is_unpacked():
    class Packing(FakeOpenai):
        async def _chat(self, request):
            response = await super()._chat(request)
            response.enable_compression(web.ContentCoding.gzip)
            return response

    with Packing() as server:
        assert ask(teacher(server.base_url), "q")[0].text == "echo q"


@pytest.mark.parametrize("around", ["{}\n", " {}", "\t{}\r\n"])
def test_blanks_around_a_key_are_not_sent(around, monkeypatch):
    monkeypatch.setenv("MY_KEY", around.format(KEY))
    with FakeOpenai() as server:
        ask(teacher(server.base_url), "q")
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("key", [f"{KEY}\n{KEY}", f"{KEY} x", f"{KEY}é", f"“{KEY}”", "\x00" + KEY])
def test_a_key_that_cannot_be_sent_names_its_variable_and_never_itself(key, monkeypatch):
    import os

    real = os.environ
    monkeypatch.setattr(os, "environ", {**real, "MY_KEY": key})
    for use in (lambda: ask(teacher("http://127.0.0.1:1/v1"), "q"), teacher("http://h/v1").check):
        with pytest.raises(TeacherUnusable, match="environment variable MY_KEY does not hold") as e:
            use()
        assert KEY not in str(e.value) and "\n" not in str(e.value)


def test_a_header_that_cannot_be_sent_is_named_and_never_shown():
    bad = teacher("http://127.0.0.1:1/v1", headers={"X-Secret": "a\nb-secret"})
    with pytest.raises(TeacherUnusable, match="header 'X-Secret' cannot be sent") as caught:
        asyncio.run(bad._check_server(bad.base_url, "k"))
    assert "b-secret" not in str(caught.value)
