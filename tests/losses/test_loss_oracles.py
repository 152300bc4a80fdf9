"""The losses against other people's code: values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from workbench import losses


def random_pair(n=16, d=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    y = x + 0.8 * torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), y.requires_grad_()


def agree(ours, theirs, inputs, rtol=1e-7):
    """Same value and same gradient."""
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=rtol)
    for mine, other in zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(theirs, inputs), strict=True):
        assert other.abs().max() > 1e-4, "vacuous: the oracle has no gradient"
        torch.testing.assert_close(mine, other, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("temperature", [0.07, 1.0, 20.0])
def test_clip_and_info_nce_are_cross_entropies(temperature):
    """torch's cross entropy of the cosine matrix against its diagonal, one way and both ways."""
    x, y = random_pair()
    logits = F.normalize(x) @ F.normalize(y).T / temperature
    target = torch.arange(16)
    one_way = F.cross_entropy(logits, target)
    agree(losses.info_nce(x, y, temperature=temperature), one_way, (x, y))
    logits = F.normalize(x) @ F.normalize(y).T / temperature
    both = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    agree(losses.clip_loss(x, y, temperature=temperature), both, (x, y))


def test_queue_as_in_moco():
    """MoCo's form: logits [own key, queue], target 0."""
    x, y = random_pair()
    queue = random_pair(n=40, seed=1)[0].detach()
    q, k = F.normalize(x), F.normalize(y)
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ F.normalize(queue).T], dim=1) / 0.2
    theirs = F.cross_entropy(logits, torch.zeros(16, dtype=torch.long))
    agree(losses.info_nce(x, y, queue=queue, in_batch=False, temperature=0.2), theirs, (x, y))


@pytest.mark.parametrize("temperature", [0.07, 0.5, 5.0])
def test_nt_xent_against_pytorch_metric_learning(temperature):
    """NTXentLoss on the stacked views, labelled by row."""
    peer = pytest.importorskip("pytorch_metric_learning.losses")
    x, y = random_pair()
    theirs = peer.NTXentLoss(temperature=temperature)(torch.cat([x, y]), torch.arange(16).repeat(2))
    agree(losses.nt_xent(x, y, temperature=temperature), theirs, (x, y), rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.07, 0.5, 5.0])
def test_supcon_against_pytorch_metric_learning(temperature):
    """SupConLoss with classes of one, two, three and more rows; it too leaves out rows without a mate."""
    peer = pytest.importorskip("pytorch_metric_learning.losses")
    x, _ = random_pair()
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 3, 3, 3, 3, 4, 4, 5, 0, 1, 6])
    theirs = peer.SupConLoss(temperature=temperature)(x, labels)
    agree(losses.supcon(x, labels, temperature=temperature), theirs, (x,), rtol=1e-6)


def test_clip_against_transformers():
    """The loss inside transformers' CLIP, from its matrix of logits."""
    clip = pytest.importorskip("transformers.models.clip.modeling_clip")
    x, y = random_pair()
    logit_scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    theirs = clip.image_text_contrastive_loss(F.normalize(y) @ F.normalize(x).T * logit_scale.exp())
    agree(losses.clip_loss(x, y, logit_scale=logit_scale.exp()), theirs, (x, y, logit_scale))


def test_siglip_against_transformers():
    """A tiny SigLIP model's own loss equals ours on its embeddings and parameters."""
    siglip = pytest.importorskip("transformers.models.siglip")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = siglip.SiglipConfig(
        text_config={**sizes, "vocab_size": 20, "max_position_embeddings": 6},
        vision_config={**sizes, "image_size": 8, "patch_size": 4},
    )
    torch.manual_seed(0)
    model = siglip.SiglipModel(config).double().eval()
    model.logit_scale.data.fill_(1.5)
    model.logit_bias.data.fill_(-2.0)
    pixels, tokens = torch.randn(7, 3, 8, 8, dtype=torch.float64), torch.randint(0, 20, (7, 6))
    output = model(input_ids=tokens, pixel_values=pixels, return_loss=True)
    ours = losses.sigmoid_loss(
        output.image_embeds, output.text_embeds, logit_scale=model.logit_scale.exp(), logit_bias=model.logit_bias
    )
    parameters = (model.logit_scale, model.logit_bias)
    torch.testing.assert_close(ours, output.loss, rtol=1e-6, atol=1e-6)
    mine, theirs = torch.autograd.grad(ours, parameters, retain_graph=True), torch.autograd.grad(output.loss, parameters)
    for a, b in zip(mine, theirs, strict=True):
        assert b.abs() > 1e-3
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
