"""Image encoders: shapes, gradients, modes, and that transformers' weights drop in."""

import pytest
import torch
from torch.nn import functional as F

from workbench import UnknownNameError
from workbench.models import ConvEncoder, MLPEncoder, VisionEncoder, vision_encoder

SMALL = {
    "conv": {"widths": (8, 16)},
    "conv-group": {"widths": (8, 16), "norm": "group"},
    "conv-plain": {"widths": (8, 16), "norm": None},
    "mlp": {"widths": (32, 16)},
    "vit": {"width": 16, "layers": 2, "heads": 2, "patch": 8},
    "vit-mean": {"width": 16, "layers": 2, "heads": 2, "patch": 8, "pooling": "mean"},
    "resnet": {"widths": (8, 16), "depths": (1, 1)},
    "resnet-cifar": {"widths": (8, 16), "depths": (1, 1), "stem": "cifar"},
}


def build(name, **options):
    torch.manual_seed(0)
    return vision_encoder(name.split("-")[0], size=options.pop("size", 16), **SMALL[name], **options)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("conv", 16),
        ("conv-group", 16),
        ("conv-plain", 16),
        ("mlp", 1),
        ("vit", 5),
        ("vit-mean", 5),
        ("resnet", 4),
        ("resnet-cifar", 64),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(name, count, channels):
    """Features are (n, out_features), tokens (n, t, out_features) with the t that strides and patches give."""
    encoder, images = build(name, in_channels=channels), torch.rand(5, channels, 16, 16)
    assert encoder.out_features == 16
    assert encoder(images).shape == (5, 16)
    assert encoder.tokens(images).shape == (5, count, 16)


@pytest.mark.parametrize("name", ["conv", "conv-group", "vit-mean", "resnet", "resnet-cifar", "mlp"])
def test_features_are_the_mean_of_the_tokens(name):
    """What a captioner reads and what a contrastive loss reads are one representation."""
    encoder, images = build(name).eval(), torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(encoder(images), encoder.tokens(images).mean(dim=1))


@pytest.mark.parametrize("name", SMALL)
def test_gradients_reach_every_parameter(name):
    """No parameter is idle; only the key bias of attention may have a zero gradient (softmax ignores a shift)."""
    encoder = build(name)
    (encoder(torch.rand(6, 3, 16, 16)) * torch.randn(6, 16)).sum().backward()
    for parameter_name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().max() > 0 or "key.bias" in parameter_name or "k_proj.bias" in parameter_name, parameter_name


@pytest.mark.parametrize("name", SMALL)
def test_evaluation_mode_treats_every_image_alone(name):
    """In evaluation mode an image has the same features alone, in a batch and twice in a row."""
    encoder, images = build(name), torch.rand(4, 3, 16, 16)
    encoder(images)
    encoder.eval()
    whole = encoder(images)
    assert torch.equal(whole, encoder(images))
    torch.testing.assert_close(torch.cat([encoder(images[i : i + 1]) for i in range(4)]), whole, rtol=1e-5, atol=1e-5)
    assert whole.std(dim=0).max() > 1e-3, "vacuous: all features equal"


def test_batch_norm_mixes_a_training_batch_and_group_norm_does_not():
    """Changing one image changes the others' features under batch norm in training mode, never under group norm."""
    images = torch.rand(4, 3, 16, 16)
    other = images.clone()
    other[0] = 0
    for norm, mixes in (("conv", True), ("conv-group", False), ("conv-plain", False)):
        encoder = build(norm)
        assert torch.allclose(encoder(images)[1:], encoder(other)[1:], atol=1e-6) is not mixes


def test_conv_encoder_equals_the_layers_written_out():
    """Convolution (stride 2, padding 1), batch norm with batch statistics, ReLU, spatial mean."""
    encoder, images = build("conv"), torch.rand(4, 3, 16, 16)
    x = images
    for conv, norm in zip(encoder.stages[0::3], encoder.stages[1::3], strict=True):
        x = F.conv2d(x, conv.weight, stride=2, padding=1)
        mean, var = x.mean(dim=(0, 2, 3), keepdim=True), x.var(dim=(0, 2, 3), keepdim=True, unbiased=False)
        x = (x - mean) / (var + norm.eps).sqrt()
        x = x.relu()
    torch.testing.assert_close(encoder(images), x.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)


def test_default_conv_encoder_has_the_known_size():
    """Kernels 9 * (3*32 + 32*64 + 64*128 + 128*128), norms 2 * (32 + 64 + 128 + 128); 2x2 tokens at 32 pixels."""
    encoder = ConvEncoder()
    assert sum(p.numel() for p in encoder.parameters()) == 9 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 128) + 2 * 352
    assert encoder.tokens(torch.rand(2, 3, 32, 32)).shape == (2, 4, 128)
    assert encoder(torch.rand(2, 3, 20, 27)).shape == (2, 128)


def test_channels_last_changes_memory_only():
    """Both memory layouts give the same features and gradients."""
    results = []
    for channels_last in (True, False):
        encoder = build("conv", channels_last=channels_last)
        features = encoder(torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)))
        features.square().sum().backward()
        results.append((features.detach(), encoder.stages[0].weight.grad.contiguous()))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-6)


def test_mlp_encoder_equals_the_layers_written_out():
    """ReLU between the layers, none after the last; pictures and flat rows alike."""
    encoder, images = build("mlp", size=4), torch.rand(3, 3, 4, 4)
    first, last = encoder.layers[0], encoder.layers[-1]
    expected = (images.flatten(1) @ first.weight.T + first.bias).relu() @ last.weight.T + last.bias
    torch.testing.assert_close(encoder(images), expected)
    torch.testing.assert_close(encoder(images.flatten(1)), expected)
    assert (expected < 0).any()


@pytest.mark.parametrize("name", ["vit", "vit-mean", "resnet"])
def test_saved_backbone_loads_without_our_package(name, tmp_path):
    """save_pretrained and AutoModel.from_pretrained give the same features back."""
    from transformers import AutoModel

    encoder, images = build(name).eval(), torch.rand(2, 3, 16, 16)
    encoder.backbone.save_pretrained(tmp_path)
    options = {"add_pooling_layer": False} if name.startswith("vit") else {}
    again = VisionEncoder(AutoModel.from_pretrained(tmp_path, **options), pooling=encoder.pooling)
    assert torch.equal(again.eval()(images), encoder(images))


def test_another_transformers_architecture_drops_in():
    """CLIP's vision tower behind VisionEncoder gives its own class token and its own pooled output."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        image_size=16, patch_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    model, images = CLIPVisionModel(config).eval(), torch.rand(3, 3, 16, 16)
    output = model(pixel_values=images)
    assert torch.equal(VisionEncoder(model, pooling="pooler").eval()(images), output.pooler_output)
    assert torch.equal(VisionEncoder(model).eval()(images), output.last_hidden_state[:, 0])
    assert torch.equal(VisionEncoder(model).eval().tokens(images), output.last_hidden_state)


def test_same_seed_same_weights():
    """Two encoders built after one seed are equal."""
    for name in SMALL:
        a, b = build(name).state_dict(), build(name).state_dict()
        assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    ("kind", "options", "error", "match"),
    [
        ("vti", {}, UnknownNameError, "did you mean 'vit'"),
        ("conv", {"norm": "bacth"}, UnknownNameError, "did you mean 'batch'"),
        ("conv", {"widths": ()}, ValueError, "widths must be one or more positive"),
        ("conv", {"width": 3}, UnknownNameError, "did you mean 'widths'"),
        ("vit", {"patch": 7}, ValueError, "multiple of patch"),
        ("vit", {"width": 100, "heads": 3}, ValueError, "multiple of heads"),
        ("vit", {"depth": 3}, UnknownNameError, "option of ViTConfig 'depth'"),
        ("vit", {"pooling": "max"}, UnknownNameError, "pooling"),
        ("resnet", {"pooling": "cls"}, ValueError, "gives a map"),
        ("resnet", {"stem": "cifra"}, UnknownNameError, "did you mean 'cifar'"),
        ("conv", {"in_channels": 0}, ValueError, "in_channels must be at least 1"),
    ],
)
def test_bad_options(kind, options, error, match):
    """Every unknown name and impossible size is refused before training starts."""
    with pytest.raises(error, match=match):
        vision_encoder(kind, size=16, **options)


@pytest.mark.parametrize("name", ["conv", "vit", "resnet", "mlp"])
@pytest.mark.parametrize(
    ("images", "error"),
    [
        (torch.zeros(2, 4, 16, 16), ValueError),  # channels
        (torch.zeros(0, 3, 16, 16), ValueError),  # empty
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), TypeError),
        ([[1.0]], TypeError),
    ],
)
def test_bad_images(name, images, error):
    """The message names `images`, for every kind alike."""
    with pytest.raises(error, match="images must"):
        build(name)(images)


def test_wrong_size():
    """A transformer and a perceptron say which size they were built for; one picture without a batch is refused."""
    for name, match in (("vit", r"\(n, 3, 16, 16\)"), ("resnet", r"\(n, 3, 16, 16\)"), ("mlp", "768 values")):
        with pytest.raises(ValueError, match=match):
            build(name)(torch.zeros(2, 3, 24, 24))
    with pytest.raises(ValueError, match=r"\(n, 3, h, w\)"):
        ConvEncoder()(torch.zeros(3, 16, 16))
    with pytest.raises(ValueError, match="widths"):
        MLPEncoder(4, widths=(3, 0))
