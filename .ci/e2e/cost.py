"""What it costs SkyPilot and this machine, and that nothing is lost when SkyPilot restarts."""
import os
import resource
import subprocess
import time

from harness import Sockets, Watch, check, say, test, until


def pss(pid):
    """Proportional set size, in bytes."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0


def tree(root):
    parents = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                parents[int(pid)] = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            pass
    found = {root}
    while True:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            return found
        found |= more


def skypilot_server():
    lab_dir = os.environ.get("LAB_DIR", "/var/tmp/skylab")
    with open(os.path.join(lab_dir, "run", "api.pid")) as file:
        return int(file.read().split()[0])


@test
def a_hundred_watching_clients_cost_the_upstream_nothing_and_little_memory(tower):
    def count(seconds):
        before = tower.upstream_calls()
        time.sleep(seconds)
        return tower.upstream_calls() - before
    url, token = tower.door()
    with Sockets(url, token, 1):
        one = count(60)
    with Sockets(url, token, 100) as many:
        hundred = count(60)
        check(many.alive() == 100, f"only {many.alive()} of 100 clients are still connected")
        ours = pss(tower.server()["server"]["pid"])
    theirs = sum(pss(pid) for pid in tree(skypilot_server()))
    say(f"upstream requests in 60 s: {one:.0f} with 1 client, {hundred:.0f} with 100")
    say(f"memory with 100 clients {ours / 1e6:.1f} MB, SkyPilot's process tree {theirs / 1e6:.0f} MB: 1/{theirs / ours:.0f}")
    check(abs(hundred - one) <= max(6, one * 0.15), f"{one} with one client, {hundred} with 100")
    check(ours * 40 <= theirs, "not 40 times less memory")


@test
def skypilot_restarting_loses_nothing(tower):
    before = {r["key"] for r in tower.rows("clusters")}
    with Watch(tower, "sources"):
        done = subprocess.run([tower.lab, "restart-server"], capture_output=True, text=True, timeout=300)
        check(done.returncode == 0, f"lab restart-server: {done.stdout[-300:]}{done.stderr[-300:]}")
        check({r["key"] for r in tower.rows("clusters")} >= before, "rows were lost while SkyPilot was away")
        until("the source is healthy again",
              lambda: tower.skypilot()["status"] == "healthy", 240)
        check({r["key"] for r in tower.rows("clusters")} >= before, "rows were lost after SkyPilot came back")


@test
def a_snapshot_costs_a_fraction_of_sky_status(tower):
    def measure(words, env):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.monotonic()
        subprocess.run(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        wall = time.monotonic() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    ours, theirs = [], []
    tower.run("status")
    for _ in range(3):
        ours += [measure([tower.binary, "status"], tower.env) for _ in range(3)]
        theirs.append(measure([tower.lab, "as", "alice", "sky", "status", "-u"], os.environ))
    # Neighbours only ever add: the best of each is what it costs.
    wall, cpu = (min(x) for x in zip(*ours))
    sky_wall, sky_cpu = (min(x) for x in zip(*theirs))
    say(f"skytower status {wall:.3f} s, {cpu:.3f} s CPU; sky status -u {sky_wall:.1f} s, {sky_cpu:.2f} s CPU: "
        f"1/{sky_wall / wall:.0f} of the time, 1/{sky_cpu / max(cpu, 1e-4):.0f} of the CPU")
    check(wall * 40 <= sky_wall and cpu * 100 <= sky_cpu, "not 40 and 100 times cheaper")
