"""Stamps: counts, splits that share no caption in any language and no picture, sound and picture that belong together."""

import re
from functools import cache

import numpy as np
import pytest
import torch

from workbench.data.files import read_table
from workbench.data.stamps import FRAMES_PER_SECOND, LANGUAGES, SPEECH, load_stamps, stamp_recordings
from workbench.errors import UnknownNameError

SPLITS = ("train", "val", "test")


@cache
def whole(**options):
    """All rows, loaded once for all tests with the same options."""
    return load_stamps("all", **options)


def test_counts():
    """950 pictures in 16 folders and 75 subfolders; every row of `all` is in one split; shares are near 70 / 10 / 20."""
    ds = whole()
    assert ds.images.shape == (950, 3, 48, 48) and ds.images.dtype == torch.float32 and len(set(ds.captions)) == 804
    counts = dict(zip(ds.label_names, ds.labels.bincount().tolist(), strict=True))
    assert counts["symbols"] == 249 and counts["animals"] == 154 and counts["food"] == 74 and len(counts) == 16
    assert len(ds.factor_names["subfolder"]) == 75 and torch.equal(ds.factors["stamp"], torch.arange(950))
    assert int(ds.factors["drawing"].sum()) == 273 and int((ds.factors["mirror"] == 0).sum()) == 271
    rows = {split: load_stamps(split, size=4) for split in SPLITS}
    assert [len(rows[s]) for s in SPLITS] == [664, 108, 178]
    assert torch.equal(torch.cat([rows[s].factors["stamp"] for s in SPLITS]).sort().values, torch.arange(950))
    folders = torch.stack([rows[s].labels.bincount(minlength=16) for s in SPLITS])
    assert (folders[:, folders.sum(0) >= 30] > 0).all()


def test_no_caption_of_any_language_is_in_two_splits():
    """A caption, compared without case and punctuation, belongs to one split in each of 58 languages; so do families."""
    items, texts = read_table("stamps", "items.parquet"), read_table("stamps", "captions.parquet")
    split, repeats = items["split"].to_pylist(), 0
    for language in LANGUAGES:
        owner = {}
        captions = items["caption"] if language == "en" else texts[language]
        for caption, where in zip(captions.to_pylist(), split, strict=True):
            key = re.sub(r"[\s.,!?;:]+", " ", caption.casefold()).strip()
            repeats += key in owner
            assert not key or owner.setdefault(key, where) == where, (language, caption)
    family = {}
    for part in SPLITS:
        ds = load_stamps(part, size=4, language="ja")
        assert ds.captions == [texts["ja"][i].as_py() for i in ds.factors["stamp"].tolist()]
        for code in ds.factors["family"].tolist():
            assert family.setdefault(code, part) == part
    assert repeats > 1000 and len(family) == 514  # there is something to leak


def test_no_nearly_identical_picture_is_in_two_splits():
    """Pictures of different splits differ by more than 0.05 RMS at 32 px; inside a split some do not."""
    parts = [load_stamps(split, size=32, background=None).images.flatten(1) for split in SPLITS]
    scale = parts[0].shape[1] ** 0.5
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert torch.cdist(parts[i], parts[j]).min() / scale > 0.0499
    within = torch.cdist(parts[0], parts[0]) + torch.eye(len(parts[0])) * scale
    assert within.min() / scale < 0.05


def test_colour_variants_stay_together():
    """Hats, eyes and flags that differ only in colour are one family; different animals are not."""
    ds = whole()
    row = {caption: i for i, caption in enumerate(ds.captions)}

    def families(*captions):
        return len({int(ds.factors["family"][row[c]]) for c in captions})

    assert families("A blue fedora.", "A green fedora.") == families("A brown eye.", "A blue eye.", "A green eye.") == 1
    assert families("A giraffe.", "A hedgehog.") == families("A cello.", "A bassoon.") == 2


def test_captions_in_many_languages_are_aligned():
    """Each language has more than 900 captions; a row has the same thing in each; missing captions drop rows, never shift them."""
    assert len(LANGUAGES) == len(set(LANGUAGES)) == 58
    table = read_table("stamps", "captions.parquet")
    assert set(table.schema.names) == set(LANGUAGES) - {"en"}
    for language in table.schema.names:
        have = np.array([bool(c.strip()) for c in table[language].to_pylist()])
        assert have.sum() > 900
        if language in ("vi", "ro", "de"):
            ds = load_stamps("all", size=4, language=language)
            assert ds.factors["stamp"].tolist() == have.nonzero()[0].tolist() and all(ds.captions)
    both = whole(language=("en", "fr", "de", "vi"), size=4)
    at = {name: i for i, name in enumerate(both.extras["stamp_name"])}
    giraffe = at["animals/mammals/giraffe"]
    words = [both.captions[giraffe], *(both.extras[f"captions_{x}"][giraffe] for x in ("fr", "de"))]
    assert words == ["A giraffe.", "Une girafe.", "Eine Giraffe."]
    assert 900 < len(both) < 950
    assert [whole().captions[i] for i in both.factors["stamp"].tolist()] == both.captions


def test_speech_belongs_to_its_caption():
    """Longer captions take longer to say, in every language; counts are those of the card; silence pads the end."""
    for language, count in zip(SPEECH, (915, 915, 65, 888, 925, 918, 918), strict=True):
        assert len(load_stamps("all", size=4, speech=language)) == count
        ds = load_stamps("all", size=4, language=language, speech=language, seconds=16)
        mel, frames = ds.extras[f"speech_{language}"], ds.extras[f"speech_frames_{language}"]
        assert 0 <= count - len(ds) < 40
        assert mel.shape == (len(ds), 16 * FRAMES_PER_SECOND, 40) and frames.min() > 4
        assert mel.min() == 0 and mel.max() == 1 and (mel.amax((1, 2)) == 1).all()
        beyond = torch.arange(mel.shape[1]) >= frames[:, None]
        assert not mel[beyond].any()
        length = np.array([len(c) for c in ds.captions])
        order = np.corrcoef(np.argsort(np.argsort(length)), np.argsort(np.argsort(frames.numpy())))[0, 1]
        assert order > {"ca": 0.4, "en": 0.25}.get(language, 0.8), (language, order)  # chance is 0


def test_speech_in_several_languages_is_aligned_row_by_row():
    """Two languages at once keep only the stamps that both speak, each with its own sound; `seconds` only cuts."""
    both = load_stamps("val", size=4, speech=("fr", "ru"), seconds=2)
    for language in ("fr", "ru"):
        one = load_stamps("val", size=4, speech=language, seconds=1)
        at = [one.factors["stamp"].tolist().index(s) for s in both.factors["stamp"].tolist()]
        assert torch.equal(both.extras[f"speech_{language}"][:, :40], one.extras[f"speech_{language}"][at])
        assert torch.equal(both.extras[f"speech_frames_{language}"].clamp(max=40), one.extras[f"speech_frames_{language}"][at])
    assert not torch.equal(both.extras["speech_fr"], both.extras["speech_ru"])


def test_spectrograms_are_those_of_the_recordings():
    """Decoding a kept recording and taking the energy of its frames follows the stored spectrogram."""
    soundfile = pytest.importorskip("soundfile")
    import io

    stamps = None
    for language in SPEECH:
        kept = stamp_recordings(language)
        assert len(kept) == 12 and (stamps is None or list(kept) == stamps)
        stamps = list(kept)
        ds = load_stamps("all", size=4, speech=language, seconds=16)
        for stamp in stamps[:4]:
            sound, rate = soundfile.read(io.BytesIO(kept[stamp]), always_2d=True)
            hop = rate / FRAMES_PER_SECOND
            frame = (np.arange(len(sound)) / hop).astype(int)
            energy = np.log(np.bincount(frame, (sound.mean(1) ** 2)) + 1e-6)
            at = ds.factors["stamp"].tolist().index(stamp)
            n = int(ds.extras[f"speech_frames_{language}"][at])
            stored = ds.extras[f"speech_{language}"][at, :n].amax(1).numpy()
            best = max(
                np.corrcoef(stored, energy[s : s + n])[0, 1] for s in range(max(1, len(energy) - n + 1)) if s + n <= len(energy)
            )
            assert best > 0.7, (language, stamp, best)


def test_pictures_belong_to_their_names():
    """Red and green things are red and green; the mask of a thing leaves the corners free."""
    ds = whole(size=32)
    row = {caption: i for i, caption in enumerate(ds.captions)}
    for caption, channel in (("A red flag.", 0), ("A green flag.", 1), ("A blue bicycle.", 2), ("A ripe, red tomato!", 0)):
        picture = 1 - ds.images[row[caption]]  # white paper is zero
        assert int(picture.mean((1, 2)).argmin()) == channel, caption
    mask = whole(size=32, background=None).images[:, 3]
    corners = mask[:, ::31, ::31].amax((1, 2))
    assert (corners < 0.1).float().mean() > 0.7 and (mask.mean((1, 2)) > 0.01).all()
    animals = ds.labels == ds.label_names.index("animals")
    assert mask[animals].mean() < 0.8


def test_a_set_is_not_changed_through_another():
    """Writing into a loaded set leaves the next load as it was."""
    first = load_stamps("val", size=8, speech="ca")
    for tensor in (first.images, first.labels, first.factors["family"], first.extras["speech_ca"]):
        tensor.zero_()
    again = load_stamps("val", size=8, speech="ca")
    assert again.images.sum() > 0 and again.labels.sum() > 0 and again.factors["family"].sum() > 0
    assert again.extras["speech_ca"].sum() > 0


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"split": "dev"}, UnknownNameError, "stamps split 'dev'"),
        ({"language": "english"}, UnknownNameError, "caption language 'english'"),
        ({"language": ()}, ValueError, "one or several different"),
        ({"language": ("fr", "fr")}, ValueError, "one or several different"),
        ({"speech": "de"}, UnknownNameError, "speech language 'de'"),
        ({"speech": 1}, UnknownNameError, "speech language 1"),
        ({"seconds": 0}, ValueError, "seconds must be from 0.1 to 60"),
        ({"seconds": float("nan")}, ValueError, "seconds must be from 0.1 to 60"),
        ({"seconds": "4"}, TypeError, "seconds must be a number"),
        ({"size": 2}, ValueError, "size must be from 4"),
        ({"background": "white"}, ValueError, "background must be"),
    ],
)
def test_bad_options(options, error, words):
    """Each wrong option is refused with its name, what came and what is known."""
    with pytest.raises(error, match=re.escape(words)):
        load_stamps(**options)
