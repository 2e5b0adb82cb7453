"""--download, against a real HTTP server of this machine."""

from __future__ import annotations

import functools
import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rethink_fast.data import DataOptions, download, load_dataset, search_path
from rethink_fast.errors import UserError

CONTENT = bytes(range(256)) * 10_000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/short":  # promises more than it sends
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT) + 1))
            self.end_headers()
            self.wfile.write(CONTENT)
            self.close_connection = True
        elif self.path == "/moved":  # as a portal in between answers
            self.send_response(302)
            self.send_header("Location", "/page")
            self.end_headers()
        elif self.path == "/page":
            self.send_response(200)
            self.send_header("Content-Length", "many")
            self.end_headers()
            self.wfile.write(b"<html>sign in</html>")
        elif self.path in ("/strange", "/loop"):
            self.send_response(302)
            self.send_header("Location", "file:///etc" if self.path == "/strange" else "/loop")
            self.end_headers()
        elif self.path == "/escape":
            self.send_response(500, "\x1b[31mred")
            self.end_headers()
        elif self.path == "/nonsense":
            self.wfile.write(b"\0" * 1000)
            self.close_connection = True
        else:
            super().do_GET()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "good").write_bytes(CONTENT)
    handler = functools.partial(Handler, directory=tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_a_good_file(server: str, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    target = tmp_path / "cache" / "file"
    download.fetch_file(f"{server}/good", target, MD5, progress=lambda *what: told.append(what))
    assert target.read_bytes() == CONTENT
    assert len(told) > 1
    assert told[-1] == ("downloading file", len(CONTENT), len(CONTENT))
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    ("file", "md5", "message"),
    [
        ("good", "0" * 32, f"good has the MD5 sum {MD5} instead of {'0' * 32}"),
        ("missing", MD5, "missing answers 404 File not found: fetch it by hand into .*cache"),
        ("short", "0" * 32, "short has the MD5 sum|short could not be fetched"),
        ("moved", MD5, "moved has the MD5 sum .* instead of"),
        ("strange", MD5, "strange answers 302"),
        ("loop", MD5, "loop answers 302"),
        ("escape", MD5, r"escape answers 500 \\x1b\[31mred"),
        ("nonsense", MD5, "nonsense could not be fetched into .*cache"),
    ],
)
def test_a_bad_answer_leaves_nothing(server: str, tmp_path: Path, file: str, md5: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        download.fetch_file(f"{server}/{file}", tmp_path / "cache" / "file", md5)
    assert str(caught.value).isprintable()
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_body_that_is_too_large_is_given_up(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", len(CONTENT) - 1)
    with pytest.raises(UserError, match=r"good gives more than 2,559,999 bytes: fetch it by hand into .*cache"):
        download.fetch_file(f"{server}/good", tmp_path / "cache" / "file", MD5)
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_is_no_address(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"http://\[ could not be fetched into .* \(Invalid IPv6 URL\)"):
        download.fetch_file("http://[", tmp_path / "file", MD5)


def test_a_folder_of_the_name_of_the_file(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(UserError, match="could not be fetched into"):
        download.fetch_file(f"{server}/good", tmp_path / "file", MD5)


def test_nobody_answers(tmp_path: Path) -> None:
    with socket.socket() as closed:  # bound and never listening
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file"
        with pytest.raises(UserError, match=r"cannot be reached.*refused.*fetch it by hand"):
            download.fetch_file(url, tmp_path / "file", MD5)


def test_a_folder_that_cannot_be_written(server: str, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="could not be fetched in"):
        download.fetch_file(f"{server}/good", tmp_path / "cache" / "file", MD5)


def test_imagenet_needs_an_account() -> None:
    with pytest.raises(UserError, match=r"register at https://image-net.org, and lay it out as ROOT/train/WNID"):
        download.fetch("imagenet")


def test_a_data_set_is_fetched_once_and_found_afterwards(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.data.test_mnist import write

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("RETHINK_FAST_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "served", zipped=True)
    sums = {
        f"{server}/{name}.gz": hashlib.md5((tmp_path / "served" / f"{name}.gz").read_bytes()).hexdigest()
        for name in download_names()
    }
    monkeypatch.setitem(download.FILES, "mnist", sums)
    assert load_dataset("mnist", DataOptions(download=True)).data_source == f"mnist idx {search_path.cache_dir()}/mnist"
    monkeypatch.setitem(download.FILES, "mnist", {f"{server}/missing": MD5})
    for again in (True, False):
        assert len(load_dataset("mnist", DataOptions(download=again)).train.index) == 12
    with pytest.raises(UserError, match="omit --data"):
        load_dataset("mnist", DataOptions("synthetic", download=True))


def download_names() -> list[str]:
    return [url.rsplit("/", 1)[1].removesuffix(".gz") for url in download.FILES["mnist"]]


def test_the_official_addresses() -> None:
    assert download.FILES["cifar10"] == {
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"
    }
    assert all(
        url.startswith("http") and len(md5) == 32 for files in download.FILES.values() for url, md5 in files.items()
    )
