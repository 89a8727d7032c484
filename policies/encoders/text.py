"""Sentence embeddings of instructions and names: all-MiniLM-L6-v2, mean-pooled and normalised."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

from shopfloor.core import MissingDependencyError, install_command
from shopfloor.policies.encoders.weights import weight_file

MODEL = "all-MiniLM-L6-v2"
TEXT_WIDTH = 384
MAX_TOKENS = 128


@cache
def _encoder() -> tuple[Any, Any]:
    try:
        from tokenizers import Tokenizer
        from transformers import BertConfig, BertModel
    except ImportError as error:
        raise MissingDependencyError(
            "Embedding a new text needs transformers and tokenizers. Install them with "
            f"{install_command('policies')}."
        ) from error

    from safetensors.torch import load_file

    tokenizer = Tokenizer.from_file(str(weight_file(MODEL, "model/tokenizer.json")))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.no_padding()

    # Shape of the published model (config.json of the upstream release); dropout is off in eval().
    shape = BertConfig(
        hidden_size=TEXT_WIDTH,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        vocab_size=30522,
    )
    # The first weights are replaced; drawing them must not move the caller's generator.
    with torch.random.fork_rng(devices=[]):
        model = BertModel(shape, add_pooling_layer=False)

    tensors = load_file(weight_file(MODEL, "model/model.safetensors"))
    missing, _unexpected = model.load_state_dict(tensors, strict=False)
    if missing:
        raise MissingDependencyError(
            f"MiniLM weights lack {missing[:3]}: this transformers version is not supported."
        )

    return tokenizer, model.train(mode=False)


def embed(texts: Sequence[str]) -> torch.Tensor:
    """Embed texts one by one, so a text's embedding never depends on its neighbours.

    Args:
        texts: any sentences; more than 128 tokens are cut.

    Returns:
        Shape (len(texts), 384), float32, unit length.
    """
    return (
        torch.stack([_embed_one(text) for text in texts]) if texts else torch.zeros(0, TEXT_WIDTH)
    )


@cache
def _embed_one(text: str) -> torch.Tensor:
    tokenizer, model = _encoder()
    with torch.inference_mode():
        ids = torch.tensor([tokenizer.encode(text).ids])
        hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        return torch.nn.functional.normalize(hidden.mean(dim=1), dim=-1)[0].clone()
