"""`embed` runs a model over many inputs and leaves it as it was; importing the package stays cheap."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from workbench.models import ConvEncoder, embed, evaluating


def test_embed_equals_one_forward_pass_in_evaluation_mode():
    """Batches that do not divide n, down to single rows, give what one evaluation-mode pass gives."""
    torch.manual_seed(0)
    encoder, images = ConvEncoder(widths=(4, 8)), torch.rand(7, 3, 8, 8)
    encoder(images)  # moves the running statistics away from their start
    expected = encoder.eval()(images).detach()
    encoder.train()
    for batch_size in (1, 3, 7, 100):
        torch.testing.assert_close(embed(encoder, images, batch_size=batch_size), expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(encoder(images), expected, atol=1e-3), "vacuous: training mode gives the same"


def test_embed_has_no_gradient_and_changes_no_state():
    """Running statistics, modes and gradients are untouched."""
    torch.manual_seed(0)
    encoder = ConvEncoder(widths=(4, 8))
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    assert not embed(encoder, torch.rand(5, 3, 8, 8)).requires_grad
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert encoder.training and all(p.grad is None for p in encoder.parameters())


def test_every_submodule_gets_its_own_mode_back_even_after_an_error():
    """A submodule put into evaluation mode on purpose stays there; the rest returns to training."""
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Linear(2, 2)))
    model[1].eval()
    modes = [m.training for m in model.modules()]
    with evaluating(model):
        assert not any(m.training for m in model.modules()) and not torch.is_grad_enabled()
    assert [m.training for m in model.modules()] == modes and torch.is_grad_enabled()
    with pytest.raises(RuntimeError), evaluating(model):
        raise RuntimeError
    assert [m.training for m in model.modules()] == modes and torch.is_grad_enabled()


def test_method_caches_tokens():
    """Another method of the encoder can be run in batches."""
    encoder, images = ConvEncoder(widths=(4, 8)).eval(), torch.rand(5, 3, 16, 16)
    torch.testing.assert_close(embed(encoder, images, batch_size=2, method="tokens"), encoder.tokens(images))


@pytest.mark.parametrize(
    ("encoder", "inputs", "options", "match"),
    [
        (nn.Flatten(), torch.ones(0, 3), {}, "inputs must hold at least one row"),
        (nn.Flatten(), torch.ones(2, 3), {"batch_size": 0}, "batch_size must be at least 1"),
        (nn.Flatten(), torch.tensor([[1.0], [torch.nan], [torch.inf]]), {"batch_size": 1}, r"2 of 3 rows .*row 1"),
    ],
)
def test_bad_input(encoder, inputs, options, match):
    """Each mistake is named."""
    with pytest.raises(ValueError, match=match):
        embed(encoder, inputs, **options)


def test_import_loads_no_transformers():
    """Building and running the small encoders, heads and the loop pays nothing for transformers (5 s) or plotting."""
    code = (
        "import sys, torch, workbench.training as t, workbench.models as m; m.vision_encoder('conv', size=8)(torch.rand(2, 3, 8, 8));"
        "print([n for n in ('transformers', 'tokenizers', 'matplotlib', 'sklearn', 'pandas') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
