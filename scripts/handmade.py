"""Classifiers of texts as people write them by hand, small, for the zoo. They take ids, and a mask unless they need none."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

WORDS, PAD, WIDTH, CLASSES = 97, 1, 16, 3


class Bag(nn.Module):
    """The mean of the embeddings of what is not padded."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = (
            nn.Embedding(WORDS, WIDTH),
            nn.Sequential(nn.Linear(WIDTH, 12), nn.ReLU(), nn.Linear(12, CLASSES)),
        )

    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        """The scores."""
        weights = mask.unsqueeze(-1).float()
        return self.head((self.words(ids) * weights).sum(1) / weights.sum(1).clamp(min=1e-9))


class EmbeddingBag(nn.Module):
    """The sum of embeddings, by the module that PyTorch has for it."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.EmbeddingBag(WORDS, WIDTH, mode="sum"), nn.Linear(WIDTH, CLASSES)

    def forward(self, ids: Tensor) -> Any:
        """The scores."""
        return self.head(self.words(ids))


class TextCnn(nn.Module):
    """Convolutions of three widths over embeddings, their maxima over time (Kim 2014)."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.convs = nn.ModuleList(nn.Conv1d(WIDTH, 8, width, padding=width // 2) for width in (2, 3, 4))
        self.head = nn.Linear(24, CLASSES)

    def forward(self, ids: Tensor) -> Any:
        """The scores."""
        x = self.words(ids).transpose(1, 2)
        return self.head(torch.cat([functional.relu(conv(x)).max(2).values for conv in self.convs], 1))


class Bytes(nn.Module):
    """Dilated convolutions over the bytes of a file."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.first = nn.Embedding(256, WIDTH), nn.Conv1d(WIDTH, 16, 3, padding=1)
        self.second, self.head = nn.Conv1d(16, 16, 3, padding=2, dilation=2), nn.Linear(16, CLASSES)

    def forward(self, ids: Tensor) -> Any:
        """The scores."""
        x = self.words(ids.long()).transpose(1, 2)
        return self.head(functional.gelu(self.second(functional.relu(self.first(x)))).mean(2))


class Encoder(nn.Module):
    """nn.TransformerEncoder behind learned positions, what is padded masked, and the mean over the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(WORDS, WIDTH), nn.Parameter(torch.randn(1, 64, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 24, batch_first=True, activation="gelu", norm_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(WIDTH, CLASSES)

    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        """The scores."""
        x = self.words(ids) + self.positions[:, : ids.shape[1]]
        x, weights = self.encoder(x, src_key_padding_mask=mask == 0), mask.unsqueeze(-1).float()
        return self.head((x * weights).sum(1) / weights.sum(1).clamp(min=1.0))


class Pooled(nn.Module):
    """Attention pooling: a softmax over time of a learned score weighs the hidden states."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.hidden = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, 12)
        self.score, self.head = nn.Linear(12, 1), nn.Linear(12, CLASSES)

    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        """The scores."""
        h = torch.tanh(self.hidden(self.words(ids)))
        weights = self.score(h).squeeze(-1).masked_fill(mask == 0, -1e9).softmax(1)
        return self.head((weights.unsqueeze(-1) * h).sum(1))


class Relative(nn.Module):
    """Attention with a learned bias for each distance, and rotated, grouped queries and keys, written out."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.bias = nn.Embedding(WORDS, WIDTH), nn.Embedding(9, 4)
        self.q, self.kv = nn.Linear(WIDTH, 32), nn.Linear(WIDTH, 32)
        self.out, self.head, self.scale = nn.Linear(32, WIDTH), nn.Linear(WIDTH, CLASSES), nn.Parameter(torch.ones(WIDTH))

    def rotated(self, x: Tensor) -> Tensor:
        """Pairs of entries, rotated by their position (Su et al. 2021)."""
        at = torch.arange(x.shape[2], device=x.device).float()
        angle = at[:, None] * (10000.0 ** (-torch.arange(0, 8, 2).float() / 8))[None]
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1).flatten(-2)

    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        """The scores."""
        x = self.words(ids)
        batch, length = ids.shape
        q = self.q(x).view(batch, length, 4, 8).transpose(1, 2)
        k, v = self.kv(x).view(batch, length, 2, 2, 8).permute(2, 0, 3, 1, 4)
        q, k, v = self.rotated(q), self.rotated(k).repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        at = torch.arange(length, device=ids.device)
        bias = self.bias((at[None] - at[:, None]).clamp(-4, 4) + 4).permute(2, 0, 1)
        scores = q @ k.transpose(2, 3) / math.sqrt(8) + bias[None]
        p = scores.masked_fill(mask[:, None, None] == 0, -math.inf).softmax(-1)
        x = x + self.out((p @ v).transpose(1, 2).reshape(batch, length, 32))
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.scale
        weights = mask.unsqueeze(-1).float()
        return self.head((x * weights).sum(1) / weights.sum(1).clamp(min=1.0))


class Magika(nn.Module):
    """Bytes as one-hot vectors of 257, dense layers, and norms by x·x, as a JAX model exports them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(257, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)
        self.scale, self.shift = nn.Parameter(torch.ones(WIDTH)), nn.Parameter(torch.zeros(WIDTH))

    def normed(self, x: Tensor) -> Tensor:
        """Mean and variance by E x and E x²."""
        mean, square = x.mean(-1, keepdim=True), (x * x).mean(-1, keepdim=True)
        factor = ((square - mean * mean).clamp(min=0.0) + 1e-6).rsqrt() * self.scale
        return (x - mean) * factor + self.shift

    def forward(self, ids: Tensor) -> Any:
        """The scores."""
        hot = (ids.int().unsqueeze(-1) == torch.arange(257, dtype=torch.int32)).float()
        h = functional.gelu(self.first(hot), approximate="tanh")
        return self.head(self.normed(functional.gelu(self.second(h))).amax(1))


class Encoded(nn.Module):
    """The mean of what the encoder of an encoder-decoder gives."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(32, CLASSES)

    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        """The scores."""
        x, weights = self.encoder(ids, attention_mask=mask).last_hidden_state, mask.unsqueeze(-1).float()
        return self.head((x * weights).sum(1) / weights.sum(1).clamp(min=1.0))
