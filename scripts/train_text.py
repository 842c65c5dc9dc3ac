"""Train the classifier of dictionary definitions of models/ and write it as ONNX, with tokenizer, samples and tables.

    apt-get install wordnet-base=1:3.0-37
    python scripts/train_text.py [-o models]

What does a definition define: an animal, an artifact, a part of the body, food, a person or a plant? Every seed is fixed
and one thread computes, so a second run on the same machine writes the same bytes.
"""

import argparse
import csv
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import splice
import torch
from glosses import CLASSES, WORDNET, Definition, definitions
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch.nn import functional
from train_models import MODELS, SEED, Card, export_dynamo, tables

SAMPLES = 50  # definitions of each class in the file of test samples
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAD, _, CLS, SEP, MASK = range(len(SPECIAL))
VOCABULARY = 3000
LONGEST = 48  # tokens; what is longer is cut off
WIDTH, HEADS, BLOCKS = 32, 4, 2
MASKED = 0.15  # of the tokens in training, so that a definition with words deleted is nothing new
PACKAGES = ("torch", "tokenizers", "onnx", "onnxscript", "numpy")


# ---------------------------------------------------------------- data


def tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Pieces of words in lower case, ▁ in front of a word; [CLS] before all, [SEP] behind; the vocabulary of `texts`.

    Byte-pair encoding, since the library's word pieces come in another order each time.
    """
    made = Tokenizer(models.BPE(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL, show_progress=False)
    made.train_from_iterator(texts, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    made.decoder = decoders.Metaspace()
    made.enable_truncation(LONGEST)
    made.enable_padding(pad_id=PAD, pad_token="[PAD]")
    return made


@dataclass(frozen=True)
class Texts:
    """Ids of tokens and classes, int64 [n, tokens] and [n]."""

    ids: Tensor
    label: Tensor

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Ids, the mask of what is no padding, and classes, as long as the longest text of a batch."""
        for index in order.split(size):
            mask = self.ids[index] != PAD
            longest = int(mask.sum(1).max())
            yield self.ids[index, :longest], mask[:, :longest].long(), self.label[index]


def encoded(texts: Sequence[Definition], words: Tokenizer) -> Texts:
    """Texts as what a network takes."""
    ids = [encoding.ids for encoding in words.encode_batch([entry.text for entry in texts])]
    return Texts(torch.tensor(ids), torch.tensor([CLASSES.index(entry.label) for entry in texts]))


# ---------------------------------------------------------------- network


class Block(nn.Module):
    """Attention and two dense layers with a GELU between, each with a skip and a LayerNorm behind, as in BERT."""

    def __init__(self) -> None:
        super().__init__()
        self.inward, self.outward = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.dense = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.first, self.second, self.drop = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), nn.Dropout(0.1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[batch, tokens, WIDTH], seen from every token where `mask` is true."""
        batch, tokens, _ = x.shape
        query, key, value = self.inward(x).view(batch, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = self.first(x + self.drop(self.outward(seen.transpose(1, 2).reshape(batch, tokens, WIDTH))))
        return self.second(x + self.drop(self.dense(x)))


class Transformer(nn.Module):
    """Words and positions, `BLOCKS` blocks, a dense layer on the first token."""

    def __init__(self) -> None:
        super().__init__()
        self.word, self.position = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LONGEST, WIDTH)
        nn.init.normal_(self.word.weight, std=0.1)
        nn.init.normal_(self.position.weight, std=0.02)
        self.norm, self.drop = nn.LayerNorm(WIDTH), nn.Dropout(0.2)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.head = nn.Linear(WIDTH, len(CLASSES))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits [batch, classes] of ids [batch, tokens] and of a mask that is 1 where there are words."""
        x = self.drop(self.norm(self.word(ids) + self.position.weight[: ids.shape[1]]))
        for block in self.blocks:
            x = block(x, mask.bool()[:, None, None])
        return self.head(x[:, 0])


def fit(train: Texts, epochs: int = 8, size: int = 64) -> nn.Module:
    """Cross-entropy, AdamW, a one-cycle rate; of the tokens `MASKED` are masked, others each time."""
    torch.manual_seed(SEED)
    model = Transformer()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    steps = epochs * -(-len(train.label) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps, pct_start=0.1)
    for _ in range(epochs):
        for ids, mask, label in train.batches(torch.randperm(len(train.label)), size):
            masked = (torch.rand(ids.shape) < MASKED) & (ids >= len(SPECIAL))
            optimizer.zero_grad()
            functional.cross_entropy(model(ids.masked_fill(masked, MASK), mask), label).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


# ---------------------------------------------------------------- what is written


def write_model(model: nn.Module, path: Path) -> None:
    """As ONNX, any number of texts and of tokens, with the names of the classes."""
    examples = {"input_ids": np.full((2, 5), CLS), "attention_mask": np.ones((2, 5), np.int64)}
    export_dynamo(model, examples, path, "logits", axes=("batch", "tokens"))
    proto = onnx.load(path)
    onnx.helper.set_model_props(proto, {"labels": json.dumps(CLASSES)})
    onnx.save(proto, path)


def write_samples(test: list[Definition], path: Path) -> None:
    """`SAMPLES` definitions of each class, drawn at random, sorted by class."""
    rng = np.random.default_rng(SEED)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("text", "label"))
        for label in CLASSES:
            texts = [entry.text for entry in test if entry.label == label]
            rows.writerows((texts[i], label) for i in sorted(rng.choice(len(texts), SAMPLES, replace=False)))


def measure(path: Path, test: Texts) -> float:
    """Accuracy of the ONNX file."""
    onnx.checker.check_model(path, full_check=True)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    right = 0
    for ids, mask, label in test.batches(torch.arange(len(test.label)), 256):
        [logits] = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
        right += int((logits.argmax(1) == label.numpy()).sum())
    return right / len(test.label)


def counted(train: list[Definition], test: list[Definition]) -> str:
    """How many definitions of each class there are, and what the most frequent one alone would score."""
    numbers = [Counter(entry.label for entry in entries) for entries in (train, test)]
    rows = [[label, *(f"{number[label]:,}" for number in numbers)] for label in CLASSES]
    most = numbers[0].most_common(1)[0][0]
    share = numbers[1][most] / len(test)
    total = ["all", *(f"{len(entries):,}" for entries in (train, test))]
    table = splice.table(["class", "train", "test"], [*rows, total])
    return f"{table}\n\nAlways `{most}` would be right in {share:.2%} of the test."


def make(folder: Path, wordnet: Path) -> None:
    """Train, export and measure; write tokenizer, samples and the README's tables."""
    train, test = definitions(wordnet)
    words = tokenizer([entry.text for entry in train])
    path = folder / "definitions.onnx"
    write_model(fit(encoded(train, words)), path)
    words.save(str(folder / "definitions_tokenizer.json"), pretty=False)
    write_samples(test, folder / "definitions_test.csv")
    accuracy = measure(path, encoded(test, words))
    print(f"{path.name:20} {accuracy:7.2%}")
    what = f"transformer with {BLOCKS} blocks: what does a dictionary definition define?"
    card = Card(path, what, f"PyTorch {version('torch')}, `dynamo=True`", accuracy, len(test))
    names = ("definitions_tokenizer.json", "definitions_test.csv", "definitions_samples.csv")
    text = tables([card], [path, *(folder / name for name in names)], Path(__file__).name, PACKAGES)
    splice.splice(folder / "README.md", "text", f"{text}\n\n{counted(train, test)}")


def main() -> None:
    """Read the command line and make the model deterministically."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=MODELS, help="folder whose README.md is updated")
    parser.add_argument("--wordnet", type=Path, default=WORDNET, help="folder of WordNet's data.noun")
    asked = parser.parse_args()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    make(asked.output, asked.wordnet)


if __name__ == "__main__":
    main()
