"""``zoo encode``, ``decode``, ``embed``, ``attribute``, and the orders and arcs of ``traverse`` and ``interpolate``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from test_image_grids import untile

import zoo
from zoo.data import DataOptions, folder_files, load_dataset
from zoo.registry import registry
from zoo.run.latent import interpolate, measure_activity, prior_codes

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def vae(runs: Path) -> zoo.TrainedModel:
    return zoo.load(runs / "vae")


def pictures(path: Path, columns: int, shape: tuple[int, int] = (8, 8)) -> np.ndarray:
    return untile(np.asarray(Image.open(path)), columns, shape)


def test_codes_of_a_folder_keep_the_paths_of_their_images(cli, runs, tmp_path):
    """Each row of the table has the code of the file that it names."""
    done = cli("encode", runs / "color", "--out", tmp_path / "codes.parquet")
    assert done.status == 0, done.err
    table = parquet.read_table(tmp_path / "codes.parquet")
    assert table.column_names == ["split", "index", "path", "z"]
    assert sorted(table["path"].to_pylist()) == sorted(f"{i}.png" for i in range(40))
    assert table["split"].to_pylist() == ["train"] * 30 + ["test"] * 10
    trained = zoo.load(runs / "color")
    for row in (0, 7, 33):
        pixels = np.asarray(Image.open(runs / "pictures" / table["path"][row].as_py()))
        z = trained.encode(torch.tensor(pixels.transpose(2, 0, 1)[None]))
        assert np.allclose(table["z"][row].as_py(), z[0], atol=1e-5)


def test_codes_of_labeled_images(cli, runs, tmp_path):
    cli("encode", runs / "vae", "--out", tmp_path / "codes.parquet")
    table = parquet.read_table(tmp_path / "codes.parquet")
    assert table.column_names == ["split", "index", "label", "class", "z"]
    data = load_dataset("digits", DataOptions(), registry().sources())
    assert table["label"].to_pylist() == [*data.train.labels.tolist(), *data.test.labels.tolist()]
    assert table["class"][0].as_py() == data.classes[table["label"][0].as_py()]


def test_the_files_of_a_folder_without_its_damaged_images(tmp_path):
    for name in ("a", "b", "c", "d"):
        Image.new("L", (8, 8), ord(name)).save(tmp_path / f"{name}.png")
    (tmp_path / "aa.png").write_bytes(b"damaged")
    (tmp_path / "z.png").write_bytes(b"damaged")
    with pytest.warns(zoo.data.DataWarning, match="2 of 6 files"):
        data = load_dataset(f"folder:{tmp_path}", DataOptions(), {})
    train, test = folder_files(tmp_path, DataOptions())
    for paths, split in ((train, data.train), (test, data.test)):
        assert [ord(path[0]) for path in paths] == split.images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_codes_go_to_a_file_and_back(cli, runs, vae, tmp_path, suffix):
    codes = tmp_path / f"codes{suffix}"
    cli("encode", runs / "vae", "--out", codes)
    done = cli("decode", runs / "vae", codes, "-n", 9, "--out", tmp_path / "images.npy")
    assert done.out == f"wrote 9 images to {tmp_path / 'images.npy'}\n"
    data = load_dataset("digits", DataOptions(), registry().sources())
    x = (data.test if suffix == ".npz" else data.train).images[:9]
    expected = zoo.to_uint8(vae.reconstruct(x))[:, 0].numpy()
    assert np.abs(np.load(tmp_path / "images.npy").astype(int) - expected).max() <= 1  # rounding of another batch size
    if suffix == ".npz":
        cli("decode", runs / "vae", codes, "--array", "z_train", "-n", 4, "--out", tmp_path / "folder")
        assert len(list((tmp_path / "folder").glob("*.png"))) == 4


def test_codes_that_cannot_be_decoded(cli, runs, tmp_path):
    def written(name: str, content: bytes | np.ndarray) -> Path:
        path = tmp_path / name
        path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content, allow_pickle=True)
        return path

    run = runs / "vae"
    cli("decode", run, tmp_path / "none.npz").refused(2, "codes: no file", "zoo encode writes one")
    cli("decode", run, tmp_path / "codes.txt").refused(2, "must end in .npz, .npy or .parquet")
    cli("decode", run, written("a.npy", b"x")).refused(1, "cannot be read")
    cli("decode", run, written("a.npz", b"x")).refused(1, "cannot be read")
    cli("decode", run, written("a.parquet", b"x")).refused(1, "cannot be read")
    cli("decode", run, written("b.npy", np.array([{}], dtype=object))).refused(1, "cannot be read", "allow_pickle")
    cli("decode", run, written("c.npy", np.zeros((0, 16)))).refused(2, "shape (0, 16) is not allowed")
    cli("decode", run, written("d.npy", np.zeros((2, 3)))).refused(2, "z: shape (2, 3)", "(B, 16)")
    cli("decode", run, written("e.npy", np.full((2, 16), np.nan))).refused(2, "NaN or infinite")
    cli("decode", run, tmp_path / "e.npy", "--array", "z").refused(2, "array: only an .npz file has named arrays")
    np.savez(tmp_path / "f.npz", other=np.zeros((2, 16)))
    cli("decode", run, tmp_path / "f.npz").refused(2, "has none of z, z_test and z_train; it has other")
    cli("decode", run, tmp_path / "f.npz", "--array", "x").refused(2, "has none 'x'; it has other")
    cli("decode", run, tmp_path / "f.npz", "--array", "other", "--out", "a.jpg").refused(2, "must end in .png or .npy")


def test_without_pyarrow(cli, runs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = cli("encode", runs / "vae", "--out", tmp_path / "codes.parquet")
    done.refused(2, "out: .parquet files need the package pyarrow; pip install pyarrow, or use .npz")


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_embeddings(cli, runs, tmp_path, method):
    done = cli("embed", runs / "vae", "--method", method, "-n", 60, "--out", tmp_path / "made" / "plane.png")
    assert done.status == 0, done.err
    with np.load(tmp_path / "made" / "plane.npz") as found:
        assert {name: found[name].shape for name in found.files} == {
            "embedding": (60, 2),
            "z": (60, 16),
            "labels": (60,),
        }
    with Image.open(tmp_path / "made" / "plane.png") as image:
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 20)) > 20


def test_embedding_without_labels_or_umap(cli, runs, tmp_path):
    done = cli("embed", runs / "color", "--out", tmp_path / "plane.png")
    assert done.status == 0, done.err
    with np.load(tmp_path / "plane.npz") as found:
        assert sorted(found.files) == ["embedding", "z"]
    cli("embed", runs / "vae", "--method", "umap").refused(2, "pip install umap-learn")
    cli("embed", runs / "vae", "--out", "plane.pdf").refused(2, "must end in .png")


def test_attribute_vectors(cli, runs, vae, tmp_path):
    """Rows begin with images of the class, and end at the code plus the difference of the class means."""
    done = cli(
        *("attribute", runs / "vae", "--from", 3, "--to", "8", "-n", 4, "--steps", 3, "--out", tmp_path / "grid.png")
    )
    assert done.out == f"wrote 4 rows from 3 to 8 to {tmp_path / 'grid.png'}\n"
    tiles = pictures(tmp_path / "grid.png", 4).reshape(4, 4, 8, 8)
    data = load_dataset("digits", DataOptions(), registry().sources())
    x = data.test.images[data.test.labels == 3][:4]
    assert np.array_equal(tiles[:, 0], x[:, 0].numpy())
    z, codes, labels = vae.encode(x), vae.encode(data.train.images), data.train.labels
    vector = codes[labels == 8].mean(0) - codes[labels == 3].mean(0)
    for column, amount in ((1, 0.0), (2, 0.5), (3, 1.0)):
        expected = zoo.to_uint8(vae.decode(z + amount * vector))[:, 0].numpy()
        assert np.abs(tiles[:, column].astype(int) - expected).max() <= 1


def test_attributes_that_there_are_not(cli, runs, toys):
    cli("attribute", runs / "vae", "--from", "3", "--to", "seven").refused(2, "to: ", "class", "seven")
    cli("attribute", runs / "vae", "--from", "10", "--to", "7").refused(2, "from: ", "10")
    done = cli("attribute", runs / "color", "--from", "3", "--to", "7")
    assert done.status == 2
    assert "zoo: error: from: folder:pictures has no classes\n" in done.err
    cli("attribute", runs / "blind", "--from", "3", "--to", "7").refused(2, "has no encoder")


def test_spherical_interpolation(cli, runs, tmp_path, toys):
    trained = zoo.load(runs / "blind")
    z, t = prior_codes(trained, 4, 5), torch.linspace(0, 1, 4)
    for method in ("linear", "slerp"):
        out = tmp_path / f"{method}.png"
        cli("interpolate", runs / "blind", "--rows", 2, "--steps", 4, "--seed", 5, "--method", method, "--out", out)
        codes = interpolate(z[:2], z[2:], t, spherical=method == "slerp").flatten(0, 1)
        assert np.array_equal(pictures(out, 4), zoo.to_uint8(trained.decode(codes))[:, 0].numpy())
    assert (tmp_path / "linear.png").read_bytes() != (tmp_path / "slerp.png").read_bytes()


def test_traversals_begin_with_the_most_active_dimension(cli, runs, vae, tmp_path):
    activity = measure_activity(vae)
    most = int(activity.argmax())
    done = cli("traverse", runs / "vae", "--dims", 2, "--steps", 3, "--out", tmp_path / "a.png")
    assert f"dimension (activity) of each row: {most} (" in done.out
    z = prior_codes(vae, 1, 0).repeat(3, 1)
    z[:, most] = torch.tensor([-3.0, 0.0, 3.0])
    expected = zoo.to_uint8(vae.decode(z))[:, 0].numpy()
    assert np.abs(pictures(tmp_path / "a.png", 3)[:3].astype(int) - expected).max() <= 1
    done = cli("traverse", runs / "vae", "--dims", 2, "--order", "index", "--out", tmp_path / "b.png")
    assert ": 0 (" in done.out


def test_no_output_follows_a_link(cli, runs, tmp_path):
    run = Path(shutil.copytree(runs / "vae", tmp_path / "vae"))
    (tmp_path / "mine").write_bytes(b"mine")
    for name in ("embedding.png", "embedding.npz", "decoded.png", "attribute.png"):
        (run / name).symlink_to(tmp_path / "mine")
    np.save(tmp_path / "z.npy", np.zeros((2, 16)))
    cli("embed", run).refused(1, "symbolic link")
    cli("decode", run, tmp_path / "z.npy").refused(1, "symbolic link")
    cli("attribute", run, "--from", 1, "--to", 2).refused(1, "symbolic link")
    assert (tmp_path / "mine").read_bytes() == b"mine"
