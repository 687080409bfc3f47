"""Backbones: tiny checkpoints frozen, fine-tuned and with LoRA; features, training, saving, and a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
from copy import deepcopy
from functools import cache
from types import SimpleNamespace

import checkpoints
import numpy as np
import pytest
import torch

from equilib_torch import Dataset, InputError, Modality, MultimodalClassifier, fit
from equilib_torch.data.batches import column
from equilib_torch.methods import METHODS
from equilib_torch.network import FUSIONS, preparing
from equilib_torch.network.backbones.pooling import POOLS, last_token, mean_pool
from equilib_torch.network.backbones.spec import BackboneSpec
from equilib_torch.training import State

ROWS = 36
LABELS = np.arange(ROWS) % 3
SPLITS = {"train": np.arange(18), "val": np.arange(18, 27), "test": np.arange(27, ROWS)}
TRAINABLE = {  # of the tiny backbones: all parameters, those that LoRA of rank 4 adds
    "bert": (32704, 3584),
    "qwen2": (32160, 4096),
    "vit": (23680, 3584),
    "wav2vec2": (24176, 3776),
    "ast": (18336, 3584),
    "clip": (33152, 3776),
}
TUNES = ("frozen", "all", "lora")
FAST = ("bert", "qwen2", "vit", "wav2vec2")
SLOW = [("vit", "lora"), ("wav2vec2", "all"), ("wav2vec2", "lora"), *((n, t) for n in ("ast", "clip") for t in TUNES)]
CASES = [
    pytest.param(name, tune, marks=pytest.mark.slow if (name, tune) in SLOW else ())
    for name in TRAINABLE
    for tune in TUNES
]


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Build a checkpoint once."""
    return cache(lambda name: checkpoints.build(name, tmp_path_factory.mktemp("checkpoints") / name))


def modality(name, *, missing=()):
    rng = np.random.default_rng(0)
    present = np.ones(ROWS, bool)
    present[list(missing)] = False
    if name in ("bert", "qwen2", "clip"):
        return Modality("m", "text", np.array(checkpoints.texts(ROWS, LABELS)), None, present)
    if name == "vit":
        values = rng.integers(0, 60, (ROWS, 20, 18, 3)) + 60 * LABELS[:, None, None, None]
        return Modality("m", "image", values.astype(np.uint8), None, present)
    if name == "wav2vec2":
        waves = np.sin(np.arange(900) * 0.05 * (1 + LABELS[:, None])) + 0.1 * rng.standard_normal((ROWS, 900))
        return Modality("m", "sequence", waves[..., None].astype(np.float32), rng.integers(20, 901, ROWS), present)
    frames = rng.standard_normal((ROWS, 40, checkpoints.BINS)) + 20 * (LABELS - 1)[:, None, None]
    return Modality("m", "sequence", frames.astype(np.float32), rng.integers(5, 41, ROWS), present)


def dataset_of(*modalities):
    return Dataset("tiny", modalities, LABELS, (0, 1, 2), SPLITS)


def spec(built, name, tune="frozen", extra=""):
    return (
        f"hf:{built(name)}:tune={tune}"
        + ("" if tune == "frozen" else ":lr=3e-3")
        + (":rank=4" if tune == "lora" else "")
        + extra
    )


@pytest.fixture(scope="session")
def trained(built, make_options, tmp_path_factory):
    """Train and save a model of one tiny backbone once."""

    @cache
    def train(name, tune):
        numbers = Modality("n", "vector", np.ones((ROWS, 2)), None, np.ones(ROWS, bool))
        dataset = dataset_of(modality(name, missing=(2, 20, 30) if tune != "all" else ()), numbers)
        options = make_options(
            method="late-fusion",
            encoder=[f"m={spec(built, name, tune)}"],
            epochs=None,
            updates=16,
            dropout=0.0,
            lr=1e-2,
        )
        run = fit(options, dataset)
        folder = tmp_path_factory.mktemp("models") / f"{name}-{tune}"
        MultimodalClassifier(run.network).save_pretrained(folder)
        return SimpleNamespace(run=run, options=options, dataset=dataset, folder=folder)

    return train


def inputs_of(dataset, rows):
    m = dataset.modalities[0]
    inputs = {"m": m.values[rows], "m_present": m.present[rows]}
    return inputs if m.lengths is None else {**inputs, "m_length": m.lengths[rows]}


# --- every checkpoint, in every way ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "tune"), CASES)
def test_what_is_trained_is_what_was_asked_for_and_its_loss_falls(trained, built, name, tune):
    run = trained(name, tune).run
    losses = [record["train_loss"] for record in run.history]
    assert losses[-1] < 0.95 * losses[0]
    encoder = run.network.encoders[0]
    if tune == "frozen":
        assert not hasattr(encoder, "backbone")
        return
    parameters = dict(encoder.backbone.named_parameters())
    n_trained = sum(p.numel() for p in parameters.values() if p.requires_grad)
    assert n_trained == TRAINABLE[name][tune == "lora"]
    assert {n for n, p in parameters.items() if p.requires_grad} == {
        n for n in parameters if tune == "all" or "lora_" in n
    }
    original = preparing.load_reader(BackboneSpec.read(f"hf:{built(name)}"), built(name), modality(name).kind, "")
    before = dict(original.named_parameters())
    stayed = [torch.equal(p, before[n.replace(".base_layer", "")]) for n, p in parameters.items() if "lora_" not in n]
    assert all(stayed) == (tune == "lora")


def alone(name, folder, m, row):
    """The feature of one sample by itself, without padding, as the library's own classes say."""
    import transformers

    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    if m.kind == "text":
        ids = transformers.AutoTokenizer.from_pretrained(folder)(m.values[row], return_tensors="pt")["input_ids"]
        if name == "clip":
            return model.get_text_features(input_ids=ids).pooler_output[0]
        hidden = model(input_ids=ids).last_hidden_state[0]
        return hidden[-1] if name == "qwen2" else hidden.mean(0)
    if m.kind == "image":
        processor = transformers.AutoImageProcessor.from_pretrained(folder)
        return model(**processor(images=[m.values[row]], return_tensors="pt")).last_hidden_state[0, 0]
    x = m.values[row, : m.lengths[row]]
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    if name == "wav2vec2":
        made = extractor(x[:, 0], sampling_rate=16000, return_tensors="pt")["input_values"]
        made = torch.nn.functional.pad(made, (0, max(0, 45 - len(x))))  # silence, up to what gives one frame
        return model(made).last_hidden_state[0].mean(0)
    x = np.pad((x - extractor.mean) / (2 * extractor.std), ((0, 40), (0, 0)))[: checkpoints.FRAMES]
    return model(torch.from_numpy(x[None]).float()).pooler_output[0]


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(n, marks=pytest.mark.slow) for n in ("ast", "clip"))])
def test_features_are_those_of_single_unpadded_samples(trained, built, name):
    m = trained(name, "frozen").dataset.modalities[0]
    config = trained(name, "frozen").run.network.config.modalities[0]
    made = {}
    for size in (1, 7, 32):
        sized = BackboneSpec.read(f"{spec(built, name)}:batch-size={size}")
        preparation = preparing.FrozenBackbone(config, sized, built(name), torch.device("cpu"))
        made[size] = preparing.prepare_rows(preparation, m).values
        np.testing.assert_allclose(made[size], made[1], atol=1e-5)
    assert made[1].std(0).max() > 0.01
    assert not made[1][~m.present].any()
    rows = [0, 1, 11, 25]
    if name == "wav2vec2":
        rows.append(int(np.where(m.present, m.lengths, 999).argmin()))  # shorter than the receptive field
    with torch.no_grad():
        for row in rows:
            np.testing.assert_allclose(made[32][row], alone(name, built(name), m, row), atol=1e-5)


@pytest.mark.parametrize(("name", "tune"), [case for case in CASES if "frozen" not in case.values])
def test_a_trained_backbone_sees_neither_padding_nor_other_samples(trained, name, tune):
    one = trained(name, tune)
    state = State.create(one.options, one.dataset)
    encoder, m = one.run.network.encoders[0].eval(), state.samples.dataset.modalities[0]
    rows = np.flatnonzero(m.present)[:9]
    batch = column(m, rows)
    with torch.no_grad():
        together = encoder(batch.inputs, batch.lengths)
        for i in range(len(rows)):
            length = None if batch.lengths is None else batch.lengths[i : i + 1]
            x = batch.inputs[i : i + 1]
            x = x if length is None else x[:, : int(length)]
            torch.testing.assert_close(encoder(x, length)[0], together[i], atol=1e-5, rtol=1e-5)


ASK = """
import sys, numpy as np
from equilib_torch import MultimodalClassifier
for folder in sys.argv[1:]:
    given = np.load(folder + "/asked.npz")
    inputs = {k: given[k] for k in given.files if k != "expected"}
    told = MultimodalClassifier.from_pretrained(folder).predict_proba(inputs)
    print(float(np.abs(told - given["expected"]).max()))
"""


def ask_afresh(*models):
    """The largest difference of the predictions of a fresh process, without a network, from those of this one."""
    for one in models:
        inputs = inputs_of(one.dataset, np.arange(9))
        inputs["m"] = np.array(inputs["m"].tolist()) if inputs["m"].dtype.kind == "T" else inputs["m"]
        expected = MultimodalClassifier(one.run.network).predict_proba(inputs)
        np.savez(one.folder / "asked.npz", expected=expected, **inputs)
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", ASK, *(str(one.folder) for one in models)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "EQUILIB_CACHE": "/nowhere"},
    )
    assert (told.returncode, told.stderr) == (0, "")
    return [float(line) for line in told.stdout.split()]


@pytest.mark.slow
@pytest.mark.parametrize(
    "cases",
    [
        [
            ("bert", "frozen"),
            ("bert", "lora"),
            ("qwen2", "all"),
            ("qwen2", "lora"),
            ("vit", "all"),
            ("wav2vec2", "frozen"),
        ],
        [("bert", "all"), ("qwen2", "frozen"), ("vit", "frozen"), *SLOW],
    ],
    ids=["some", "all others"],
)
def test_saved_models_predict_in_a_fresh_process(trained, cases):
    models = [trained(*case) for case in cases]
    differences = ask_afresh(*models)
    assert len(differences) == len(models)
    assert max(differences) < 1e-5


def test_a_saved_model_is_small_where_the_checkpoint_is_not_trained(trained):
    sizes = {
        tune: (trained("bert", tune).folder / "model.safetensors").stat().st_size for tune in ("frozen", "all", "lora")
    }
    assert sizes["frozen"] < sizes["lora"] < sizes["all"] / 4
    stored = {path.name for path in (trained("bert", "lora").folder / "backbones" / "0").iterdir()}
    assert stored == {"config.json", "tokenizer.json", "tokenizer_config.json"}


# --- pooling and padding ---------------------------------------------------------------------------------------------


def test_pooling_takes_real_tokens_on_either_side():
    hidden = torch.arange(24.0).reshape(2, 4, 3)
    right, left = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]), torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    shifted = torch.cat([hidden[:1].roll(2, 1), hidden[1:]])
    for pool in POOLS.values():
        torch.testing.assert_close(pool(hidden, right), pool(shifted, left))
    assert last_token(hidden, right)[:, 0].tolist() == [3.0, 21.0]
    assert mean_pool(hidden, right)[0, 0].item() == 1.5
    assert mean_pool(hidden, torch.zeros(2, 4)).abs().max() == 0


@pytest.mark.parametrize("name", ["bert", "qwen2"])
@pytest.mark.parametrize("pool", ["mean", "last"])
def test_the_side_of_the_tokenizer_s_padding_does_not_matter(built, tmp_path, name, pool):
    left = checkpoints.copy(built(name), tmp_path / "left")
    checkpoints.save_tokenizer(left, padding_side="left")
    m = modality(name)
    made = [features(folder, m, f":pool={pool}") for folder in (built(name), left)]
    np.testing.assert_allclose(*made, atol=1e-6)


def features(folder, m, extra=""):
    config = SimpleNamespace(name="m", kind=m.kind, shape=m.values.shape[1:])
    preparation = preparing.FrozenBackbone(
        config, BackboneSpec.read(f"hf:{folder}{extra}"), folder, torch.device("cpu")
    )
    return preparing.prepare_rows(preparation, m).values


def test_awkward_texts_have_features_and_long_ones_are_cut(built):
    texts = ["", "🦊", "a\x00b", "cat " * 250_000, "cat " * 100, "cat"]
    m = Modality("m", "text", np.array(texts, dtype=np.dtypes.StringDType()), None, np.ones(len(texts), bool))
    for name in ("bert", "qwen2"):
        made = features(built(name), m, ":max-length=16")
        assert np.isfinite(made).all()
        np.testing.assert_allclose(made[3], made[4], atol=1e-5)
        assert np.abs(made[4] - made[5]).max() > 1e-3
        assert np.abs(made[0]).max() > 1e-3


def test_grey_real_and_video_pictures_are_read_as_the_processor_does(built):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 3, 20, 18, 1), dtype=np.uint8)
    here = np.ones(2, bool)
    grey = features(built("vit"), Modality("m", "image", frames[:, 0, ..., 0], None, here))
    colour = features(built("vit"), Modality("m", "image", np.repeat(frames[:, 0], 3, -1), None, here))
    real = features(built("vit"), Modality("m", "image", frames[:, 0] / 255, None, here))
    np.testing.assert_allclose(grey, colour, atol=1e-6)
    np.testing.assert_allclose(real, colour, atol=1e-6)
    film = features(built("vit"), Modality("m", "video", frames, np.array([1, 3]), here))
    each = [features(built("vit"), Modality("m", "image", frames[:, t], None, here))[1] for t in range(3)]
    np.testing.assert_allclose(film[0], grey[0], atol=1e-5)
    np.testing.assert_allclose(film[1], np.mean(each, 0), atol=1e-5)
    with pytest.raises(InputError, match=r"real pixels must be 0 to 1, got 0 to 255; scale them, or give uint8"):
        features(built("vit"), Modality("m", "image", 1.0 * np.array([[[[0]], [[255]]]]), None, here[:1]))


def test_wav2vec2_with_norm_over_time_gets_one_length_at_a_time(tmp_path):
    torch.manual_seed(0)
    checkpoints.wav2vec2(tmp_path, norm="group")
    m = modality("wav2vec2")
    m = Modality("m", "sequence", m.values[:6], np.array([300, 900, 300, 500, 20, 900]), np.ones(6, bool))
    made = features(tmp_path, m)
    with torch.no_grad():
        for row in range(6):
            np.testing.assert_allclose(made[row], alone("wav2vec2", tmp_path, m, row), atol=1e-5)


# --- training with all else ------------------------------------------------------------------------------------------


def mixed(missing=0.3):
    """Text, picture and numbers, some of the texts missing."""
    rng = np.random.default_rng(1)
    text = modality("qwen2", missing=rng.permutation(ROWS)[: int(missing * ROWS)])
    picture = Modality(
        "picture", "image", rng.integers(0, 255, (ROWS, 8, 8), dtype=np.uint8), None, np.ones(ROWS, bool)
    )
    numbers = Modality("numbers", "vector", rng.standard_normal((ROWS, 3)) + LABELS[:, None], None, np.ones(ROWS, bool))
    return dataset_of(text, picture, numbers)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_with_an_llm(built, make_options, method):
    fusion = list(FUSIONS)[list(METHODS).index(method) % len(FUSIONS)]
    options = make_options(method=method, fusion=fusion, encoder=[f"m={spec(built, 'qwen2')}"], epochs=1)
    run = fit(options, mixed())
    assert np.isfinite(run.test.values).all()
    classifier = MultimodalClassifier(run.network)
    m, picture, numbers = (modality.values[:4] for modality in run.dataset.modalities)
    everything = {"m": m, "picture": picture, "numbers": numbers}
    for left_out in everything:
        some = {name: values for name, values in everything.items() if name != left_out}
        assert classifier.predict_proba(some).shape == (4, 3)


@pytest.mark.parametrize(
    ("method", "tune"), [("equilib", "lora"), ("ogm-ge", "all"), ("mmpareto", "lora"), ("g-blending", "lora")]
)
def test_methods_train_an_llm_along(built, make_options, method, tune):
    options = make_options(method=method, encoder=[f"m={spec(built, 'qwen2', tune)}"], epochs=1)
    assert np.isfinite(fit(options, mixed()).test.values).all()


def test_a_run_with_lora_goes_on_to_the_bit(built, make_options):
    options = make_options(encoder=[f"m={spec(built, 'qwen2', 'lora')}"])
    whole = fit(options, mixed())
    state = State.create(options, mixed())
    fit(options, state.dataset, state=state, on_epoch=lambda record, best: False)
    taken = state.state_dict()
    assert not any("base_layer" in name for name in taken["network"])
    other = State.create(options, state.dataset)
    other.load_state_dict(taken)
    assert fit(options, state.dataset, state=other).history == whole.history
    network = whole.network
    copied = dict(deepcopy(network).named_parameters())
    for name, parameter in network.named_parameters():
        assert (copied[name] is parameter) == (not parameter.requires_grad)


def test_the_backbone_learns_at_a_rate_of_its_own(built, make_options):
    options = make_options(encoder=[f"m=hf:{built('bert')}:tune=all:lr=1e-4"], lr=1e-2)
    state = State.create(options, mixed())
    rates = {id(p): round(group["lr"], 9) for group in state.optimiser.param_groups for p in group["params"]}
    encoder = state.network.encoders[0]
    assert {rates[id(p)] for p in encoder.backbone.parameters()} == {1e-4}
    assert rates[id(encoder.out.weight)] == 1e-2
    assert len(rates) == len(list(state.network.parameters()))


# --- the cache -------------------------------------------------------------------------------------------------------


def test_features_are_computed_once(built, make_options, monkeypatch, tmp_path):
    mine = checkpoints.copy(built("bert"), tmp_path / "bert")
    options = make_options(encoder=[f"m=hf:{mine}"], cache=str(tmp_path / "cache"), epochs=1)
    calls = []
    real = preparing.load_reader
    monkeypatch.setattr(preparing, "load_reader", lambda *given, **more: calls.append(1) or real(*given, **more))
    first = fit(options, mixed())
    second = fit(options, mixed())
    assert len(calls) == 1
    assert first.history == second.history
    fit(make_options(encoder=[f"m=hf:{mine}:pool=cls"], cache=str(tmp_path / "cache"), epochs=1), mixed())
    assert len(calls) == 2
    checkpoints.change(mine)
    fit(options, mixed())
    assert len(calls) == 3
    fit(options, mixed(missing=0.1))
    assert len(calls) == 4


# --- a saved model and its checkpoint --------------------------------------------------------------------------------


def test_a_moved_or_changed_checkpoint_is_found_again_or_refused(built, make_options, tmp_path):
    here, there = checkpoints.copy(built("bert"), tmp_path / "here:a=b"), tmp_path / "there"
    network = fit(make_options(encoder=[f"m=hf:{here}:tune=lora"], epochs=1), mixed()).network
    inputs = {"m": ["a red cat", ""]}
    expected = MultimodalClassifier(network).predict_proba(inputs)
    MultimodalClassifier(network).save_pretrained(tmp_path / "model")
    here.rename(there)
    with pytest.raises(InputError, match=r"backbone of m: there is no folder '.*'; .*backbones=\{'m': PATH\}"):
        MultimodalClassifier.from_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match="backbones must be given by modalities that have one, got 'picture'"):
        MultimodalClassifier.from_pretrained(tmp_path / "model", backbones={"picture": there})
    found = MultimodalClassifier.from_pretrained(tmp_path / "model", backbones={"m": there})
    np.testing.assert_array_equal(found.predict_proba(inputs), expected)
    found.save_pretrained(tmp_path / "again")
    MultimodalClassifier.from_pretrained(tmp_path / "again")  # knows the new place
    checkpoints.change(there)
    with pytest.raises(InputError, match="is not the checkpoint that the model was trained with; point to it by"):
        MultimodalClassifier.from_pretrained(tmp_path / "model", backbones={"m": there})


@pytest.mark.parametrize(("tune", "extra"), [("frozen", ":copy=true"), ("lora", ":copy=true"), ("all", "")])
def test_a_model_with_all_it_needs_does_without_its_checkpoint(built, make_options, tmp_path, tune, extra):
    here = checkpoints.copy(built("qwen2"), tmp_path / "here")
    run = fit(make_options(encoder=[f"m=hf:{here}:tune={tune}{extra}"], epochs=1), mixed())
    inputs = {"m": ["a red cat", ""], "numbers": np.zeros((2, 3))}
    expected = MultimodalClassifier(run.network).predict_proba(inputs)
    MultimodalClassifier(run.network).save_pretrained(tmp_path / "model")
    here.rename(tmp_path / "gone")
    model = (tmp_path / "model").rename(tmp_path / "elsewhere")
    found = MultimodalClassifier.from_pretrained(model)
    np.testing.assert_array_equal(found.predict_proba(inputs), expected)
    found.save_pretrained(tmp_path / "again")
    np.testing.assert_array_equal(
        MultimodalClassifier.from_pretrained(tmp_path / "again").predict_proba(inputs), expected
    )
