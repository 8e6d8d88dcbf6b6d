"""`zoo push`, `zoo pull` and `zoo.load("hf:…")`: huggingface_hub's own client against a small local server."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard, constants

import zoo
from zoo.run import hub

NAME = "hf:ada/digits-vae"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """The requests of the Hub that an upload and a download make; files of one revision by repository."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}
        self.sizes: dict[str, int] = {}
        self.refuses = False
        self.commit = COMMIT
        self.requests: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, body: Any = b"", status: int = 200, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def do_PUT(self) -> None:
        self.server.large[self.path.rpartition("/")[2]] = self.body()
        self.answer()

    def do_POST(self) -> None:
        hub, path, body = self.server, self.path.partition("?")[0], self.body()
        hub.requests.append(path)
        if hub.refuses:
            self.answer({"error": "Invalid username or password."}, 401)
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            known = name in hub.repositories
            hub.repositories.setdefault(name, {})
            hub.private.setdefault(name, asked.get("visibility") == "private" or asked.get("private") is True)
            self.answer({"url": f"{hub.url}/{name}"}, 409 if known else 200)
        elif path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            modes = {
                f["path"]: "lfs" if f["path"].endswith(".safetensors") else "regular" for f in json.loads(body)["files"]
            }
            self.answer({"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]})
        elif path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**o, "actions": {"upload": {"href": f"{hub.url}/upload/{o['oid']}", "header": {}}}}
                for o in json.loads(body)["objects"]
            ]
            self.answer({"transfer": "basic", "objects": objects})
        elif "/commit/" in path:
            name = path.removeprefix("/api/models/").partition("/commit/")[0]
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    hub.repositories[name][value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    hub.repositories[name][value["path"]] = hub.large[value["oid"]]
            self.answer({"commitUrl": f"{hub.url}/{name}/commit/{COMMIT}", "commitOid": COMMIT, "success": True})
        else:
            self.answer({"error": f"unexpected {path}"}, 500)

    def do_GET(self) -> None:
        hub, path = self.server, self.path.partition("?")[0]
        hub.requests.append(path)
        if path.startswith("/api/models/"):
            name = path.removeprefix("/api/models/").partition("/revision/")[0]
            if name not in hub.repositories:
                self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
                return
            files = [
                {"rfilename": f, "size": hub.sizes.get(f, len(c)), "blobId": hashlib.sha1(c).hexdigest()}
                for f, c in hub.repositories[name].items()
            ]
            self.answer({"id": name, "sha": hub.commit, "siblings": files})
            return
        name, _, rest = path.removeprefix("/").partition("/resolve/")
        content = hub.repositories.get(name, {}).get(rest.partition("/")[2])
        if content is None:
            self.answer(b"", 404, X_Error_Code="EntryNotFound")
        else:
            self.answer(content, ETag=f'"{hashlib.sha256(content).hexdigest()}"', X_Repo_Commit=hub.commit)

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    found = Hub()
    for name, value in {
        "ENDPOINT": found.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": found.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_CACHE": str(tmp_path / "hub-cache"),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": True,
        "HF_TOKEN_PATH": str(tmp_path / "token"),
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    huggingface_hub.utils.disable_progress_bars()
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture
def run(runs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs / "vae", tmp_path / "run"))


@pytest.fixture
def pushed(server: Hub, run: Path) -> dict[str, bytes]:
    hub.push(hub.plan_push(run, NAME, license="mit"))
    return server.repositories["ada/digits-vae"]


def test_a_pushed_run_is_loaded_by_its_name_and_is_the_same_model(
    pushed: dict[str, bytes], server: Hub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"config.toml", "model.safetensors", "result.json", "metrics.jsonl", "README.md", "samples.png"} <= set(
        pushed
    )
    assert not {"checkpoint", ".lock", "trackers"} & set(pushed)
    assert pushed["model.safetensors"] == (run / "model.safetensors").read_bytes()
    model = zoo.load(NAME)
    assert torch.equal(model.sample(4, seed=1), zoo.load(run).sample(4, seed=1))
    asked = {path.rpartition("/")[2] for path in server.requests if "/resolve/" in path}
    assert asked == {"config.toml", "model.safetensors", "result.json"}
    server.shutdown()
    server.server_close()  # without a network: from the cache
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert torch.equal(zoo.load(f"{NAME}@main").sample(4, seed=1), model.sample(4, seed=1))


def test_the_model_card_is_valid_and_says_what_the_result_says(pushed: dict[str, bytes], run: Path) -> None:
    card, result = ModelCard(pushed["README.md"].decode()), json.loads((run / "result.json").read_text())
    assert (card.data.license, card.data.library_name) == ("mit", "latent-zoo")
    (score,) = card.data.eval_results
    assert score.metric_value == result["scores"]["FD-classifier"]
    assert score.metric_name == f"FD-classifier (protocol {result['fingerprint'][:16]})"
    assert (score.dataset_name, score.dataset_split) == ("digits", "test")
    assert f'zoo.load("{NAME}")' in card.text
    assert result["command"] in card.text
    assert f"Protocol `{result['fingerprint'][:16]}`" in card.text
    assert "| encoder, decoder | 1 | 1 |" in card.text
    for name, value in result["scores"].items():
        if value is not None and "standard error" not in name:
            assert f"| {name} | {value:.4g}" in card.text
    assert f"| FD-classifier | {result['scores']['FD-classifier']:.4g} ± " in card.text
    assert " | lower |" in card.text


def test_nothing_of_this_machine_is_published(runs: Path, server: Hub, tmp_path: Path) -> None:
    run = Path(shutil.copytree(runs / "color", tmp_path / "color"))
    plan = hub.plan_push(run, "hf:ada/pictures")
    hub.push(plan)
    files = server.repositories["ada/pictures"]
    assert b'dataset = "folder:pictures"' in files["config.toml"]
    for name, content in files.items():
        assert str(runs).encode() not in content, name
    assert not {"reconstructions.png", "interpolations.png", "neighbors.png"} & set(files)  # they show own photos
    assert b"license" not in files["README.md"]
    assert zoo.load("hf:ada/pictures").data.name == "folder:pictures"


def test_an_edited_card_is_kept(server: Hub, run: Path, cli: Any) -> None:
    done = cli("push", run, NAME, "--dry-run")
    assert (done.status, server.repositories) == (0, {})
    assert "would push config.toml, model.safetensors" in done.out
    (run / "README.md").write_text("---\nlicense: cc0-1.0\n---\nmine\n")
    cli("push", run, NAME, "--license", "mit").refused(2, "license: ", "README.md exists")
    done = cli("push", run, NAME, "--private")
    assert done.out.endswith(f"files to {server.url}/ada/digits-vae\n")
    assert server.repositories["ada/digits-vae"]["README.md"].endswith(b"mine\n")
    assert server.private["ada/digits-vae"]
    assert cli("push", run, NAME).status == 0  # a second push to the same repository


def test_a_pulled_run_is_a_run_folder(pushed: dict[str, bytes], tmp_path: Path, cli: Any) -> None:
    out = tmp_path / "pulled"
    assert cli("pull", NAME, "--out", out).status == 0
    assert {p.name for p in out.iterdir()} == {
        "config.toml",
        "model.safetensors",
        "result.json",
        "metrics.jsonl",
        "README.md",
    }
    assert not any(p.is_symlink() for p in out.iterdir())
    assert cli("sample", out, "-n", "4").status == 0
    cli("pull", NAME, "--out", out).refused(2, "is not an empty folder")
    cli("sample", NAME).refused(2, f"zoo pull {NAME} downloads it")


def test_what_is_loaded_is_checked_like_any_received_folder(
    pushed: dict[str, bytes], server: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = dict(pushed)
    changed = bytearray(whole["model.safetensors"])
    changed[-1] ^= 1
    pushed["model.safetensors"] = bytes(changed)
    with pytest.raises(zoo.ZooError, match=r"is damaged|of another run"):
        zoo.load(NAME)
    server.commit = "1" * 40
    pushed.clear()
    pushed.update({"model.bin": b"pickle", "config.toml": whole["config.toml"]})
    with pytest.raises(zoo.ZooError, match=r"^hf:ada/digits-vae is not a run of zoo: it has no model\.safetensors$"):
        zoo.load(NAME)
    pushed.update(whole)
    server.sizes["config.toml"] = 5 << 20
    with pytest.raises(zoo.ZooError, match=r"config\.toml has 5\.24 MB; at most 4\.19 MB are read"):
        zoo.load(NAME)
    server.commit = "2" * 40
    server.sizes["config.toml"] = 1  # the server lies
    pushed["config.toml"] = b"# " + b"x" * (5 << 20)
    with pytest.raises(zoo.ZooError, match="at most"):
        zoo.load(NAME)
    monkeypatch.setattr(hub, "total_memory", lambda: 1000)
    with pytest.raises(zoo.ZooError, match=r"model\.safetensors has .*; at most 250 bytes are read"):
        hub._check_size(hub.HubName("a/b"), "model.safetensors", 251)


def test_links_out_of_the_repository_are_refused(
    pushed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Path
) -> None:
    folder = tmp_path / "cache" / "models--ada--digits-vae" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    for name in ("config.toml", "model.safetensors", "result.json"):
        (folder / name).symlink_to(run / name)
    monkeypatch.setattr(huggingface_hub.HfApi, "hf_hub_download", lambda *args, **_: str(folder / args[2]))
    with pytest.raises(zoo.ZooError, match=r"config\.toml is a link out of its repository"):
        zoo.load(NAME)


def test_errors_are_one_line(server: Hub, run: Path, cli: Any, tmp_path: Path) -> None:
    with pytest.raises(zoo.ZooError, match="there is no such repository, or you have no access"):
        zoo.load("hf:nobody/nothing")
    for name in ("hf:", "hf:one", "hf:a/b/c", "hf:../x", "digits", "hf:a/b@"):
        cli("push", run, name).refused(2, "must be hf:user/name")
    cli("push", run, "hf:a/b@v1").refused(2, "omit the revision")
    server.refuses = True
    cli("push", run, NAME).refused(1, "hf:ada/digits-vae cannot be pushed: you have no access; hf auth login")
    (run / "samples.png").unlink()
    (run / "samples.png").symlink_to(tmp_path / "elsewhere")
    cli("push", run, NAME).refused(2, "samples.png cannot be pushed: it is a symbolic link")
    (run / "result.json").unlink()
    cli("push", run, NAME).refused(2, "is not finished")
