"""Fetching: verified, resumable, honest about what went wrong. The network is a server on this machine."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath

import pytest
from isocenter.data import fetch as module
from isocenter.data.fetch import FetchError, RemoteFile, RemoteSet, catalogue, data_folder, fetch, verify

CONTENTS = {"a.bin": b"first file", "b c.bin": b"second " * 1000}


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    monkeypatch.delenv("ISOCENTER_MIRROR", raising=False)
    monkeypatch.setenv("ISOCENTER_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(module, "RETRIES", 0)


@pytest.fixture
def server():
    """Serves ``server.contents`` and counts requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests.append(self.path)
            body = self.server.contents.get(self.path.replace("%20", " ").lstrip("/"))
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.contents, running.requests = dict(CONTENTS), []
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def small_set(port: int) -> RemoteSet:
    files = tuple(
        RemoteFile(
            PurePosixPath("mri/small", name),
            f"http://127.0.0.1:{port}/{name.replace(' ', '%20')}",
            len(content),
            hashlib.sha256(content).hexdigest(),
        )
        for name, content in CONTENTS.items()
    )
    return RemoteSet("small", files, ("CC0",))


@pytest.fixture
def offered(monkeypatch, server):
    """``small`` is the only set there is."""
    remote = small_set(server.server_port)
    monkeypatch.setattr(module, "catalogue", lambda: (remote,))
    return remote


def test_downloads_what_the_source_has(offered, server, tmp_path):
    assert not offered.present()
    folder = fetch("small", progress=False)
    assert folder == tmp_path / "data" / "mri" / "small"
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == CONTENTS
    assert offered.present()


def test_fetching_again_asks_for_nothing_and_repairs_what_is_broken(offered, server):
    folder = fetch("small", progress=False)
    fetch("small", progress=False)
    assert len(server.requests) == 2
    (folder / "a.bin").write_bytes(b"first filE")
    fetch("small", progress=False)
    assert server.requests[2:] == ["/a.bin"]
    assert (folder / "a.bin").read_bytes() == CONTENTS["a.bin"]


def test_interrupted_fetch_goes_on_where_it_stopped(offered, server):
    second = server.contents.pop("b c.bin")
    with pytest.raises(FetchError, match="answers 404"):
        fetch("small", progress=False)
    server.contents["b c.bin"] = second
    fetch("small", progress=False)
    assert server.requests == ["/a.bin", "/b%20c.bin", "/b%20c.bin"]


def test_corrupted_download_is_removed(offered, server, tmp_path):
    server.contents["a.bin"] = b"f1rst file"
    with pytest.raises(FetchError, match="SHA-256") as caught:
        fetch("small", progress=False)
    assert "\n" not in str(caught.value)
    assert not [p for p in (tmp_path / "data").rglob("*") if p.is_file()]


def test_no_network_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "catalogue", lambda: (small_set(9),))  # nothing listens on the discard port
    with pytest.raises(FetchError, match=r"cannot reach .*ISOCENTER_MIRROR") as caught:
        fetch("small", progress=False)
    assert "\n" not in str(caught.value)


def test_destination_that_is_a_file_is_one_line(offered, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(FetchError, match="cannot write"):
        fetch("small", tmp_path / "taken", progress=False)


def test_mirror_is_used_instead_of_the_network(offered, server, monkeypatch, tmp_path):
    mirror = tmp_path / "mirror"
    for file in offered.files:
        (mirror / file.path).parent.mkdir(parents=True, exist_ok=True)
        (mirror / file.path).write_bytes(CONTENTS[file.path.name])
    monkeypatch.setenv("ISOCENTER_MIRROR", str(mirror))
    folder = fetch("small", tmp_path / "elsewhere", progress=False)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == CONTENTS
    assert server.requests == []


def test_what_was_fetched_is_compared_with_the_catalogue(offered):
    folder = fetch("small", progress=False)
    for path in ("mri/small", "mri/small/a.bin", "mri"):
        verify("small", path)
    (folder / "a.bin").write_bytes(b"f1rst file")
    verify("small", "mri/small/b c.bin")
    for path in ("mri/small", "mri/small/a.bin"):
        with pytest.raises(ValueError, match=r"a\.bin is damaged: .* fetch small again"):
            verify("small", path)
    (folder / "a.bin").unlink()  # what is not used need not be there
    verify("small", "mri/small")
    with pytest.raises(ValueError, match="the files of small are not here"):
        verify("small", "mri/other")


def test_mirror_is_verified(offered, monkeypatch, tmp_path):
    mirror = tmp_path / "mirror"
    (mirror / "mri" / "small").mkdir(parents=True)
    monkeypatch.setenv("ISOCENTER_MIRROR", str(mirror))
    with pytest.raises(FetchError, match=r"has no mri/small/a\.bin"):
        fetch("small", progress=False)
    (mirror / "mri" / "small" / "a.bin").write_bytes(b"f1rst file")
    with pytest.raises(FetchError, match="SHA-256"):
        fetch("small", progress=False)
    assert not [p for p in (tmp_path / "data").rglob("*") if p.is_file()]


def test_unknown_names_get_the_nearest_and_missing_sets_their_reason():
    with pytest.raises(FetchError, match="did you mean open-ms"):
        fetch("openms")
    with pytest.raises(FetchError, match="there are open-ms, "):
        fetch("zzz")
    with pytest.raises(FetchError, match="derived"):
        fetch("pulseq-brain")


def test_catalogue_offers_open_licences_by_immutable_address():
    sets = {entry.name: entry for entry in catalogue()}
    assert {"open-ms", "deep-admm-net", "tomopy-tooth", "dicom-samples"} <= set(sets)
    for entry in sets.values():
        assert all(("CC BY" in x or "MIT" in x or "BSD" in x) and "do not" not in x for x in entry.licences)
        for file in entry.files:
            commit = file.url.removeprefix("https://raw.githubusercontent.com/").split("/")[2]
            assert len(commit) == 40
            assert set(commit) <= set("0123456789abcdef")
            assert ".." not in file.path.parts
    assert len({file.path for entry in sets.values() for file in entry.files}) == sum(
        len(entry.files) for entry in sets.values()
    )


@pytest.mark.parametrize("name", ["tomopy-tooth", "dicom-samples"])
def test_real_sets_come_from_the_mirror(name, shared_data, monkeypatch, tmp_path):
    monkeypatch.setenv("ISOCENTER_MIRROR", str(shared_data))
    folder = fetch(name, tmp_path, progress=False)
    entry = next(entry for entry in catalogue() if entry.name == name)
    assert entry.present(tmp_path)
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) == entry.size


def test_catalogue_states_what_the_mirror_holds(shared_data):
    for entry in catalogue():
        assert entry.present(shared_data), entry.name


def test_data_folder_follows_argument_then_environment(monkeypatch, tmp_path):
    assert data_folder("there").name == "there"
    assert data_folder() == tmp_path / "data"
    monkeypatch.delenv("ISOCENTER_DATA")
    assert "isocenter" in data_folder().parts
