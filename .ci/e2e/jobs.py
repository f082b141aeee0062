"""Managed jobs."""
import datetime
import subprocess
import time

from harness import Watch, ask, check, jobs_upstream, loop, say, task, test, until


def recorded(job_id, status):
    """When SkyPilot itself wrote down that the job got this status (its clock is this machine's)."""
    for event in ask("/jobs/events", {"job_id": job_id, "task_id": 0, "limit": 50, "include_cluster_events": False}):
        if event["new_status"] == status:
            return datetime.datetime.fromisoformat(event["timestamp"]).timestamp()
    return None


@test
def managed_jobs_run_are_read_and_cancelled_from_both_sides(tower):
    with Watch(tower, "jobs") as watch:
        for user, name in (("bob", "e2e-elsewhere"), ("alice", "e2e-here")):
            tower.sky(user, "jobs", "launch", "-y", "--async", "-n", name,
                      task(tower.home, name, loop("epoch")))
        running = {}
        for name in ("e2e-elsewhere", "e2e-here"):
            running[name] = until(f"{name} runs", lambda name=name: tower.row("jobs", name=name, status="RUNNING"), 420)
        there, here = (running[name]["job_id"] for name in ("e2e-elsewhere", "e2e-here"))
        check(running["e2e-elsewhere"]["owner"]["name"] == "bob", f"owner: {running['e2e-elsewhere']['owner']}")

        text = until("the job's log", lambda: (
            lambda text: text if "epoch" in text else None)(tower.run("logs", f"job/{here}", "--tail", "20", code=None).stdout))
        check("<sky-payload" not in text and "\x1b]" not in text, "control text in the log")
        check(tower.run("logs", f"job/{here}", "--controller", "--tail", "50").stdout.strip(), "no controller log")
        follow = subprocess.Popen([tower.binary, "logs", f"job/{here}", "-f", "--tail", "2"], env=tower.env,
                                  stdout=subprocess.PIPE, text=True)
        lines = [line for _ in range(6) if (line := follow.stdout.readline())]
        follow.terminate()
        follow.wait()
        check(len(lines) == 6, f"following gave {lines}")

        seen = {}
        tower.sky("bob", "jobs", "cancel", "-y", str(there))
        for status in ("CANCELLING", "CANCELLED"):
            at, _ = watch.wait_for(f"{there} is {status}", lambda row, status=status: (
                row.get("job_id") == there and row.get("status") in (status, "CANCELLED")), 240)
            seen[status] = at
        for status, at in seen.items():
            if when := recorded(there, status):
                say(f"{status}: SkyPilot wrote it down at {time.strftime('%T', time.localtime(when))}, "
                    f"seen {at - when:+.1f} s after")
        end = jobs_upstream(there)[there]["end_at"]
        say(f"the end that SkyPilot wrote down was seen {seen['CANCELLED'] - end:+.1f} s after it")

        start = time.monotonic()
        tower.run("cancel", f"job/{here}", "-y")
        say(f"cancelled from here, and seen, in {time.monotonic() - start:.1f} s")
        status = jobs_upstream(here)[here]["status"]
        check(status in ("CANCELLING", "CANCELLED"), f"SkyPilot says {status}")
        table = tower.sky("alice", "jobs", "queue", "-u", "-a")
        line = next((line for line in table.splitlines() if "e2e-here" in line), "")
        check("CANCELL" in line, f"`sky jobs queue` says {line!r}")
        tower.run("wait", f"job/{here}", "--for", "done", "--timeout", "5m", code=(0, 1))
        done = tower.run("cancel", f"job/{here}", "-y", code=None)
        check(done.returncode != 0 and "ended already" in done.stdout + done.stderr, "an ended job was cancelled again")


@test
def a_failed_job_says_why(tower):
    name = "e2e-fails"
    tower.sky("bob", "jobs", "launch", "-y", "--async", "-n", name, task(tower.home, name, "echo nan; exit 7"))
    row = until(f"{name} fails", lambda: tower.row("jobs", name=name, status="FAILED"), 420)
    check("exit code 7" in (row.get("why") or "").lower() or row.get("why"), f"it says {row.get('why')!r}")
    say(f"why: {row.get('why')}")
    done = tower.run("wait", f"job/{row['job_id']}", "--for", "succeeded", code=1)
    check("FAILED" in done.stdout + done.stderr, f"`wait` says {done.stdout}{done.stderr}")
