"""Text without a tokeniser or a download: hashed n-grams of words and characters, embedded and averaged."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from zlib import crc32

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from equilib_torch.network.inputs import within
from equilib_torch.parameters import Parameter

_WORDS = re.compile(r"\w+|[^\w\s]")
_SIZES = (3, 4, 5)
_LONGEST_WORD = 40  # characters; of a longer one, as in a text without spaces, the next ones make the next word
_READ = 16  # characters that are looked at for each n-gram that may be kept

NGRAM_PARAMETERS = (
    Parameter(
        "buckets", int, 2**14, "rows of the table of embeddings, into which n-grams are hashed", low=1, high=2**24
    ),
    Parameter("max_length", int, 2048, "n-grams of a text that are read, about 12 a word; what follows is cut", low=1),
)
"""What can be set of `hashed-ngrams`."""


def ngrams(text: str) -> Iterator[str]:
    """Give a text's n-grams, word by word: the word, it and the one before, and its 3, 4 and 5 characters in a row.

    Upper and lower case are one; "<" and ">" mark the ends of a word.

    Example:
        >>> list(ngrams("A cat"))
        ['a', 'cat', 'a cat', '<ca', 'cat', 'at>', '<cat', 'cat>', '<cat>']
    """
    before = None
    for match in _WORDS.finditer(text.casefold()):
        whole = match[0]
        for start in range(0, len(whole), _LONGEST_WORD):
            word = whole[start : start + _LONGEST_WORD]
            yield word
            if before is not None:
                yield f"{before} {word}"
            before = word
            if len(word) > 1:
                marked = f"<{word}>"
                for size in _SIZES:
                    for begin in range(len(marked) - size + 1):
                        yield marked[begin : begin + size]


def hash_ngrams(
    texts: Sequence[str], *, buckets: int, max_length: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Number the n-grams of texts by their hashes, which are the same in every process and on every machine.

    Args:
        texts: N of them; any characters will do. Of a long one, the first `16 max_length` characters are looked at.
        buckets: how many different numbers there are; n-grams may share one.
        max_length: n-grams of a text that are kept, the first ones.

    Returns:
        ids: (N, T) int32, 1 to `buckets`, then 0; T is the largest number of n-grams, at least 1.
        lengths: (N,) int64, 1 to T: 1 for a text without n-grams as well, whose only id is 0.

    Example:
        >>> ids, lengths = hash_ngrams(["cat", ""], buckets=100, max_length=4)
        >>> ids.tolist(), lengths.tolist()
        ([[33, 25, 33, 77], [0, 0, 0, 0]], [4, 1])
    """
    rows = [
        [
            1 + crc32(ngram.encode("utf-8", "surrogatepass")) % buckets
            for ngram in islice(ngrams(text[: _READ * max_length]), max_length)
        ]
        for text in texts
    ]
    lengths = np.array([max(1, len(row)) for row in rows], dtype=np.int64)
    ids = np.zeros((len(rows), int(lengths.max(initial=1))), dtype=np.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return ids, lengths


class HashedNgrams(nn.Module):
    """Mean of the embeddings of a text's n-grams, normalised, then one layer.

    It reads the numbers that `hash_ngrams` makes; number 0 counts as nothing.

    Shapes: (B, T, 1) whole numbers and lengths (B,) -> (B, width).

    Source: Joulin et al., "Bag of Tricks for Efficient Text Classification" (EACL 2017); characters as Bojanowski et
    al., "Enriching Word Vectors with Subword Information" (TACL 2017). Ours: the layer norm, which makes the scale of
    the features independent of how many n-grams a text has.
    """

    def __init__(self, buckets: int, width: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(1 + buckets, width, mode="mean", padding_idx=0)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute features of each sample."""
        ids = x[..., 0].long()
        if lengths is not None:
            ids = ids * within(lengths, ids.shape[1])[..., 0]
        return F.gelu(self.out(self.dropout(self.norm(self.embedding(ids)))))
