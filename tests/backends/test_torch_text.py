"""Texts without a tokenizer: hashed n-grams, and the encoder that reads them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from zlib import crc32

import numpy as np
import pytest
import torch

from equilib_torch import Dataset, InputError, Modality, MultimodalClassifier, fit
from equilib_torch.network.encoders import build_encoder
from equilib_torch.network.text import hash_ngrams, ngrams

AWKWARD = ["", " ", "🦊🦊 fox", "a\x00b", "x" * 2_000_000, "𝕌𝕟𝕚𝕔𝕠𝕕𝕖 ﬁ", "İSTANBUL", "!?", "\ud800 alone", "cat\n\tcat"]


def text_dataset(n=60, *, missing=0.0):
    """The class is a word among others; half train, a quarter validates."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 3
    noise = rng.choice(["and", "of", "the", "with", "some"], size=(n, 4))
    texts = [f"{' '.join(words)} {('cats', 'dogs', 'birds')[k]}" for words, k in zip(noise, labels, strict=True)]
    present = rng.random(n) >= missing
    text = Modality("caption", "text", np.array(texts), None, present)
    numbers = Modality("table", "vector", rng.standard_normal((n, 4)), None, np.ones(n, bool))
    splits = {"train": np.arange(n // 2), "val": np.arange(n // 2, 3 * n // 4), "test": np.arange(3 * n // 4, n)}
    return Dataset("texts", (text, numbers), labels, ("cat", "dog", "bird"), splits)


def test_ids_are_the_published_hash_of_the_n_grams():
    ids, lengths = hash_ngrams(["A cat", "cat"], buckets=1000, max_length=50)
    assert lengths.tolist() == [9, 7]
    assert ids[0].tolist() == [1 + crc32(ngram.encode()) % 1000 for ngram in ngrams("A cat")]
    assert set(ids[1, :6]) <= set(ids[0])
    assert not ids[1, 7:].any()
    assert ids[1, 0] == 1 + 0x9E5E43A8 % 1000  # CRC-32 of "cat"


@pytest.mark.slow
def test_ids_are_the_same_in_another_process():
    code = (
        "from equilib_torch.network.text import hash_ngrams as h; print(h(['Käfer 🐞'], buckets=99, max_length=9)[0])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )
    assert told.stdout.strip() == str(hash_ngrams(["Käfer 🐞"], buckets=99, max_length=9)[0])


@pytest.mark.parametrize("text", AWKWARD, ids=range(len(AWKWARD)))
def test_any_text_is_read_in_no_time(text):
    started = time.perf_counter()
    ids, lengths = hash_ngrams([text, "cat"], buckets=2**14, max_length=2048)
    assert time.perf_counter() - started < 1
    assert ids.shape[1] == lengths.max() <= 2048
    features = build_encoder("hashed-ngrams", "text", (1, 1), width=16, dropout=0.0)(
        torch.from_numpy(ids[..., None]), torch.from_numpy(lengths)
    )
    assert features.isfinite().all()


def test_order_of_words_and_parts_of_words_count():
    a, b, c, d = (
        set(row) - {0}
        for row in hash_ngrams(["dog bites", "bites dog", "dogs", "cat"], buckets=2**20, max_length=99)[0]
    )
    assert a != b
    assert a & c
    assert not c & d


def test_text_trains_is_saved_and_predicts_from_strings(make_options, tmp_path):
    dataset = text_dataset(missing=0.2)
    run = fit(make_options(encoder=["caption=hashed-ngrams:buckets=512"], epochs=20, lr=1e-2), dataset)
    assert run.test.accuracies[1] > 0.8
    assert run.dataset is dataset
    assert run.dataset.fingerprint == text_dataset(missing=0.2).fingerprint
    MultimodalClassifier(run.network).save_pretrained(tmp_path / "model")
    classifier = MultimodalClassifier.from_pretrained(tmp_path / "model")
    asked = {"caption": ["a few CATS", "", "dogs"], "caption_present": [1, 0, 1]}
    both = {**asked, "table": np.zeros((3, 4))}
    for inputs in (asked, both, {"table": both["table"]}):
        np.testing.assert_allclose(
            classifier.predict_proba(inputs), MultimodalClassifier(run.network).predict_proba(inputs), atol=1e-6
        )
    assert classifier.predict(both)[[0, 2]].tolist() == ["cat", "dog"]
    assert (
        fit(make_options(encoder=["caption=hashed-ngrams:buckets=512"], epochs=20, lr=1e-2), dataset).history
        == run.history
    )


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("caption=mlp", r"encoder mlp reads numbers, got a modality of kind text; use hashed-ngrams or hf"),
        ("table=hashed-ngrams", r"encoder hashed-ngrams reads texts, got a modality of kind vector; use mlp or"),
        ("caption=hashed-ngrams:buckets=0", r"encoder hashed-ngrams: buckets must be a whole number from 1 up to"),
        ("caption=hashed-ngrams:words=3", r"encoder hashed-ngrams has the parameters buckets, max-length, got words=3"),
        ("table=mlp:depth=3", r"encoder mlp has no parameters, got depth=3"),
    ],
)
def test_what_does_not_fit_is_refused(make_options, encoder, message):
    with pytest.raises(InputError, match=message):
        fit(make_options(encoder=[encoder]), text_dataset())


def test_a_module_of_one_s_own_does_not_read_text(make_options):
    with pytest.raises(InputError, match="caption is text, which a module does not read"):
        fit(make_options(), text_dataset(), encoders={"caption": torch.nn.Linear(1, 1)})
