"""Clusters and their queues: what `sky` does appears, what skytower does is true."""
import os
import signal
import time

from harness import Watch, ask, check, clusters_upstream, requests_upstream, say, task, test, until


@test
def a_cluster_taken_down_elsewhere_leaves_a_tombstone_that_says_by_whom(tower):
    with Watch(tower, "clusters") as watch:
        watch.wait_for("bob-gpu in the watching client", lambda row: row.get("name") == "bob-gpu")
        tower.sky("bob", "down", "-y", "bob-gpu")
        ended = time.time()
        at, row = watch.wait_for("the tombstone of bob-gpu",
                                 lambda row: row.get("name") == "bob-gpu" and row.get("phase") == "gone")
        check("bob" in (row.get("why") or ""), f"the tombstone says {row.get('why')!r}")
        say(f"tombstone {at - ended:+.1f} s after `sky down` returned: {row['why']}")


@test
def a_cluster_job_cancelled_here_is_cancelled_at_skypilot(tower):
    rows = until("a running job on train-llm", lambda: [
        r for r in tower.rows("queue", "train-llm") if r["status"] == "RUNNING"])
    number = rows[0]["job_id"]
    start = time.monotonic()
    tower.run("cancel", f"queue/train-llm/{number}", "-y")
    say(f"cancelled and seen in {time.monotonic() - start:.1f} s")
    upstream = ask("/queue", {"cluster_name": "train-llm", "all_users": True, "skip_finished": False})
    status = {row["job_id"]: row["status"] for row in upstream}[number]
    check(status == "CANCELLED", f"SkyPilot says {status}")


@test
def autodown_set_here_is_in_sky_status(tower):
    tower.run("autostop", "cluster/train-llm", "--after", "3h", "--down", "-y")
    row = clusters_upstream()["train-llm"]
    check(row["autostop"] == 180 and row["to_down"], f"SkyPilot says {row['autostop']}, {row['to_down']}")
    table = tower.sky("alice", "status", "-u")
    line = next(line for line in table.splitlines() if line.startswith("train-llm"))
    check("(down)" in line, f"`sky status` says {line}")
    tower.run("autostop", "cluster/train-llm", "--off", "-y")
    check(clusters_upstream()["train-llm"]["autostop"] < 0, "autostop is still on")


@test
def a_launch_that_waits_is_cancelled_as_a_request_and_leaves_nothing(tower):
    big = task(tower.home, "e2e-big", "echo never", cpus="8", num_nodes=4,
               config={"slurm": {"sbatch_options": {"nice": 1000000}}})
    tower.sky("alice", "launch", "-y", "--async", "-c", "e2e-big", big)
    request = until("the launch is a request here", lambda: tower.row(
        "requests", action="sky.launch", target="e2e-big", phase="running"))
    # The cluster is in Slurm's queue for as long as others hold the nodes.
    until("the cluster is listed", lambda: tower.row("clusters", name="e2e-big", status="INIT"))
    tower.run("cancel", f"request/{request['request_id']}", "-y")
    status = {r["request_id"]: r["status"] for r in requests_upstream()}[request["request_id"]]
    check(status == "CANCELLED", f"SkyPilot says {status}")
    if tower.row("clusters", name="e2e-big", status="INIT"):
        tower.run("down", "cluster/e2e-big", "-y")
    check("e2e-big" not in clusters_upstream(), "e2e-big is still there")


@test
def a_server_killed_in_the_middle_of_an_action_takes_it_up_again_and_never_twice(tower):
    tower.run("down", "cluster/ci-runner", "-y", "--no-wait")
    os.kill(tower.server()["server"]["pid"], signal.SIGKILL)
    row = until("the request ends", lambda: next((
        r for r in tower.rows("requests") if r.get("action") == "cluster.down" and r["phase"] in
        ("succeeded", "failed", "degraded") and "ci-runner" in (r.get("target") or "")), None), 300)
    check(row["status"] == "SUCCEEDED", f"it ended as {row['status']}: {row.get('results')}")
    check("ci-runner" not in clusters_upstream(), "ci-runner is still there")
    downs = [r for r in requests_upstream() if r["name"] == "sky.down" and r["cluster_name"] == "ci-runner"]
    check(len(downs) == 1, f"SkyPilot saw {len(downs)} requests to take ci-runner down")
    until("what the action became at SkyPilot is not shown a second time", lambda: not [
        r for r in tower.rows("requests") if r["request_id"] == downs[0]["request_id"]], 15)
