"""`workbench diagnose ...`: reports on a user's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

diagnose_app = typer.Typer(
    no_args_is_help=True, help="Reports on your own embeddings, models and captions.", rich_markup_mode=None
)


@diagnose_app.command("embeddings")
def diagnose_embeddings(
    files: Annotated[
        list[str], typer.Argument(help="npy, npz, parquet, csv or safetensors; FILE::NAME takes one array of several.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("report.html"),
    pairs: Annotated[bool, typer.Option("--pairs", help="Two paired modalities of one space: row i belongs to row i.")] = False,
    name: Annotated[list[str] | None, typer.Option("--name", help="A name for each file, in order; repeatable.")] = None,
    labels: Annotated[Path | None, typer.Option(help="A class for each row: txt, npy, csv, parquet, json or jsonl.")] = None,
    factors: Annotated[Path | None, typer.Option(help="A table with a column for each factor: csv or parquet.")] = None,
    texts: Annotated[Path | None, typer.Option(help="A text for each row: txt, csv, parquet, json or jsonl.")] = None,
    images: Annotated[Path | None, typer.Option(help="A folder of pictures: named by id, or in the order of the rows.")] = None,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="Confidence of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Of every random part.")] = 0,
    preset: Annotated[str, typer.Option(help="ci, cpu, gpu or auto.")] = "ci",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """The geometry of one set, of two paired modalities (--pairs), or of several models on the same rows."""
    from workbench.diagnose.inputs import read_inputs
    from workbench.diagnose.run import run_notebook

    paths = [_absolute(f) for f in files]
    given = {
        k: None if v is None else str(v.absolute())
        for k, v in (("labels", labels), ("factors", factors), ("texts", texts), ("images", images))
    }
    # Read once here: a mistake in a file is told at once, not after a kernel has started.
    inputs = read_inputs(paths, names=name, pairs=pairs, **given)
    for warning in inputs.warnings:
        typer.echo(f"note: {warning}", err=True)
    typer.echo(f"measuring {len(inputs):,} rows of {' and '.join(s.name for s in inputs.sets)} ...", err=True)
    parameters = {
        "preset": preset,
        "device": device,
        "seed": seed,
        "sources": paths,
        "names": name,
        "pairs": pairs,
        "level": level,
        **given,
    }
    page, numbers, notebook = run_notebook("embeddings", parameters, output)
    typer.echo(f"report    {page}\nnumbers   {numbers}\nnotebook  {notebook}")


def _absolute(source: str) -> str:
    path, separator, name = source.partition("::")
    return str(Path(path).absolute()) + separator + name
