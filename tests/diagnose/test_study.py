"""The diagnosis: it finds what was put in, says it with numbers, and writes one page and a valid JSON."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import workbench.diagnose
from workbench.diagnose.explore import chosen_html
from workbench.diagnose.study import study_embeddings
from workbench.errors import DataError, UnknownNameError

SCHEMA = json.loads((Path(workbench.diagnose.__file__).parent / "schema.json").read_text())
WICKED = '</script><script>document.title = "caught"</script><img src=x onerror="document.title = 1">'


def paired(n=240, gap=2.0, noise=0.4, d=16, seed=0):
    """Two modalities that share 16 numbers, each moved `gap` to its own side."""
    chance = np.random.default_rng(seed)
    common = chance.normal(size=(n, d))
    x, y = (common + noise * chance.normal(size=(n, d)) for _ in range(2))
    x[:, 0] += gap
    y[:, 0] -= gap
    return x.astype(np.float32), y.astype(np.float32)


@pytest.fixture(scope="module")
def study():
    """Paired sets with a gap, labels that lie in the vectors, and texts that would be code if they were not escaped."""
    x, y = paired(gap=4.0)
    labels = np.where(x[:, 1] > 0, "up", "down").tolist()
    texts = [f"row {i} {WICKED}" for i in range(len(x))]
    return study_embeddings([x, y], names=["image <b>", "text"], pairs=True, labels=labels, texts=texts)


def test_the_gap_that_was_put_in_is_found(study):
    """Two clouds 4 apart are called apart, chance is far below, and shifting them together is said to help as it does."""
    first = study.verdicts[0]
    assert first.level == "warning" and "do not overlap" in first.sentence and first.notebook == "contrastive-gap"
    gap = study.measures.gap
    assert gap.centroid_distance > 5 * gap.chance_distance and first.value > 0.95
    moved = 50 * (gap.recall_x2y_shifted - gap.recall_x2y + gap.recall_y2x_shifted - gap.recall_y2x)
    assert moved > 5 and f"{moved:+.1f} points" in first.sentence


def test_no_gap_no_warning():
    """Without a shift the clouds overlap; strangers point everywhere; nothing is a warning."""
    x, y = paired(gap=0.0)
    study = study_embeddings([x, y], pairs=True)
    assert all(v.level != "warning" for v in study.verdicts)
    assert any("overlap: separability" in v.sentence and v.level == "good" for v in study.verdicts)


def test_rows_in_another_order_are_suspected():
    """Partners that were shuffled are found no better than chance, and the report asks about the order."""
    x, y = paired(gap=0.0)
    study = study_embeddings([x, y[np.random.default_rng(1).permutation(len(y))]], pairs=True)
    assert sum("same order" in v.sentence for v in study.verdicts if v.level == "warning") == 2


def test_a_cone_copies_hubs_and_collapse_are_found():
    """A common direction, copied rows and vanishing dimensions each give their warning, with the rows to look at."""
    chance = np.random.default_rng(0)
    x = chance.normal(size=(300, 32)).astype(np.float32)
    cone = study_embeddings(x + 8 * np.eye(32, dtype=np.float32)[0])
    assert any(v.measure == "anisotropy" and v.level == "warning" for v in cone.verdicts)
    copied = x.copy()
    copied[200:230] = 3 * copied[:30]
    found = study_embeddings(copied)
    assert any(v.measure == "near_duplicates" and v.level == "warning" and "20.0%" in v.sentence for v in found.verdicts)
    pairs = {frozenset((r.row, r.other)) for r in found.measures.look_at if r.why == "near-duplicates"}
    assert pairs and pairs <= {frozenset((i, 200 + i)) for i in range(30)}
    flat = chance.normal(size=(300, 2)) @ chance.normal(size=(2, 64))
    assert any(v.measure == "effective_rank" and v.level == "warning" for v in study_embeddings(flat).verdicts)


def test_a_suppressed_factor_is_named(tmp_path):
    """A factor that is in the vectors is read, one that is not is at chance, and the report says which is which."""
    chance = np.random.default_rng(0)
    colour, shape = chance.integers(0, 4, 400), chance.integers(0, 4, 400)
    x = np.eye(4)[colour] * 3 + chance.normal(size=(400, 4))
    pd.DataFrame({"colour": colour, "shape": shape}).to_csv(tmp_path / "f.csv", index=False)
    study = study_embeddings(x, factors=tmp_path / "f.csv")
    found = next(v for v in study.verdicts if v.notebook == "multistage-contrastive")
    assert found.level == "warning" and "colour is read best" in found.sentence and "shape worst" in found.sentence


def test_two_models_are_compared():
    """A rotated copy has the same neighbours and CKA 1; an unrelated model agrees as chance does."""
    chance = np.random.default_rng(0)
    x = chance.normal(size=(200, 12)).astype(np.float32)
    turn = np.linalg.qr(chance.normal(size=(12, 12)))[0]
    study = study_embeddings([x, (x @ turn).astype(np.float32), chance.normal(size=(200, 7))], names=["a", "b", "c"])
    assert study.measures.find("knn_overlap", "a", "b").value > 0.99 and study.measures.find("linear_cka", "a", "b").value > 0.999
    far = study.measures.find("knn_overlap", "a", "c")
    assert far.low < far.null < far.high or abs(far.value - far.null) < 0.02
    assert set(study.table["set"]) == {"a", "b", "c"}


def test_what_cannot_be_measured_is_said():
    """Two rows are enough for a report; what needs more is named with its reason."""
    study = study_embeddings(np.eye(2), labels=["a", "b"])
    assert study.measures.estimates and study.measures.skipped
    assert any("probes of labels: 2 values with fewer than 5 rows" in s for s in study.measures.skipped)
    assert "fewer than 5 rows" in study.notes_html()


def test_large_sets_are_sampled_and_that_is_said():
    """Above max_rows the measures over all pairs see a random part, whose size stands in the report; one seed, one result."""
    x = np.random.default_rng(0).normal(size=(500, 8))
    a, b = (study_embeddings(x, max_rows=100, seed=3) for _ in range(2))
    assert len(a.measures.sample) == 100 and a.measures.find("uniformity").n == 100
    assert "see 100 of 500 rows" in a.notes_html()
    assert a.as_dict()["estimates"] == b.as_dict()["estimates"]
    exact = study_embeddings(x).measures.find("uniformity")
    assert exact.n == 500 and a.measures.find("uniformity").low < exact.value < a.measures.find("uniformity").high


def test_the_json_is_what_the_schema_says(study):
    """The numbers validate against the published schema, and a field too many or too few does not."""
    from workbench.diagnose.report import plain

    content = json.loads(json.dumps(plain(study.as_dict()), allow_nan=False))
    jsonschema.validate(content, SCHEMA)
    for broken in ({**content, "extra": 1}, {k: v for k, v in content.items() if k != "gap"}, {**content, "estimates": []}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, SCHEMA)


def test_the_page_asks_nobody_and_runs_nothing_of_the_user(study, tmp_path):
    """The page names no address on the network and holds the user's text only escaped; page and JSON are whole or absent."""
    page = study.save(tmp_path / "r.html").read_text()
    assert (tmp_path / "r.json").exists() and not list(tmp_path.glob(".*"))
    assert WICKED not in page and "<img src=x" not in page and "image &lt;b&gt;" in page
    assert "http://" not in page and "https://" not in page and "//cdn" not in page
    assert page.count("<canvas") == 2 and page.count('class="figure"') == 4
    with pytest.raises(DataError, match=r"ends in \.html"):
        study.save(tmp_path / "r.pdf")
    with pytest.raises(DataError, match="no folder"):
        study.save(tmp_path / "none" / "r.html")


def test_maps_hold_the_rows(study):
    """Both maps have a place for each row of both sets; PCA's first axis is the gap; an unknown map is refused."""
    planes, at = study.coordinates("pca")
    assert planes.shape == (2, 240, 2) and at.tolist() == list(range(240)) and np.isfinite(planes).all()
    assert abs(planes[0, :, 0].mean() - planes[1, :, 0].mean()) > 2 * planes[:, :, 1].std()
    with pytest.raises(UnknownNameError, match="unknown map 'tsne'"):
        study.coordinates("tsne")


def test_chosen_rows_are_shown_as_text(study, tmp_path):
    """The panel of the widget shows the rows that were chosen, escaped, and says how many more there are."""
    table = pd.DataFrame({"set": ["image <b>"] * 30, "place": range(30)})
    panel = chosen_html(study, table)
    assert panel.count("row ") >= 24 and "and 6 more" in panel and "<script" not in panel and "image &lt;b&gt;" in panel


def test_pictures_that_cannot_be_read_do_not_stop_the_report(tmp_path):
    """A broken picture is left blank; the report is made."""
    x, _ = paired(n=12)
    for i in range(12):
        Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(tmp_path / f"{i:02d}.png")
    (tmp_path / "05.png").write_bytes(b"no picture")
    study = study_embeddings(x, images=tmp_path)
    assert "data:image/webp" in study.map_html("pca") and "null" in study.map_html("pca")


def test_the_module_can_be_called():
    """`workbench.diagnose(...)` is the study of its arguments."""
    x, y = paired(n=40)
    study = workbench.diagnose(x, y, pairs=True)
    assert study.inputs.paired and len(study.inputs) == 40 and "wb-findings" in study._repr_html_()
