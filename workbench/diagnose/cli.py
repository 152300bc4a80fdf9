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
    given = _given(labels=labels, factors=factors, texts=texts, images=images)
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
    _done(run_notebook("embeddings", parameters, output))


@diagnose_app.command("captions")
def diagnose_captions(
    predictions: Annotated[
        list[str],
        typer.Argument(help="Captions of one system or two: jsonl, json, csv, tsv, parquet with id and caption, or txt."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("report.html"),
    references: Annotated[Path | None, typer.Option(help="Captions by people: id and captions (a list) or caption.")] = None,
    objects: Annotated[Path | None, typer.Option(help="What each picture shows: id and objects (a list).")] = None,
    table: Annotated[
        Path | None, typer.Option(help="Words and the objects they name: json, or csv with word and object.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="A folder of pictures named by id.")] = None,
    name: Annotated[list[str] | None, typer.Option("--name", help="A name for each system, in order; repeatable.")] = None,
    words: Annotated[str, typer.Option(help="Which words count: auto, table, names, synonyms or kinds.")] = "auto",
    count: Annotated[str, typer.Option(help="mention, or object: each object once a caption.")] = "mention",
    sentences: Annotated[int | None, typer.Option(min=1, help="Only the first so many sentences of each caption.")] = None,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="Confidence of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
) -> None:
    """Hallucination in captions: scores with intervals, each wrong mention marked, by object, under other rules, two systems compared."""
    from workbench.diagnose.caption_inputs import read_captions
    from workbench.diagnose.run import run_notebook
    from workbench.diagnose.vocabulary import WORDS, read_synonyms
    from workbench.errors import UnknownNameError, WorkbenchError

    paths = [str(Path(p).absolute()) for p in predictions]
    given = _given(references=references, objects=objects, table=table, images=images)
    if words not in ("auto", "table", *WORDS):
        raise UnknownNameError("choice of words", words, ("auto", "table", *WORDS))
    if count not in ("mention", "object"):
        raise UnknownNameError("rule of counting", count, ("mention", "object"))
    if table is not None:
        read_synonyms(table)
    try:
        inputs = read_captions(paths, names=name, **{k: v for k, v in given.items() if k != "table"})
    except ValueError as error:
        raise WorkbenchError(str(error)) from None
    for warning in inputs.warnings:
        typer.echo(f"note: {warning}", err=True)
    typer.echo(f"reading {len(inputs):,} captions of {' and '.join(inputs.names)} ...", err=True)
    parameters = {"predictions": paths, "names": name, "words": words, "count": count, "sentences": sentences}
    _done(run_notebook("captions", {**parameters, "level": level, "seed": seed, **given}, output))


@diagnose_app.command("model")
def diagnose_model(
    model: Annotated[str, typer.Argument(help="A model of the workbench, a folder, or a name of the Hugging Face hub.")],
    images: Annotated[Path | None, typer.Option(help="A folder of pictures.")] = None,
    captions: Annotated[
        Path | None, typer.Option(help="Their captions: a table with caption and file (or id), or txt, a line for each picture.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="A class for each row: txt, npy, csv, parquet, json or jsonl.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("report.html"),
    scenes: Annotated[int | None, typer.Option(min=0, help="Rendered scenes of each test, 0 for none; by the preset.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows that the model sees at once.")] = 64,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Keep embeddings by content in the user's cache folder.")
    ] = True,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="Confidence of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Of every random part.")] = 0,
    preset: Annotated[str, typer.Option(help="ci, cpu, gpu or auto.")] = "ci",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """A model on your pictures and captions: its embeddings as above, and tests on rendered scenes where every factor is known."""
    from workbench.diagnose.model_inputs import read_captioned
    from workbench.diagnose.run import run_notebook
    from workbench.errors import WorkbenchError

    if images is None and captions is None:
        raise WorkbenchError("give --images, --captions or both: a model is diagnosed on your own data")
    given = read_captioned(images, None if captions is None else str(captions))
    for warning in given.warnings:
        typer.echo(f"note: {warning}", err=True)
    typer.echo(f"embedding {len(given):,} rows with {model} ...", err=True)
    # A folder is given by a path; the notebook runs in another one.
    named = str(Path(model).absolute()) if Path(model).is_dir() else model
    parameters = {"model": named, "scenes": scenes, "batch_size": batch_size, "cache": cache, "preset": preset, "device": device}
    files = _given(images=images, captions=captions, labels=labels)
    _done(run_notebook("model", {**parameters, "level": level, "seed": seed, **files}, output))


def _given(**files: Path | None) -> dict[str, str | None]:
    """Paths as the notebook needs them, which runs in another folder."""
    return {name: None if path is None else str(path.absolute()) for name, path in files.items()}


def _done(written: tuple[Path, Path, Path]) -> None:
    typer.echo("report    {}\nnumbers   {}\nnotebook  {}".format(*written))


def _absolute(source: str) -> str:
    path, separator, name = source.partition("::")
    return str(Path(path).absolute()) + separator + name
