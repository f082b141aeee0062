"""Services with replicas, pools with workers."""
from harness import ask, check, say, task, test, until

SITE = ("mkdir -p site && cd site && hostname > index.html && exec python3 -m http.server 8080 --bind "
        "$(echo \"$SKYPILOT_NODE_IPS\" | head -n1)")


def services():
    return {row["name"]: row for row in ask("/serve/status", {"service_names": None}) or []}


def pools():
    return {row["name"]: row for row in ask("/jobs/pool_status", {"pool_names": None}) or []}


@test
def a_service_with_replicas_is_seen_read_and_torn_down(tower):
    # Two replicas of more than half a node: never on the same one, where their ports would collide.
    spec = task(tower.home, "e2e-site", SITE, cpus="5", resources={"ports": 8080}, service={
        "readiness_probe": {"path": "/", "initial_delay_seconds": 240, "timeout_seconds": 10},
        "replicas": 2, "ports": 8080})
    tower.sky("bob", "serve", "up", "-y", "-n", "e2e-site", spec)
    row = until("the service is ready", lambda: tower.row("services", name="e2e-site", status="READY"), 600)
    check(row["owner"]["name"] == "bob", f"owner: {row['owner']}")
    replicas = until("two replicas are ready", lambda: (
        lambda rows: rows if sum(r["status"] == "READY" for r in rows) == 2 else None)(
            [r for r in tower.rows("replicas") if r["service"] == "e2e-site"]), 420)
    text = tower.run("logs", f"replica/e2e-site/{replicas[0]['replica_id']}", "--tail", "30", code=None)
    check(text.stdout.strip(), f"the replica's log is empty: {text.stderr}")
    text = tower.run("logs", "service/e2e-site", "--controller", "--tail", "30", code=None)
    check(text.stdout.strip(), f"the controller's log is empty: {text.stderr}")
    number = replicas[0]["replica_id"]
    tower.run("down", f"replica/e2e-site/{number}", "-y")
    upstream = {r["replica_id"]: r["status"] for r in services()["e2e-site"]["replica_info"]}
    check(upstream.get(number) in (None, "SHUTTING_DOWN"), f"SkyPilot says {upstream}")
    say(f"replica {number} terminated; SkyPilot has {upstream}")
    tower.run("down", "service/e2e-site", "-y", timeout=600)
    left = services().get("e2e-site")
    check(left is None or left["status"] == "SHUTTING_DOWN", f"SkyPilot says {left and left['status']}")


@test
def a_pool_with_a_worker_is_seen_and_torn_down(tower):
    import json
    import os
    path = os.path.join(tower.home, "e2e-pool.yaml")
    with open(path, "w") as file:
        json.dump({"pool": {"workers": 1}, "setup": "echo ready",
                   "resources": {"infra": "slurm/lab", "cpus": "1", "memory": "1"}}, file)
    os.chmod(tower.home, 0o755)
    tower.sky("alice", "jobs", "pool", "apply", "-y", "-p", "e2e-pool", path)
    until("the pool is ready", lambda: tower.row("pools", name="e2e-pool", status="READY"), 600)
    workers = [row for row in tower.rows("workers") if row["pool"] == "e2e-pool"]
    check(len(workers) == 1 and workers[0]["status"] == "READY", f"workers: {workers}")
    tower.run("down", "pool/e2e-pool", "-y", timeout=600)
    left = pools().get("e2e-pool")
    check(left is None or left["status"] == "SHUTTING_DOWN", f"SkyPilot says {left and left['status']}")
