"""Text: training a small tokenizer, turning texts into tensors, and encoders on transformers' BERT configuration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench.checks import describe, require_tensor
from workbench.errors import UnknownNameError
from workbench.models.config import build_config

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TOKENIZER_KINDS = ("wordpiece", "bpe")
POOLINGS = ("mean", "cls", "last", "pooler")


@dataclass(frozen=True, eq=False)
class Tokens:
    """A batch of token sequences; `tokens[rows]`, `len(tokens)` and `tokens.to(device)` work as for a tensor of rows.

    Attributes:
        ids: (n, t) int64 token ids, padded.
        mask: (n, t) int64, 1 for a token and 0 for padding.
    """

    ids: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        ids, mask = require_tensor(self.ids, "ids"), require_tensor(self.mask, "mask")
        if ids.ndim != 2 or ids.dtype != torch.int64:
            raise ValueError(f"ids must be int64 of shape (n, t), got {describe(ids)}")
        if mask.shape != ids.shape:
            raise ValueError(f"mask must have the shape of ids {tuple(ids.shape)}, got {describe(mask)}")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Tensor | slice | Sequence[int]) -> Tokens:
        return Tokens(self.ids[rows], self.mask[rows])

    def to(self, device: str | torch.device) -> Tokens:
        """The same tokens on another device."""
        return Tokens(self.ids.to(device), self.mask.to(device))


def require_tokens(texts: object, vocab_size: int, max_length: int | None) -> Tokens:
    """Return `texts`; raise unless they are Tokens that a model of this vocabulary and length can read.

    Raises:
        TypeError: not Tokens.
        ValueError: no row, too many tokens in a row, or an id outside the vocabulary.
    """
    if not isinstance(texts, Tokens):
        raise TypeError(f"texts must be Tokens, got {describe(texts)}; use encode_texts(tokenizer, texts)")
    n, length = texts.ids.shape
    if n == 0 or length == 0:
        raise ValueError(f"texts must hold at least one token in one row, got ids of shape ({n}, {length})")
    if max_length is not None and length > max_length:
        raise ValueError(
            f"texts have {length} tokens, the model takes {max_length}; use encode_texts(..., max_length={max_length})"
        )
    # Without this a wrong tokenizer is an IndexError without a name, and on CUDA the end of the process.
    low, high = (int(x) for x in texts.ids.aminmax())
    if low < 0 or high >= vocab_size:
        raise ValueError(f"texts hold token id {low if low < 0 else high}, the model knows {vocab_size} ids: another tokenizer?")
    return texts


def pool_tokens(state: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """(n, d) features from the (n, t, d) states of tokens: their 'mean', that of the first ('cls') or of the 'last' real token."""
    if pooling == "cls":
        return state[:, 0]
    if pooling == "last":
        last = (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(dim=1)
        return state[torch.arange(len(state), device=state.device), last]
    weights = mask[..., None].to(state.dtype)
    return (state * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def train_tokenizer(
    texts: Iterable[str], *, vocab_size: int = 2000, kind: str = "wordpiece", lowercase: bool = True, max_length: int = 128
) -> PreTrainedTokenizerFast:
    """A tokenizer trained on `texts`; the same texts, in the same order, give the same vocabulary on every run.

    Special tokens and ids: [PAD] 0, [UNK] 1, [CLS] 2 (also the beginning of a caption), [SEP] 3 (also its end), [MASK] 4.
    A text becomes `[CLS] ... [SEP]`. Decoding gives back the text, for 'wordpiece' in BERT's normal form (lower case and
    without accents if `lowercase`, single spaces, unseen characters as [UNK]); for 'bpe' (byte level) exactly.

    Args:
        texts: training texts.
        vocab_size: upper bound of the vocabulary, special tokens and alphabet included.
        kind: 'wordpiece' (BERT) or 'bpe' (GPT-2).
        lowercase: lower-case the texts.
        max_length: longest sequence in tokens, kept as the tokenizer's `model_max_length`.

    Raises:
        TypeError: texts that are one string or hold something else than strings.
        ValueError: no text, or a vocabulary smaller than special tokens and alphabet.
        UnknownNameError: an unknown kind.

    Source:
        Word pieces: Wu et al. 2016 as in BERT; byte-level BPE: Radford et al. 2019.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    texts = _require_texts(texts)
    if kind not in TOKENIZER_KINDS:
        raise UnknownNameError("tokenizer kind", kind, TOKENIZER_KINDS)
    common: dict[str, Any] = {"vocab_size": vocab_size, "show_progress": False}
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        # The trainer numbers '##x' pieces in the order of a randomly seeded hash map and breaks ties by these numbers: two
        # runs give two vocabularies. Handing it all pieces of one character, sorted, as reserved tokens leaves nothing open.
        firsts, rest = _alphabet(tokenizer, texts)
        reserved = [*SPECIAL_TOKENS, *firsts, *(f"##{c}" for c in rest)]
        _require_vocab(vocab_size, len(reserved))
        tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(special_tokens=reserved, **common))
        # Rebuilt from its vocabulary, since the reserved pieces would otherwise be cut out of every text as special tokens.
        tokenizer.model = models.WordPiece(tokenizer.get_vocab(), unk_token="[UNK]")
        rebuilt = Tokenizer(tokenizer.model)
        rebuilt.normalizer, rebuilt.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
        tokenizer = rebuilt
        tokenizer.decoder = decoders.WordPiece(prefix="##")
    else:
        tokenizer = Tokenizer(models.BPE())
        if lowercase:
            tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        _require_vocab(vocab_size, len(SPECIAL_TOKENS) + len(alphabet))
        trainer = trainers.BpeTrainer(special_tokens=list(SPECIAL_TOKENS), initial_alphabet=alphabet, **common)
        tokenizer.train_from_iterator(texts, trainer)
        tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    pad, unk, cls, sep, mask = SPECIAL_TOKENS
    names = {"pad_token": pad, "unk_token": unk, "cls_token": cls, "sep_token": sep, "mask_token": mask}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=cls, eos_token=sep, model_max_length=max_length, padding_side="right", **names
    )


def encode_texts(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    max_length: int | None = None,
    device: str | torch.device = "cpu",
) -> Tokens:
    """Token ids and mask of `texts`, padded to the longest one and cut at `max_length`.

    Args:
        tokenizer: a transformers tokenizer, trained here or loaded.
        texts: n strings.
        max_length: longest sequence, special tokens included; None: the tokenizer's `model_max_length`.
        device: where to put the tensors.

    Returns:
        `Tokens` with ids and mask of shape (n, t).

    Raises:
        TypeError: texts that are one string or hold something else than strings.
        ValueError: no text, or a text that gives no token at all.
    """
    texts = _require_texts(texts)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
    ids, mask = batch["input_ids"].long(), batch["attention_mask"].long()
    empty = (mask.sum(dim=1) == 0).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"{len(empty)} texts give no token (first: text {empty[0]}, {texts[empty[0]]!r}); remove them")
    return Tokens(ids, mask).to(device)


def decode_texts(tokenizer: PreTrainedTokenizerBase, ids: Tensor) -> list[str]:
    """The texts of (n, t) token ids, special tokens left out."""
    return [text.strip() for text in tokenizer.batch_decode(ids.tolist(), skip_special_tokens=True)]


class TextEncoder(nn.Module):
    """A transformers text model as an encoder: `TextEncoder(AutoModel.from_pretrained(name))` works like a small one.

    A backbone without layers is a bag of word pieces: its position embeddings are set to zero and frozen, so that the
    order of the words does not matter.

    Args:
        backbone: a model whose `last_hidden_state` is (n, t, d), such as BertModel.
        pooling: 'mean' over real tokens, special ones included; 'cls', the first token; 'last', the last real token (for
            causal models); or 'pooler', the model's own `pooler_output`.

    Shape:
        `Tokens` of shape (n, t) -> features (n, out_features); `tokens` -> (n, t, out_features).

    Raises:
        TypeError: inputs that are not `Tokens`.
        ValueError: sequences longer than the model's positions, or token ids outside its vocabulary.
        UnknownNameError: an unknown pooling.
    """

    def __init__(self, backbone: nn.Module, *, pooling: str = "mean"):
        super().__init__()
        if pooling not in POOLINGS:
            raise UnknownNameError("pooling", pooling, POOLINGS)
        config: Any = backbone.config
        self.backbone, self.pooling = backbone, pooling
        self.vocab_size, self.out_features = config.vocab_size, config.hidden_size
        self.max_length = getattr(config, "max_position_embeddings", None)
        if getattr(config, "num_hidden_layers", None) == 0:
            embeddings: Any = backbone.embeddings
            nn.init.zeros_(embeddings.position_embeddings.weight.requires_grad_(False))

    def tokens(self, texts: Tokens) -> Tensor:
        """The last hidden state of every token, (n, t, out_features)."""
        return self._run(texts).last_hidden_state

    def forward(self, texts: Tokens) -> Tensor:
        output = self._run(texts)
        state, mask = output.last_hidden_state, texts.mask
        if self.pooling == "pooler":
            if output.pooler_output is None:
                raise ValueError(f"this {type(self.backbone).__name__} has no pooler; use pooling='mean' or 'cls'")
            return output.pooler_output
        return pool_tokens(state, mask, self.pooling)

    def _run(self, texts: Tokens) -> Any:
        require_tokens(texts, self.vocab_size, self.max_length)
        return self.backbone(input_ids=texts.ids, attention_mask=texts.mask)


def text_encoder(
    vocab_size: int,
    *,
    layers: int = 2,
    width: int = 128,
    heads: int | None = None,
    max_length: int = 128,
    pooling: str = "mean",
    dropout: float = 0.0,
    **config: Any,
) -> TextEncoder:
    """A small, untrained text encoder on transformers' `BertModel`; `layers=0` is a bag of word pieces.

    Args:
        vocab_size: `len(tokenizer)`.
        layers: transformer layers; 0 gives the mean of the (layer-normalised) word-piece embeddings, blind to order.
        width: width of the model, `out_features`.
        heads: attention heads, by default width // 32.
        max_length: longest sequence in tokens.
        pooling: 'mean', 'cls', 'last' or 'pooler', see `TextEncoder`.
        dropout: of embeddings, attention and layers. BERT uses 0.1; SimCSE-like methods need it above 0.
        **config: any other field of BertConfig.

    Raises:
        UnknownNameError: an unknown pooling or field.
        ValueError: a width that is no multiple of heads.
    """
    from transformers import BertConfig, BertModel

    if layers < 0 or vocab_size < 1:
        raise ValueError(f"layers must be at least 0 and vocab_size at least 1, got {layers} and {vocab_size}")
    fields = {
        "vocab_size": vocab_size,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads or max(1, width // 32),
        "intermediate_size": 4 * width,
        "max_position_embeddings": max_length,
        "type_vocab_size": 1,
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
        "pad_token_id": 0,
    }
    backbone = BertModel(build_config(BertConfig, fields, config), add_pooling_layer=pooling == "pooler")
    return TextEncoder(backbone, pooling=pooling)


def _alphabet(tokenizer: Any, texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """Characters that begin a word, and characters that continue one, sorted."""
    firsts: set[str] = set()
    rest: set[str] = set()
    for text in texts:
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text)):
            firsts.add(word[0])
            rest.update(word[1:])
    return sorted(firsts), sorted(rest)


def _require_texts(texts: object) -> list[str]:
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise TypeError(f"texts must be a list of strings, got {describe(texts)}")
    texts = list(texts)
    wrong = next((i for i, text in enumerate(texts) if not isinstance(text, str)), None)
    if wrong is not None:
        raise TypeError(f"texts must be a list of strings, got {describe(texts[wrong])} at position {wrong}")
    if not texts:
        raise ValueError("texts must hold at least one text, got none")
    return texts


def _require_vocab(vocab_size: int, needed: int) -> None:
    if vocab_size < needed:
        raise ValueError(f"vocab_size must be at least {needed} (special tokens and single characters), got {vocab_size}")
