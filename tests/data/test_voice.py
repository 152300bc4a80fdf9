"""Voice: counts, samples that are exactly the recorded ones, splits by prompt, spectrograms with known values."""

import hashlib
import re
from functools import cache

import numpy as np
import pytest
import torch

from workbench.data.voice import RATE, TOPICS, load_voice, log_mel
from workbench.errors import UnknownNameError

SPLITS = ("train", "val", "test")
PROMPTS, COUNTS = 147, (101, 17, 29)
TOPIC_COUNTS = dict(zip(TOPICS, (28, 26, 26, 7, 16, 16, 15, 13), strict=True))


@cache
def whole():
    """All rows of all languages."""
    return load_voice("all")


def test_counts():
    """Every prompt in five languages, in one split; every topic of more than ten prompts is in every split."""
    ds = whole()
    assert len(ds) == 5 * PROMPTS and ds.extras["waveform"].shape == (5 * PROMPTS, 3 * RATE)
    assert ds.extras["waveform"].dtype == torch.float32 and len(set(ds.extras["prompt_name"])) == PROMPTS
    counts = (ds.labels.bincount() // 5).tolist()
    assert dict(zip(ds.label_names, counts, strict=True)) == TOPIC_COUNTS
    rows = {split: load_voice(split, language="it") for split in SPLITS}
    assert tuple(len(rows[s]) for s in SPLITS) == COUNTS
    assert torch.equal(torch.cat([rows[s].factors["prompt"] for s in SPLITS]).sort().values, torch.arange(PROMPTS))
    topics = torch.stack([rows[s].labels.bincount(minlength=len(TOPICS)) for s in SPLITS])
    assert (topics[:, topics.sum(0) > 10] > 0).all()


def test_no_prompt_wording_or_recording_is_in_two_splits():
    """Name, caption and sound belong to one split, over all languages."""
    owner, repeats = {}, 0
    for split in SPLITS:
        ds = load_voice(split)
        for name, caption, wave in zip(ds.extras["prompt_name"], ds.captions, ds.extras["waveform"], strict=True):
            sound = hashlib.sha256(wave.numpy().tobytes()).hexdigest()
            for key in (name, re.sub(r"\W|\d+$", "", caption.lower()), sound):
                repeats += key in owner
                assert owner.setdefault(key, split) == split, key
    assert repeats > 1000


def test_rows_are_prompt_by_prompt():
    """Five rows in a row are one prompt in the five languages; asking for some gives the same sounds."""
    ds = whole()
    assert torch.equal(ds.factors["prompt"].view(-1, 5), ds.factors["prompt"].view(-1, 5)[:, :1].expand(-1, 5))
    assert torch.equal(ds.factors["language"].view(-1, 5), torch.arange(5).expand(PROMPTS, 5))
    some = load_voice("all", language=("ru", "en"), seconds=1)
    expected = ds.extras["waveform"].view(-1, 5, 3 * RATE)[:, [4, 0], :RATE].reshape(-1, RATE)
    assert torch.equal(some.extras["waveform"], expected)
    assert torch.equal(some.factors["samples"].view(-1, 2), ds.factors["samples"].view(-1, 5)[:, [4, 0]].clamp(max=RATE))


def test_sounds_are_speech():
    """Each recording is audible, not clipped, centred on zero, and zero after its end."""
    ds = whole()
    wave, n = ds.extras["waveform"], ds.factors["samples"]
    assert wave.abs().amax(1).min() > 0.02 and wave.abs().max() <= 1
    assert (wave.sum(1) / n).abs().max() < 0.01 and n.min() > 0.2 * RATE and n.max() <= 3 * RATE
    assert not wave[torch.arange(wave.shape[1]) >= n[:, None]].any()
    # Neighbouring samples of speech are alike; a wrong byte order or a lost carry would make noise.
    step = (wave[:, 1:] - wave[:, :-1]).square().sum(1) / wave.square().sum(1)
    assert step.median() < 0.7


def test_a_speaker_is_recognised():
    """The mean spectrum tells the five speakers apart on unseen prompts: sounds belong to their language."""
    train, test = load_voice("train"), load_voice("test")

    def profile(ds):
        mel = log_mel(ds.extras["waveform"])
        level = mel.mean(2)
        loud = (level > level.amax(1, keepdim=True) - 20).float()[..., None]
        mean = (mel * loud).sum(1) / loud.sum(1)
        return mean - mean.mean(1, keepdim=True)

    seen, unseen = profile(train), profile(test)
    centre = torch.stack([seen[train.factors["language"] == k].mean(0) for k in range(5)])
    right = torch.cdist(unseen, centre).argmin(1) == test.factors["language"]
    assert right.float().mean() > 0.5  # chance is 0.2


def test_captions_say_what_is_said():
    """Digits, days, letters and alphabet words by their English names."""
    ds = load_voice("all", language="en")
    said = dict(zip(ds.extras["prompt_name"], ds.captions, strict=True))
    for name, caption in (("digits/7", "seven"), ("digits/13", "thirteen"), ("digits/90", "ninety"), ("letters/w", "w")):
        assert said[name] == caption
    assert said["phonetic/f_p"] == "foxtrot" and said["phonetic/z_p"] == "zulu" and said["digits/day-3"] == "Wednesday"
    assert said["queue-less-than"] == "less than"


def slow_log_mel(x, rate, bands, hop, window):
    """One frame at a time, the discrete Fourier transform as a sum, triangles evaluated one by one."""
    size, step = round(window * rate), round(hop * rate)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    padded = np.concatenate([np.zeros(size // 2), x, np.zeros(size // 2)])
    mel = np.linspace(2595 * np.log10(1 + 60 / 700), 2595 * np.log10(1 + 0.475 * rate / 700), bands + 2)
    edge = 700 * (10 ** (mel / 2595) - 1)
    rows = []
    for start in range(0, len(padded) - size + 1, step):
        frame = padded[start : start + size] * hann
        k = np.arange(size // 2 + 1)[:, None]
        power = np.abs((frame * np.exp(-2j * np.pi * k * np.arange(size) / size)).sum(1)) ** 2 / hann.sum() ** 2
        row = []
        for b in range(bands):
            left, middle, right = edge[b : b + 3]
            total = 0.0
            for i, p in enumerate(power):
                f = i * rate / size
                weight = (f - left) / (middle - left) if f <= middle else (right - f) / (right - middle)
                total += max(0.0, weight) * p
            row.append(10 * np.log10(total + 1e-8))
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize(
    ("rate", "bands", "hop", "window"), [(8000, 40, 0.01, 0.032), (8000, 12, 0.02, 0.025), (16000, 20, 0.01, 0.02)]
)
def test_log_mel_equals_the_slow_reference(rate, bands, hop, window):
    """The spectrogram equals loops written from its definition."""
    x = np.random.default_rng(0).normal(size=900) * np.linspace(0, 0.3, 900)
    fast = log_mel(torch.from_numpy(x)[None], rate=rate, bands=bands, hop=hop, window=window)
    np.testing.assert_allclose(fast[0].numpy(), slow_log_mel(x, rate, bands, hop, window), atol=1e-6)


def test_silence_and_gain():
    """Silence is -80 dB; twice the amplitude adds 6.02 dB where the sound is loud."""
    assert torch.equal(log_mel(torch.zeros(1, 4000)), torch.full((1, 51, 40), -80.0))
    x = torch.randn(1, 4000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.2
    step = log_mel(2 * x) - log_mel(x)
    assert (step - 20 * np.log10(2)).abs().max() < 0.02


def test_a_set_is_not_changed_through_another():
    """Writing into a loaded set leaves the next load as it was."""
    first = load_voice("val", language="en")
    first.extras["waveform"].zero_()
    first.factors["prompt"].zero_()
    again = load_voice("val", language="en")
    assert again.extras["waveform"].abs().sum() > 0 and again.factors["prompt"].sum() > 0


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"split": "dev"}, UnknownNameError, "voice split 'dev'"),
        ({"language": "de"}, UnknownNameError, "voice language 'de'"),
        ({"language": 5}, UnknownNameError, "voice language 5"),
        ({"language": ()}, ValueError, "one or several different"),
        ({"language": ("en", "en")}, ValueError, "one or several different"),
        ({"seconds": 0}, ValueError, "from 0.1 to 10"),
        ({"seconds": float("nan")}, ValueError, "from 0.1 to 10"),
        ({"seconds": None}, TypeError, "seconds must be a number"),
    ],
)
def test_bad_options(options, error, words):
    """Each wrong option is refused with its name, what came and what is known."""
    with pytest.raises(error, match=re.escape(words)):
        load_voice(**options)


@pytest.mark.parametrize("waveform", [[0.0] * 400, torch.zeros(2, 100), torch.zeros(4000), torch.zeros(1, 4000).long()])
def test_bad_waveforms(waveform):
    """A spectrogram wants a (n, samples) float tensor that holds at least one window."""
    with pytest.raises((TypeError, ValueError), match="waveform must"):
        log_mel(waveform)
