"""Runs on the Hugging Face Hub: push a run folder with its model card, and download one (extra ``hub``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import attrs

from zoo.data import DataSpec
from zoo.data.dataset_names import FOLDER, public_name
from zoo.errors import UsageError, ZooError
from zoo.files import refuse_special, write_atomically
from zoo.memory import format_bytes, total_memory
from zoo.reading import MAX_BYTES, read_bytes
from zoo.run.card import make_card
from zoo.run.run_folder import RunFolder
from zoo.run.settings import RunSettings, public_settings
from zoo.terminal import printable

__all__ = ["PREFIX", "HubName", "PushPlan", "download", "plan_push", "pull", "push"]

PREFIX = "hf:"
_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", re.ASCII)
_REQUIRED = ("config.toml", "model.safetensors")
_OPTIONAL = ("result.json", "metrics.jsonl", "README.md")
_GENERATED = ("samples.png", "class_samples.png", "curves.png")
_SHOWING_DATA = ("reconstructions.png", "interpolations.png", "neighbors.png")
"""Pictures with images of the data set, or derived from some."""


@attrs.frozen
class HubName:
    """A repository of models on the Hub and a revision of it.

    Args:
        repository: ``user/name``.
        revision: Branch, tag or commit.
    """

    repository: str
    revision: str = "main"

    @classmethod
    def parse(cls, text: str) -> HubName:
        """Parse ``hf:user/name`` or ``hf:user/name@revision``.

        Raises:
            UsageError: If it is neither.
        """
        match = _NAME.fullmatch(text.removeprefix(PREFIX)) if text.startswith(PREFIX) else None
        if match is None or ".." in text or "--" in match[1]:
            raise UsageError(f"name: {text!r} is not allowed; must be hf:user/name or hf:user/name@revision")
        return cls(match[1], match[2] or "main")

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}" + ("" if self.revision == "main" else f"@{self.revision}")


@attrs.frozen
class PushPlan:
    """Files that :func:`push` uploads.

    Args:
        name: The repository.
        files: Content, or path, of each file by its name.
    """

    name: HubName
    files: Mapping[str, bytes | Path]


def plan_push(run: str | Path, name: str, *, license: str | None = None) -> PushPlan:
    """Write the model card ``README.md`` of a finished run, and list the files that :func:`push` uploads.

    An existing ``README.md`` is kept: edit it, or delete it to have it written anew. ``config.toml`` is uploaded
    without paths of this machine. Pictures that show images of a data set of your own are not uploaded.

    Args:
        run: The run folder.
        name: ``hf:user/name``.
        license: SPDX identifier of the license for the model card, such as ``mit``; see :func:`make_card`.

    Raises:
        UsageError: If the run is not finished, or the name is not allowed.
    """
    hub_name = HubName.parse(name)
    if hub_name.revision != "main":
        raise UsageError(f"name: {name!r} is not allowed; a run is pushed to main, so omit the revision")
    folder = RunFolder(Path(run))
    result = folder.load_result()
    _, facts = folder.load_model()
    settings = folder.settings()
    card = folder.path / "README.md"
    if not card.exists():
        data = DataSpec(facts["dataset"], tuple(facts["shape"]), tuple(facts["classes"]))
        pictures = (folder.path / "samples.png").is_file()
        text = make_card(result, data, hub_name.repository, license=license, pictures=pictures)
        write_atomically(card, text.encode())
    elif license is not None:
        raise UsageError(
            f"license: {card} exists; edit its field 'license', or delete the file to have it written anew"
        )
    own = settings.dataset.startswith(FOLDER) or settings.dataset != public_name(settings.dataset)
    names = [*_REQUIRED[1:], *_OPTIONAL, *_GENERATED, *(() if own else _SHOWING_DATA)]
    files: dict[str, bytes | Path] = {"config.toml": _public_config(settings)}
    for file in (folder.path / each for each in names):
        try:
            refuse_special(file)
        except OSError as error:
            raise UsageError(f"{file} cannot be pushed: {error}") from None
        if file.is_file():
            files[file.name] = file
    return PushPlan(hub_name, files)


def _public_config(settings: RunSettings) -> bytes:
    table: dict[str, Any] = {"model": settings.model, **public_settings(settings)}
    if settings.protocol:
        table["protocol"] = settings.protocol
    return RunSettings.from_table(table).to_toml().encode()


def push(plan: PushPlan, *, private: bool = False) -> str:
    """Upload a run to the Hub in one commit; the repository is created if there is none.

    Args:
        plan: See :func:`plan_push`.
        private: Create the repository as a private one.

    Returns:
        The address of the repository.

    Raises:
        UsageError: If huggingface_hub is not installed.
        ZooError: If the upload fails.
    """
    hub = _library()
    api = hub.HfApi(library_name="latent-zoo")
    operations = [
        hub.CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
        for name, content in plan.files.items()
    ]
    try:
        address = api.create_repo(plan.name.repository, private=private or None, exist_ok=True)
        api.create_commit(plan.name.repository, operations, commit_message="Upload a run of zoo")
    except Exception as error:  # of the library, of any kind
        _fail(plan.name, "cannot be pushed", error)
    return str(address)


def download(name: str) -> Path:
    """Download the networks, settings and result of a run to the cache of huggingface_hub.

    Nothing else is downloaded. Sizes are checked before and after. Without a network, the cached revision is used.

    Args:
        name: ``hf:user/name`` or ``hf:user/name@revision``.

    Returns:
        A run folder, to be read only.

    Raises:
        UsageError: If the name is not allowed, or huggingface_hub is not installed.
        ZooError: If there is no such run, or a file is too large.
    """
    return _download(HubName.parse(name), (*_REQUIRED, "result.json"))


def pull(name: str, out: str | Path) -> Path:
    """Download a run to a folder of its own, for the commands that take a run folder.

    Args:
        name: ``hf:user/name`` or ``hf:user/name@revision``.
        out: The folder, which must be empty or not exist.

    Raises:
        UsageError: If ``out`` is not empty; otherwise see :func:`download`.
    """
    target = Path(out)
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise UsageError(f"out: {target} is not an empty folder; choose another --out")
    source = _download(HubName.parse(name), (*_REQUIRED, *_OPTIONAL))
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZooError(f"out: cannot write to {target}: {error.strerror or error}") from None
    for file in (*_REQUIRED, *_OPTIONAL):
        if (source / file).is_file():
            write_atomically(target / file, read_bytes(source / file, _limit(file)))
    return target


def _download(name: HubName, wanted: tuple[str, ...]) -> Path:
    hub = _library()
    api = hub.HfApi(library_name="latent-zoo")
    try:
        present = _remote_sizes(hub, api, name)
    except Exception as error:  # of the library, of any kind
        _fail(name, "cannot be downloaded", error)
    folders = set()
    for file in wanted:
        if present is not None and file not in present:
            if file in _REQUIRED:
                raise ZooError(f"{name} is not a run of zoo: it has no {file}")
            continue
        _check_size(name, file, 0 if present is None else present[file])
        try:
            path = Path(api.hf_hub_download(name.repository, file, revision=name.revision))
        except Exception as error:
            if present is None and file not in _REQUIRED and isinstance(error, hub.errors.LocalEntryNotFoundError):
                continue
            _fail(name, "cannot be downloaded", error)
        real = path.resolve()
        # The cache links a snapshot to its own blobs; a link of the repository must not lead out of it.
        if not real.is_relative_to(path.parents[2].resolve()):
            raise ZooError(f"{name}: {file} is a link out of its repository")
        _check_size(name, file, real.stat().st_size)
        folders.add(path.parent)
    if len(folders) != 1:
        raise ZooError(f"{name} changed while it was downloaded; repeat the command")
    return folders.pop()


def _remote_sizes(hub: Any, api: Any, name: HubName) -> dict[str, int] | None:
    """Size of each file of the repository; None without a network."""
    try:
        info = api.model_info(name.repository, revision=name.revision, files_metadata=True)
    except (hub.errors.RepositoryNotFoundError, hub.errors.RevisionNotFoundError):
        raise
    except Exception as error:
        if isinstance(error, hub.errors.HfHubHTTPError) and error.response.status_code < 500:
            raise
        return None  # offline: the cache may have it, and hf_hub_download says so otherwise
    return {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or ()}


def _limit(file: str) -> int:
    if file == "model.safetensors":
        return total_memory() // 4
    return 64 << 20 if file == "metrics.jsonl" else MAX_BYTES


def _check_size(name: HubName, file: str, size: int) -> None:
    if size > _limit(file):
        raise ZooError(f"{name}: {file} has {format_bytes(size)}; at most {format_bytes(_limit(file))} are read")


def _library() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise UsageError("hf: needs huggingface_hub; pip install 'latent-zoo[hub]'") from None
    return huggingface_hub


def _fail(name: HubName, what: str, error: Exception) -> NoReturn:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if type(error).__name__ == "RepositoryNotFoundError":
        reason = "there is no such repository, or you have no access; hf auth login, or HF_TOKEN, gives it"
    elif status in (401, 403):
        reason = "you have no access; hf auth login, or HF_TOKEN, gives it"
    else:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
    raise ZooError(f"{name} {what}: {printable(reason)}") from error
