"""The dual encoder against hand-written formulas and transformers' CLIP."""

import math

import pytest
import torch
from torch.nn import functional as F

from workbench.models import ConvEncoder, DualEncoder, TextEncoder, VisionEncoder, encode_texts, text_encoder, train_tokenizer
from workbench.training import batches, fit

TEXTS = ["a red circle", "a blue star", "a green ring", "a black cross", "a white square"]


def cached(**options):
    torch.manual_seed(0)
    return DualEncoder(None, None, **{"image_features": 6, "text_features": 5, "projection_dim": 4, **options})


def features(n=7):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 6, generator=generator), torch.randn(n, 5, generator=generator)


def end_to_end():
    torch.manual_seed(0)
    tokenizer = train_tokenizer(TEXTS, vocab_size=90)
    model = DualEncoder(ConvEncoder(widths=(4, 8)), text_encoder(len(tokenizer), width=16, heads=2, layers=1), projection_dim=4)
    return model, torch.rand(5, 3, 16, 16), encode_texts(tokenizer, TEXTS)


def test_equals_the_formula_row_by_row():
    """Unit vectors of linear projections; logits are cosines divided by the temperature."""
    model, (images, texts) = cached(temperature=0.2), features()
    out = model(images, texts)
    weight_i, weight_t = model.image_projection.layers[-1].weight, model.text_projection.layers[-1].weight
    for i in range(7):
        for j in range(7):
            x, y = weight_i @ images[i], weight_t @ texts[j]
            torch.testing.assert_close(out.logits[i, j], (x @ y) / (x.norm() * y.norm()) / 0.2, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out.image_embeddings.norm(dim=1), torch.ones(7))
    assert model.temperature == pytest.approx(0.2, rel=1e-6)


def test_hidden_makes_perceptrons():
    """With `hidden` both projections have two layers of that width."""
    model = cached(hidden=9)
    assert [tuple(p.shape) for p in model.image_projection.parameters()] == [(9, 6), (9,), (4, 9), (4,)]


def test_transformers_clip_drops_in():
    """CLIP's towers and projections inside DualEncoder give CLIP's logits, and CLIP's loss from them."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    tokenizer = train_tokenizer(TEXTS, vocab_size=90)
    text = {**small, "vocab_size": len(tokenizer), "max_position_embeddings": 16, "eos_token_id": 3, "pad_token_id": 0}
    config = CLIPConfig(text_config=text, vision_config={**small, "image_size": 16, "patch_size": 8}, projection_dim=4)
    clip = CLIPModel(config).eval()
    clip.logit_scale.data.fill_(1.5)
    images, texts = torch.rand(5, 3, 16, 16), encode_texts(tokenizer, TEXTS)
    expected = clip(input_ids=texts.ids, attention_mask=texts.mask, pixel_values=images, return_loss=True)

    ours = DualEncoder(
        VisionEncoder(clip.vision_model, pooling="pooler"), TextEncoder(clip.text_model, pooling="pooler"), projection_dim=4
    ).eval()
    ours.image_projection.layers[0].weight.data = clip.visual_projection.weight.data
    ours.text_projection.layers[0].weight.data = clip.text_projection.weight.data
    ours.log_scale.data.fill_(1.5)
    out = ours(images, texts)
    torch.testing.assert_close(out.logits, expected.logits_per_image, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out.image_embeddings, expected.image_embeds, rtol=1e-4, atol=1e-5)
    target = torch.arange(5)
    loss = (F.cross_entropy(out.logits, target) + F.cross_entropy(out.logits.T, target)) / 2
    torch.testing.assert_close(loss, expected.loss, rtol=1e-4, atol=1e-5)
    assert out.logits.std() > 0.1, "vacuous: all logits equal"


def test_gradients_reach_every_parameter():
    """End to end, images and texts and temperature are trained (but for the key bias, which softmax ignores)."""
    model, images, texts = end_to_end()
    F.cross_entropy(model(images, texts).logits, torch.arange(5)).backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert [n for n in idle if "key.bias" not in n] == []


def test_learned_scale_is_bounded_at_100_and_can_come_back():
    """Beyond the bound the scale is exactly the bound, and its gradient is not cut off there."""
    model, (images, texts) = cached(), features()
    with torch.no_grad():
        model.log_scale.fill_(9.0)
    out = model(images, texts)
    assert float(out.logit_scale.detach()) == pytest.approx(100, rel=1e-5)
    F.cross_entropy(out.logits, torch.arange(7)).backward()
    assert model.log_scale.grad > 0  # random pairs: the loss wants a smaller scale
    torch.optim.SGD([model.log_scale], lr=0.1).step()
    assert float(model.logit_scale.detach()) < 99.9


def test_fixed_temperature_is_not_a_parameter():
    """It stays as given, even below 0.01, takes no gradient and is saved with the model."""
    model = cached(temperature=0.004, learn_temperature=False)
    assert "log_scale" not in dict(model.named_parameters()) and "log_scale" in model.state_dict()
    assert float(model.logit_scale.detach()) == pytest.approx(250, rel=1e-5)
    assert not model(*features()).logit_scale.requires_grad


def test_embedding_in_batches_equals_the_forward_pass():
    """embed_images and embed_texts: evaluation mode, no gradient, any batch size, the mode restored."""
    model, images, texts = end_to_end()
    out = model.eval()(images, texts)
    model.train()
    for size in (1, 2, 5):
        torch.testing.assert_close(
            model.embed_images(images, batch_size=size), out.image_embeddings.detach(), rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(model.embed_texts(texts, batch_size=size), out.text_embeddings.detach(), rtol=1e-4, atol=1e-5)
    assert model.training and not model.embed_images(images).requires_grad


def test_learns_paired_features():
    """Two linear views of one hidden vector: held-out retrieval goes from chance to (nearly) always right."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(600, 4, generator=generator)
    images = hidden @ torch.randn(4, 6, generator=generator)
    texts = hidden @ torch.randn(4, 5, generator=generator)

    def recall(model):
        logits = model.embed_images(images[500:]) @ model.embed_texts(texts[500:]).T
        return float((logits.argmax(1) == torch.arange(100)).float().mean())

    def loss(rows):
        logits = model(images[rows], texts[rows]).logits
        target = torch.arange(len(rows))
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    model = cached()
    assert recall(model) < 0.1
    fit(model, loss, batches(500, 100, seed=0), steps=300, lr=1e-2, title=None)
    assert recall(model) > 0.9
    assert model.temperature < 0.07


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: DualEncoder(None, None, text_features=3), "image_features must be the width"),
        (lambda: DualEncoder(None, torch.nn.Identity(), image_features=3), "text_features must be the width"),
        (lambda: cached(temperature=0.0), "temperature must be a positive"),
        (lambda: cached(temperature=math.nan), "temperature must be a positive"),
        (lambda: cached(temperature=0.005), "learn_temperature=False"),
        (lambda: cached(projection_dim=0), "at least 1"),
        (lambda: cached()(features()[0], features()[1][:3]), "paired row by row, got 7 and 3"),
        (lambda: cached()(torch.zeros(7, 6), features()[1]), "image embeddings has 7 of 7 rows of zeros"),
        (lambda: cached()(features()[0] * math.nan, features()[1]), "image embeddings has 7 of 7 rows with NaN"),
        (lambda: cached()(torch.ones(7, 5), features()[1]), r"shape \(n, 6\)"),
        (lambda: cached().embed_texts(torch.zeros(0, 5)), "at least one row"),
    ],
)
def test_bad_input(call, match):
    """Each mistake is named; nothing that is not a unit vector leaves."""
    with pytest.raises(ValueError, match=match):
        call()
