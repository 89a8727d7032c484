"""Sentence embeddings: those of the published model, independent of their neighbours."""

from __future__ import annotations

import builtins

import pytest
import torch

from shopfloor.core import MissingDependencyError
from shopfloor.policies.encoders import text


def test_opposite_instructions_are_close_before_projection():
    """The published weights put these two at 0.905: why the policy learns a projection."""
    one, other = text.embed(["open the drawer", "close the drawer"])
    assert float(one @ other) == pytest.approx(0.905, abs=0.005)


def test_close_meanings_are_closer_than_distant_ones():
    asked, paraphrase, other = text.embed(
        ["Put the red cube into the tray.", "Place the red block in the tray.", "Open the door."]
    )
    assert float(asked @ paraphrase) > 0.8
    assert float(asked @ other) < 0.4


def test_embeddings_have_unit_length_and_do_not_depend_on_neighbours():
    alone = text.embed(["red cube"])[0]
    together = text.embed(["a much longer sentence than the other one", "red cube"])[1]
    assert torch.equal(alone, together)
    assert float(alone.norm()) == pytest.approx(1.0, abs=1e-5)
    assert together.dtype == torch.float32


@pytest.mark.parametrize("texts", [[], ["one"], ["one", "two", "one"]])
def test_a_row_a_text_in_order(texts):
    rows = text.embed(texts)
    assert rows.shape == (len(texts), text.TEXT_WIDTH)
    for row, words in zip(rows, texts, strict=True):
        assert torch.equal(row, text.embed([words])[0])


def test_a_text_beyond_the_limit_is_cut():
    long, longer = " ".join(["cube"] * 200), " ".join(["cube"] * 300)
    one, other = text.embed([long, longer])
    assert torch.equal(one, other)
    assert not torch.equal(one, text.embed([" ".join(["cube"] * 100)])[0])


def test_the_empty_text_has_an_embedding():
    assert text.embed([""]).isfinite().all()


def test_a_caller_may_change_what_it_got():
    text.embed(["blue bar"]).zero_()
    assert float(text.embed(["blue bar"]).norm()) == pytest.approx(1.0, abs=1e-5)


def test_without_the_library_a_new_text_names_the_command(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "transformers":
            raise ImportError(name)
        return real(name, *rest)

    known = text.embed(["red cube"])
    text._encoder.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        MissingDependencyError, match=r"needs transformers and tokenizers.*policies"
    ):
        text.embed(["a text that no test has embedded"])
    assert torch.equal(text.embed(["red cube"]), known)


def test_weights_that_do_not_fit_the_library_are_reported(monkeypatch, tmp_path):
    from safetensors import torch as files

    text._encoder.cache_clear()
    real = files.load_file
    monkeypatch.setattr(
        files, "load_file", lambda path: {k: v for k, v in real(path).items() if "word" not in k}
    )
    with pytest.raises(
        MissingDependencyError, match=r"lack \['embeddings.word_embeddings.weight'\]"
    ):
        text.embed(["another text that no test has embedded"])


def test_loading_the_encoder_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state().clone()
    text._encoder.cache_clear()
    text.embed(["a third text that no test has embedded"])
    assert torch.equal(torch.random.get_rng_state(), before)
