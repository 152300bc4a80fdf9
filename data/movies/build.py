"""Build the movies set: films with their director, distributor, source, genre and numbers.

    python data/movies/build.py [--out FOLDER]

Needs npm. A few seconds.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from workbench.data.build import Package, assign_splits, run, unpacked, write_table
from workbench.data.movies import ENTITIES, NUMBERS

PACKAGE = Package("npm", "vega-datasets", "2.11.0", "d888f3d9f0a9799a2f6066e5dbe5ed40eb86f75b4568b493d9bdd55e9652050a")
SOURCE = {
    "director": "Director",
    "distributor": "Distributor",
    "source": "Source",
    "rating": "MPAA Rating",
    "creative_type": "Creative Type",
    "running_time": "Running Time min",
    "budget": "Production Budget",
    "gross_us": "US Gross",
    "gross": "Worldwide Gross",
    "tomatoes": "Rotten Tomatoes Rating",
    "imdb": "IMDB Rating",
    "votes": "IMDB Votes",
}


def family(title: str) -> str:
    """The title without a part number and without what follows a colon, so that the films of a series stay together."""
    head = re.split(r":| - | part ", title.lower())[0]
    return re.sub(r"\b(\d+|ii|iii|iv|v|vi|the|a|an)\b|\W", "", head) or title.lower()


def year(text: str, today: int = 2012) -> int:
    """The year of a release date; the table has some films a century ahead."""
    for form in ("%b %d %Y", "%d-%b-%y", "%Y", "%b %Y"):
        try:
            found = datetime.strptime(text.strip(), form).year
        except ValueError:
            continue
        return found - 100 if found > today else found
    return 0


def build(folder: Path) -> None:
    """Write movies.parquet into `folder`."""
    with unpacked(PACKAGE) as source:
        films = [f for f in json.loads((source / "data" / "movies.json").read_text()) if f["Title"] is not None]
    titles = [str(f["Title"]).strip() for f in films]
    genres = [f["Major Genre"] or "" for f in films]
    columns: dict[str, pa.Array | list] = {"title": titles, "genre": genres}
    columns["year"] = pa.array([year(f["Release Date"]) for f in films], pa.int16())
    columns |= {name: [f[SOURCE[name]] or "" for f in films] for name in (*ENTITIES, "rating", "creative_type")}
    columns |= {name: pa.array([f[SOURCE[name]] for f in films], pa.float64()).fill_null(-1.0) for name in NUMBERS}
    columns["split"] = assign_splits([family(title) for title in titles], genres)
    write_table(folder / "movies.parquet", pa.table(columns))


if __name__ == "__main__":
    run(build, __file__)
