"""The local engine beside a real SkyPilot: the sample team, seen, used and cleared away."""
import glob
import os
import time
import urllib.request

from harness import Watch, check, say, test, until


def left_of(home):
    """Processes that know the folder: from their command line, or from their environment."""
    mark, found = os.path.join(home, "engine").encode(), []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as line, open(f"/proc/{pid}/environ", "rb") as environ:
                command = line.read()
                # A keeper in store has nothing to keep yet, and ends with the server.
                in_store = command.endswith(b"\0__keeper\0") and not has_units(pid, home)
                if b"__server" not in command and not in_store and (mark in command or mark in environ.read()):
                    found.append(command.replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            pass
    return found


def has_units(pid, home):
    units = os.path.join(home, "engine", "units")
    return any(os.readlink(file).startswith(units) for file in glob.glob(f"/proc/{pid}/fd/*") if os.path.islink(file))


def local(rows):
    return {row["name"]: row for row in rows if row["source"] == "local"}


@test
def the_sample_team_runs_beside_skypilot_in_one_view_and_is_cleared_away(tower):
    start = time.monotonic()
    tower.run("demo")
    say(f"the sample team was started in {time.monotonic() - start:.1f} s")
    sources = {row["source"] for row in tower.rows("clusters")}
    check(sources == {"local", "skypilot"}, f"clusters of {sources}")
    clusters = local(tower.rows("clusters"))
    check(len(clusters) == 4 and all(row["status"] == "UP" for row in clusters.values()), f"clusters: {clusters}")
    check(len({row["owner"]["name"] for row in clusters.values()}) == 3, "three owners")
    check(len({row["workspace"] for row in clusters.values()}) == 2, "two workspaces")
    check({row["source"] for row in tower.rows("infra")} == {"local", "skypilot"}, "the machine is among the infra")
    service = until("the service is ready", lambda: tower.row("services", source="local", status="READY"))
    until("two replicas are ready", lambda: len([
        r for r in tower.rows("replicas") if r["source"] == "local" and r["status"] == "READY"]) == 2)
    heard = set()
    for _ in range(20):
        with urllib.request.urlopen(service["endpoint"], timeout=10) as answer:
            heard.add(answer.read().decode().split(",")[0])
    check(heard == {"hello from replica 1", "hello from replica 2"}, f"the load balancer gave {heard}")
    ends = {"evaluate": "FAILED", "broken-setup": "FAILED_SETUP", "tokenize": "SUCCEEDED"}
    for name, status in ends.items():
        until(f"{name} is {status}", lambda n=name, s=status: local(tower.rows("jobs")).get(n, {}).get("status") == s)
    until("flaky recovered", lambda: local(tower.rows("jobs"))["flaky"]["recoveries"] >= 1)

    job = local(tower.rows("jobs"))["sweep"]
    target = job["key"].replace("/", ":", 1).rsplit("/", 1)[0]
    text = tower.run("logs", target, "--tail", "5").stdout
    check(text.strip(), "the log of sweep is empty")
    with Watch(tower, "jobs") as watch:
        asked = time.time()
        tower.run("cancel", target, "-y")
        at, _ = watch.wait_for("sweep is cancelled", lambda row: row.get("key") == job["key"] and row["phase"] == "cancelled")
        say(f"cancelled, ended and seen {at - asked:.2f} s after it was asked for")
    tower.run("stop", "local:cluster/train", "-y")
    check(local(tower.rows("clusters"))["train"]["status"] == "STOPPED", "train is not stopped")
    tower.run("start", "local:cluster/train", "-y")
    tower.run("autostop", "local:cluster/train", "--after", "30m", "--down", "-y")
    check(local(tower.rows("clusters"))["train"]["autostop"] == 30, "autostop is not set")

    tower.run("demo", "--stop")
    check(not left_of(tower.home), f"still there: {left_of(tower.home)}")
    for kind in ("clusters", "jobs", "services", "replicas"):
        check(not local(tower.rows(kind)), f"{kind} are left: {local(tower.rows(kind))}")
    check({row["source"] for row in tower.rows("clusters")} == {"skypilot"}, "SkyPilot's clusters are gone too")
