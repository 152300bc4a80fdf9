"""results.json of `losses.py` as RESULTS.md and as the figures of the book.

.venv/bin/python benchmarks/report.py
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

from losses import BARE, CONTESTS, HERE, PRODUCTS, TINY, TORCH_BARE

FIGURES = HERE.parent / "book" / "figures"
OURS = "workbench"
Place = tuple[str, int, int, int]  # contest, rows, width, threads


def places(rows: list[dict[str, Any]]) -> dict[Place, dict[str, dict[str, Any]]]:
    """For each contest and size the rows by contestant, in the order of the contests."""
    found: dict[Place, dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        found[row["contest"], row["n"], row["d"], row["threads"]][row["name"]] = row
    order = list(CONTESTS)
    return dict(sorted(found.items(), key=lambda item: (order.index(item[0][0]), item[0][3], item[0][2], item[0][1])))


def fastest_peer(group: dict[str, dict[str, Any]]) -> float | None:
    """CPU seconds of the fastest peer, where one ran."""
    times = [row["cpu"] for name, row in group.items() if name not in (OURS, BARE, TORCH_BARE) and "cpu" in row]
    return min(times, default=None)


def rate(place: Place, row: dict[str, Any]) -> float:
    """Gflop/s of bare products."""
    contest, n, d, _ = place
    return 2e-9 * PRODUCTS[contest] * n * n * d / row["cpu"]


def targets(found: dict[Place, dict[str, dict[str, Any]]]) -> str:
    """What was to be reached and what was, from the rows with one thread."""
    mine = {place: group for place, group in found.items() if place[3] == 1 and place[1] > TINY and "cpu" in group.get(OURS, {})}
    gain = {place: peer / group[OURS]["cpu"] for place, group in mine.items() if (peer := fastest_peer(group))}
    bare = {place: group[OURS]["cpu"] / group[BARE]["cpu"] for place, group in mine.items() if BARE in group}
    memory = {place: group[OURS]["mb"] for place, group in mine.items() if place[1:3] == (16384, 512)}

    def line(target: str, values: dict[Place, float], worst: Any, limit: float, form: str) -> str:
        if not values:
            return f"| {target} | not measured | |"
        place = worst(values, key=values.get)
        reached = values[place] >= limit if worst is min else values[place] <= limit
        where = f"{place[0]}, n = {place[1]:,}, d = {place[2]}"
        return f"| {target} | {form.format(values[place])} ({where}) | {'yes' if reached else 'no'} |"

    large = {place: value for place, value in gain.items() if place[1] >= 4096}
    lines = ["| target | worst row | reached |", "| --- | --- | --- |"]
    lines.append(line("never slower than the fastest peer", gain, min, 1.0, "{:.2f} times as fast"))
    lines.append(line("at least 1.6 times as fast from n = 4,096 on", large, min, 1.6, "{:.2f} times as fast"))
    lines.append(line("less than 150 MB extra at n = 16,384, d = 512", memory, max, 150, "{:.0f} MB"))
    for start, limit in ((4096, 2.0), (256, 2.0)):
        part = {place: value for place, value in bare.items() if place[1] >= start}
        lines.append(line(f"within 2.0 times the bare products, n from {start:,}", part, max, limit, "{:.2f} times"))
    huge = [(place, group[OURS]) for place, group in mine.items() if place[1] >= 131072]
    for place, row in huge:
        text = f"{row['cpu']:.0f} CPU s, {row['mb']:.0f} MB; one matrix would take {place[1] ** 2 * 4e-9:.0f} GB"
        lines.append(f"| n = {place[1]:,}, d = {place[2]} runs | {text} | yes |")
    return "\n".join(lines)


def calls(found: dict[Place, dict[str, dict[str, Any]]]) -> str:
    """Why few rows stay away from the bare products: what a loss costs where there is next to nothing to multiply."""
    constant = {place[0]: group[OURS]["cpu"] for place, group in found.items() if place[1] == TINY and OURS in group}
    small = {place: group for place, group in found.items() if place[1] == 256 and place[3] == 1 and BARE in group}
    if not constant or not small:
        return ""
    over = [(group[OURS]["cpu"] - constant[place[0]]) / group[BARE]["cpu"] for place, group in small.items()]
    low, high = 1e3 * min(constant.values()), 1e3 * max(constant.values())
    tiny = {place: group for place, group in found.items() if place[1] == TINY and OURS in group}
    gain = [peer / group[OURS]["cpu"] for group in tiny.values() if (peer := fastest_peer(group))]
    return f"""
Few rows cannot come near the bare products: a loss of {TINY} rows takes {low:.2f} to {high:.2f} ms, the price of calling some sixty small
operators, forward and backward. Without that constant n = 256 would take {min(over):.2f} to {max(over):.2f} times the bare products. The targets are
for n from 256; at {TINY} rows a peer's plain formula takes {min(gain):.2f} to {max(gain):.2f} times as long, where below one it is the quicker.
"""


def tables(found: dict[Place, dict[str, dict[str, Any]]]) -> str:
    """All rows, one table for each contest."""
    lines: list[str] = []
    for contest in CONTESTS:
        lines += ["", f"## {contest}", ""]
        lines += ["| n | d | threads | | CPU s | runs | extra MB | fastest peer / this | this / bare products |"]
        lines += ["| ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |"]
        for place, group in found.items():
            if place[0] != contest:
                continue
            peer, bare = fastest_peer(group), group.get(BARE, {}).get("cpu")
            for name, row in group.items():
                start = f"| {place[1]:,} | {place[2]} | {place[3]} |"
                if "failed" in row:
                    lines.append(f"{start} {name} | {row['failed']} | | | | |")
                    continue
                gain = f"{peer / row['cpu']:.2f}" if peer and name == OURS else ""
                over = f"{row['cpu'] / bare:.2f}" if bare and name not in (BARE, TORCH_BARE) else ""
                title = f"**{name}**" if name == OURS else name
                lines.append(f"{start} {title} | {row['cpu']:.4g} | {row['runs']} | {row['mb']:.0f} | {gain} | {over} |")
    return "\n".join(lines)


def document(results: dict[str, Any]) -> str:
    """RESULTS.md."""
    found, about = places(results["rows"]), results["machine"]
    rates = {
        name: max((rate(place, group[name]) for place, group in found.items() if name in group and place[3] == 1), default=0)
        for name in (BARE, TORCH_BARE)
    }
    busy = ""
    if max(about["load at the start"], about["load at the end"]) > about["cores"]:
        busy = ": the machine was not quiet, which costs CPU time too, by shared caches and memory"
    slower = f"; `torch.mm` {rates[TORCH_BARE]:.0f}" if rates[TORCH_BARE] else ""
    note = f"- {about['note']}\n" if "note" in about else ""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return f"""# Contrastive losses: time and memory

Made by `make bench` (`benchmarks/losses.py`, then `benchmarks/report.py`) on {about["date"]}.

- Machine: {about["processor"]} with {about["instructions"]}, {about["cores"]} cores, {about["gigabytes"]} GB. Load {about["load at the start"]} at the start and
  {about["load at the end"]} at the end{busy}. So time is CPU seconds, not seconds on the clock.
- Versions: Python {about["python"]}, {versions}.
- A row is a process of its own: value and gradient of both sides, median of the runs named; memory is the peak beyond the rows
  themselves, both gradients included. Contestants of one size follow each other. All values agree with ours to 1e-4.
- "Bare products" are the matrix products that the gradient takes at least when no n x n matrix is kept, made with the quicker of
  torch's two libraries (at best {rates[BARE]:.0f} Gflop/s here{slower}). Below one is possible where blocks are kept (up to 64 MB), which saves a product.
{note}
## Targets

{targets(found)}
{calls(found)}{tables(found)}
"""


def draw(results: dict[str, Any]) -> None:
    """Time and memory against rows, one panel for each loss, at the width with the most measured rows."""
    import matplotlib.pyplot as plt

    from workbench.plots import COLOURS, house_style

    house_style()
    plt.rcParams["svg.hashsalt"] = "bench"
    found = places(results["rows"])
    d = Counter(place[2] for place, group in found.items() if place[3] == 1 and len(group) > 2).most_common(1)[0][0]
    names = [OURS, *dict.fromkeys(name for contest in CONTESTS.values() for name in contest if name != OURS), BARE]
    colours = dict(zip(names, (*COLOURS[:6], COLOURS[7], "#222222"), strict=False))
    markers = dict(zip(names, "osDv^PX ", strict=False))
    shown = {
        "time": ("cpu", "CPU seconds", "Time of value and gradient"),
        "memory": ("mb", "extra memory (MB)", "Peak memory beyond the rows"),
    }
    for kind, (key, label, title) in shown.items():
        figure, axes = plt.subplots(2, 3, figsize=(11, 6.6), sharex=True, sharey=True)
        handles: dict[str, Any] = {}
        for axis, contest in zip(axes.flat, CONTESTS, strict=False):
            for name in names:
                if name == BARE and kind == "memory":
                    continue
                points = [
                    (place[1], group[name][key])
                    for place, group in found.items()
                    if place[0] == contest and place[1] > TINY and place[2:] == (d, 1) and key in group.get(name, {})
                ]
                if not points:
                    continue
                style: dict[str, Any] = {"color": "#222222", "linestyle": ":", "linewidth": 1.6} if name == BARE else {}
                if not style:
                    style = {"color": colours[name], "marker": markers[name], "linewidth": 3 if name == OURS else 1.8}
                (handles[name],) = axis.plot(*zip(*points, strict=True), label=name, zorder=3 if name == OURS else 2, **style)
            if kind == "memory":
                rows = sorted({place[1] for place in found if place[0] == contest and place[1] > TINY and place[2:] == (d, 1)})
                (handles["one n x n matrix"],) = axis.plot(
                    rows, [4e-6 * n * n for n in rows], color="#888888", linestyle="--", linewidth=1.4
                )
            axis.set_title(contest)
            axis.set(xscale="log", yscale="log")
            axis.set_xticks([256, 1024, 4096, 16384, 65536], ["256", "1,024", "4,096", "16,384", "65,536"], minor=False)
            axis.minorticks_off()
        for axis in axes[:, 0]:
            axis.set_ylabel(label)
        for axis in (*axes[1, :2], axes[0, 2]):
            axis.set_xlabel("rows")
            axis.tick_params(labelbottom=True)
        axes[1, 2].axis("off")
        axes[1, 2].legend(handles.values(), handles.keys(), loc="center", fontsize=11)
        figure.suptitle(f"{title}, d = {d}, one thread")
        FIGURES.mkdir(parents=True, exist_ok=True)
        figure.savefig(FIGURES / f"bench-{kind}.svg", metadata={"Date": None})
        plt.close(figure)


def main() -> None:
    results = json.loads((HERE / "results.json").read_text())
    (HERE / "RESULTS.md").write_text(document(results))
    draw(results)
    print(f"wrote {HERE / 'RESULTS.md'} and {FIGURES}/bench-*.svg")


if __name__ == "__main__":
    main()
