"""`kill -9` at random: nothing finished is lost or repeated, the partial is kept, and no kernel is left behind."""

import contextlib
import json
import random
import time

import psutil
import pytest
from batch_tools import start_runner, tiny, wait_until

from workbench.batch import grid_points, read_records
from workbench.batch.records import intact

KILLS = 20


@pytest.mark.notebook
@pytest.mark.slow
def test_twenty_kills_lose_nothing_and_repeat_nothing(tmp_path):
    """Ten times the runner, ten times its executing process or kernel, in an order and at moments the seed says; then one run in peace.

    Each notebook writes its seed into a ledger in its last cell. What a record says is finished must stay as it is to the last
    byte, and must not come into the ledger again.
    """
    rng, out, ledger = random.Random(7), tmp_path / "runs", tmp_path / "ledger"
    ledger.touch()
    notebook = tiny(tmp_path, "counted", "x = seed", f"open({str(ledger)!r}, 'a').write(f'{{seed}}\\n')")
    seeds = list(range(6))
    folder = out / "ci/01-geometry"

    def start():
        return start_runner(tmp_path / "log", [notebook], points=grid_points({"seed": seeds}), jobs=2, out=out)

    def finished():
        """Seed -> bytes of its record; every record can be read and its notebook is the one it speaks of."""
        found = {}
        for path in folder.glob("*.json"):
            content = json.loads(path.read_text())
            if content["status"] == "ok":
                found[content["parameters"]["seed"]] = path.read_bytes()
        for record in read_records(out):
            assert not record.ok or intact(record, out), record.name
        return found

    runner = start()
    wait_until(finished)
    usual = min(r.seconds for r in read_records(out) if r.ok)  # on this machine, now
    snapshots, plan = [], ["runner", "part"] * (KILLS // 2)
    rng.shuffle(plan)
    while plan:
        time.sleep(rng.uniform(0.05, 0.6) * usual)
        if not runner.is_alive():
            if set(finished()) == set(seeds):
                seeds += [max(seeds) + 1, max(seeds) + 2]
            runner = start()
            continue
        family = psutil.Process(runner.pid).children(recursive=True)
        if plan[-1] == "part":
            if not family:
                continue  # it has not started anything yet
            with contextlib.suppress(psutil.NoSuchProcess):
                rng.choice(family).kill()
        else:
            runner.kill()
            runner.join(20)
            assert not psutil.wait_procs(family, timeout=20)[1], "something ran on without its runner"
        plan.pop()
        done = finished()
        snapshots.append((done, len(ledger.read_text().splitlines())))
    runner.join(300)
    last = start()
    last.join(300)
    assert last.exitcode == 0
    end, lines = finished(), [int(line) for line in ledger.read_text().splitlines()]
    assert set(end) == set(seeds) <= set(lines), "a notebook was lost"
    for done, length in snapshots:
        assert all(end[seed] == content for seed, content in done.items()), "a finished record changed"
        assert not set(done) & set(lines[length:]), "a finished notebook was repeated"
    assert len(snapshots) == KILLS and any(0 < len(done) < len(seeds) for done, _ in snapshots), (
        "vacuous: no kill fell into the middle"
    )
    said = (tmp_path / "log").read_text()
    assert "left over" in said and "its runner was killed, after cell" in said  # the partial of a dead runner was kept
    assert not list(out.rglob(".*.job")) and not list(folder.glob("*.stopped.*"))
