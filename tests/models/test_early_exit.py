"""Leaving a transformer early: equal to the states of the whole one, and really without the later blocks."""

import pytest
import torch

from workbench.models import TextEncoder, Tokens, text_encoder
from workbench.models.early_exit import early_exit, layer_features


def some(pooling="cls", layers=3):
    torch.manual_seed(0)
    mask = torch.ones(4, 7, dtype=torch.int64)
    mask[1, 4:] = 0
    return text_encoder(50, layers=layers, width=16, heads=2, pooling=pooling).eval(), Tokens(
        torch.randint(5, 50, (4, 7)) * mask, mask
    )


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_exits_are_the_states_of_the_whole(pooling):
    """Exit n gives what block n of the full forward pass gives; the last exit is the encoder itself."""
    encoder, texts = some(pooling)
    states = layer_features(encoder, texts)
    assert len(states) == 3
    torch.testing.assert_close(states[-1], encoder(texts))
    for n, state in enumerate(states, 1):
        torch.testing.assert_close(early_exit(encoder, n)(texts), state)
    assert (states[0] - states[1]).abs().max() > 1e-3


def test_a_shorter_model_loaded_with_the_weights_agrees():
    """Oracle: transformers' own model with fewer layers, given the weights of the first blocks."""
    encoder, texts = some()
    short = text_encoder(50, layers=2, width=16, heads=2, pooling="cls").eval()
    weights = {k: v for k, v in encoder.state_dict().items() if ".layer.2." not in k}
    assert len(weights) < len(encoder.state_dict())
    short.load_state_dict(weights)
    torch.testing.assert_close(early_exit(encoder, 2)(texts), short(texts))


def test_later_blocks_are_not_computed():
    """A block that would raise does no harm to an earlier exit, and the whole encoder still has it."""
    encoder, texts = some()

    def fail(*_):
        raise RuntimeError("computed")

    encoder.backbone.encoder.layer[2].register_forward_pre_hook(fail)
    early_exit(encoder, 2)(texts)
    for whole in (encoder, early_exit(encoder, 3)):
        with pytest.raises(RuntimeError, match="computed"):
            whole(texts)
    assert len(encoder.backbone.encoder.layer) == 3 == encoder.backbone.config.num_hidden_layers


def test_weights_are_shared():
    """Training the whole trains its exits; an exit has fewer parameters, none of its own."""
    encoder, texts = some()
    short = early_exit(encoder, 1)
    whole = {id(p) for p in encoder.parameters()}
    assert {id(p) for p in short.parameters()} < whole
    before = short(texts)
    with torch.no_grad():
        encoder.backbone.encoder.layer[0].output.dense.weight.normal_()
    assert (short(texts) - before).abs().max() > 0.1


def test_gradients_reach_the_blocks_that_were_run():
    """A loss on the features after block 1 trains the embeddings and block 1 only."""
    encoder, texts = some()
    layer_features(encoder, texts)[0].sum().backward()
    blocks = encoder.backbone.encoder.layer
    assert blocks[0].output.dense.weight.grad is not None and blocks[1].output.dense.weight.grad is None


def test_bad_input():
    """Blocks that do not exist, the pooler, texts that are no tokens."""
    encoder, texts = some()
    for layers in (0, 4, True, 1.5):
        with pytest.raises(ValueError, match="layers must be a whole number from 1 to the 3 blocks"):
            early_exit(encoder, layers)
    pooled = text_encoder(50, layers=2, width=16, heads=2, pooling="pooler")
    for call in (lambda: early_exit(pooled, 1), lambda: layer_features(pooled, texts)):
        with pytest.raises(ValueError, match="'pooler'"):
            call()
    with pytest.raises(TypeError, match="texts must be Tokens"):
        layer_features(encoder, ["a text"])
    assert isinstance(early_exit(encoder, 1), TextEncoder)
