"""Checkpoints from anywhere: what is refused, how they are written, found and known by their content."""

from __future__ import annotations

import json
import time

import checkpoints
import numpy as np
import pytest

from equilib_torch import Dataset, InputError, Modality, TrainOptions
from equilib_torch.network.backbones.checkpoint import check_safe, find_checkpoint, fingerprint, quiet
from equilib_torch.network.backbones.spec import BackboneSpec
from equilib_torch.runs.directory import config_of
from equilib_torch.training.state import State, check


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return checkpoints.build("bert", tmp_path_factory.mktemp("checkpoints") / "bert")


@pytest.fixture
def spoiled(built, tmp_path):
    return checkpoints.copy(built, tmp_path / "spoiled")


def options(folder, more="", **changes):
    return TrainOptions(encoder=[f"m=hf:{folder}{more}"], epochs=1, device="cpu", **changes)


def dataset(kind="text", shape=()):
    values = np.array(["a cat", "a dog", "the tree", "rain"]) if kind == "text" else np.ones((4, *shape), np.float32)
    lengths = np.full(4, shape[0]) if kind in ("sequence", "video") else None
    m = Modality("m", kind, values, lengths, np.ones(4, bool))
    splits = {"train": np.arange(2), "val": np.array([2]), "test": np.array([3])}
    return Dataset("tiny", (m,), np.arange(4) % 2, (0, 1), splits)


# --- as it is written ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["bert", "/a/b:c=d/e", "C:\\models\\bert", "org/name", "a b:tune", "x:tune=y/z:w=1"])
@pytest.mark.parametrize("written", [{}, {"tune": "lora", "rank": "4"}, {"pool": "mean", "max-length": "64"}])
def test_what_is_written_is_read_again(source, written):
    spec = BackboneSpec(source, written)
    assert BackboneSpec.read(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hf:", r"encoder must be hf:PATH_OR_NAME:parameter=value:…, got 'hf:'"),
        ("hf", r"encoder must be hf:PATH_OR_NAME"),
        ("hf:x:tune=some", r"encoder hf: tune must be one of frozen, all, lora, got some"),
        ("hf:x:tune=all:tune=lora", r"must set tune once, got 'all' too"),
        ("hf:x:rank=4", r"rank has no effect with tune=frozen; leave it out, or set tune=lora"),
        ("hf:x:tune=all:batch-size=4", r"batch-size has no effect with tune=all; leave it out, or set tune=frozen"),
        ("hf:x:max-length=0", r"max-length must be a whole number from 4 up, got 0"),
    ],
)
def test_what_is_written_wrongly_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        TrainOptions(encoder=[f"m={text}"])


def test_config_files_hold_whole_paths(built, monkeypatch):
    monkeypatch.chdir(built.parent)
    assert config_of(options("bert", ":tune=all"))["encoder"] == [f"m=hf:{built}:tune=all"]
    assert config_of(options("some/model"))["encoder"] == ["m=hf:some/model"]
    assert check(options("bert"), dataset()).modalities[0].encoder == f"hf:{built}"


# --- safe to read ----------------------------------------------------------------------------------------------------


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def with_code(folder, file="config.json"):
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**content, "more": [{"auto_map": {"AutoModel": "evil.Evil"}}]}))


def with_coded_tokenizer(folder):
    with_code(folder, "tokenizer_config.json")


def reaching_out(folder):
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    (folder / "model-00001.safetensors").write_bytes(b"")
    index = {"weight_map": {"x": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def without_config(folder):
    (folder / "config.json").unlink()


def damaged(folder):
    (folder / "config.json").write_text("{")


def of_unknown_make(folder):
    (folder / "config.json").write_text('{"model_type": "no-such-model"}')


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def lacking(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.0.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def with_few_words(folder):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "vocab_size": 9}))


FAULTS = {
    pickled: r"holds no \.safetensors, only pytorch_model\.bin, a format that can run code and is not read",
    with_code: r"needs code of its own \(auto_map in config\.json\), which is never run",
    with_coded_tokenizer: r"needs code of its own \(auto_map in tokenizer_config\.json\)",
    reaching_out: r"names '\.\./outside\.safetensors', which is no \.safetensors in this folder",
    without_config: r"holds no config\.json; give the folder of a checkpoint",
    damaged: r"config\.json' is damaged",
    of_unknown_make: r"cannot be read \(ValueError: ",
    cut: r"cannot be read \(",
    lacking: r"lacks weights of BertModel, encoder\.layer\.0\.output\.dense\.weight and 0 more",
    with_few_words: r"lacks weights of BertModel|the tokenizer makes token",
}


@pytest.mark.parametrize("spoil", FAULTS)
def test_a_checkpoint_that_is_not_in_order_is_refused_in_one_line(spoiled, spoil):
    spoil(spoiled)
    with pytest.raises(InputError, match=FAULTS[spoil]) as refused:
        State.create(options(spoiled), dataset())
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("encoder of m")


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        ("image", (8, 8), r"BertModel of '.*' reads text, got a modality of kind image"),
        ("vector", (3,), r"BertModel of '.*' reads text, got a modality of kind vector"),
        ("sequence", (5, 64), r"BertModel of '.*' reads text, got a modality of kind sequence"),
    ],
)
def test_a_model_that_reads_something_else_is_refused_before_training(built, kind, shape, message):
    with pytest.raises(InputError, match=message):
        check(options(built), dataset(kind, shape))


def test_sound_models_say_what_they_read(tmp_path):
    with pytest.raises(InputError, match=r"Wav2Vec2Model reads raw samples, a sequence \(N, T, 1\), got frames of 64"):
        check(options(checkpoints.build("wav2vec2", tmp_path / "w")), dataset("sequence", (5, 64)))
    with pytest.raises(InputError, match=r"ASTModel reads raw samples, .* or 8 mel bins a frame, got frames of 64"):
        check(options(checkpoints.build("ast", tmp_path / "a")), dataset("sequence", (5, 64)))


def test_pooling_that_says_nothing_is_refused(tmp_path):
    qwen = checkpoints.build("qwen2", tmp_path / "qwen2")
    with pytest.raises(InputError, match="pool must be mean or last for a decoder, whose first token sees no other"):
        State.create(options(qwen, ":pool=cls"), dataset())


def test_a_hidden_file_and_a_pickle_beside_the_weights_do_not_count(spoiled):
    before = fingerprint(spoiled)
    (spoiled / "training_args.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    check_safe(spoiled, "m")
    assert fingerprint(spoiled) == before
    checkpoints.change(spoiled)
    assert fingerprint(spoiled) != before


# --- names of the hub ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["./no/folder", "/no/folder", "~nobody/x", "a/b/c", "../x", "x" * 5000, "a\nb"])
def test_a_path_that_is_not_there_is_never_asked_for_on_the_hub(source, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(InputError, match="there is no folder"):
        find_checkpoint(source, "encoder of m")


def test_a_hub_that_cannot_be_reached_is_said_soon(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    asked = []

    def nobody(self, name, **given):
        asked.append((name, given["timeout"]))
        raise OSError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", nobody)
    started = time.perf_counter()
    message = (
        r"'some-org/some-model' is no folder, not among .*cannot be reached \(Name .*hf download some-org/some-model"
    )
    with pytest.raises(InputError, match=message):
        find_checkpoint("some-org/some-model", "encoder of m")
    assert asked == [("some-org/some-model", 5.0)]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        find_checkpoint("some-org/some-model", "encoder of m")
    assert len(asked) == 1
    assert time.perf_counter() - started < 10


def test_pickles_on_the_hub_are_not_even_downloaded(monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError
    from huggingface_hub.hf_api import ModelInfo

    def absent(*_, local_files_only=False, **__):
        assert local_files_only
        raise LocalEntryNotFoundError("not here")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", absent)
    info = ModelInfo(id="a/b", sha="1", siblings=[{"rfilename": "pytorch_model.bin"}])
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: info)
    with pytest.raises(InputError, match=r"'a/b' has no \.safetensors on the hub"):
        find_checkpoint("a/b", "encoder of m")


def test_the_library_s_settings_are_put_back():
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with quiet():
        assert not logging.is_progress_bar_enabled()
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_a_missing_library_is_named_with_its_extra(built, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(InputError, match=r"encoder of m: needs the extra \[hf\]"):
        check(options(built), dataset())
