"""What SkyPilot has is seen, by whoever may see it; what cannot be done is said."""
import os
import stat
import subprocess

from harness import Failure, check, clusters_upstream, requests_upstream, say, test, until


@test
def the_first_command_starts_a_server_and_shows_what_skypilot_has(tower):
    expected = clusters_upstream()
    check(expected, "the lab has no clusters: seed it")
    seen = until("all clusters are listed", lambda: (
        lambda rows: rows if {r["name"] for r in rows} >= set(expected) else None)(
            [r for r in tower.rows("clusters") if r["phase"] != "gone"]))
    for row in seen:
        check(row["status"] == expected[row["name"]]["status"] or row["status"] in ("INIT", "UP"),
              f"{row['name']} is {row['status']} here and {expected[row['name']]['status']} at SkyPilot")
        check(row["owner"]["name"] == expected[row["name"]]["user_name"], f"owner of {row['name']}")
    source = tower.skypilot()
    check(source["status"] == "healthy", f"the source is {source['status']}")


@test
def lists_narrow_by_owner_and_by_query(tower):
    bobs = tower.rows("clusters", "--user", "bob")
    check(bobs and all(r["owner"]["name"] == "bob" for r in bobs), f"--user bob gave {bobs}")
    same = tower.rows("clusters", "-q", "owner:bob")
    check({r["key"] for r in same} == {r["key"] for r in bobs}, "-q owner:bob differs from --user bob")


@test
def people_places_and_requests_are_listed(tower):
    people = {row["name"]: row for row in until("users", lambda: tower.rows("users"))}
    check(people["vera"]["role"] == "viewer" and people["bob"]["role"] == "user", f"the roles are {people}")
    spaces = {row["name"]: row for row in tower.rows("workspaces")}
    check(spaces["research"]["private"] and not spaces["default"].get("private"), f"workspaces: {spaces}")
    until("the Slurm cluster is among the infra", lambda: any("lab" in row["name"] for row in tower.rows("infra")))
    upstream = {r["request_id"] for r in requests_upstream() if r["name"] == "sky.launch"}
    ours = until("the last hour's launches are listed", lambda: {
        row["request_id"] for row in tower.rows("requests") if row["action"] == "sky.launch"})
    check(ours and ours <= upstream, f"launches here {ours}, at SkyPilot {upstream}")
    text = tower.run("logs", f"request/{sorted(ours)[0]}", "--tail", "200").stdout
    check(text.strip(), "the log of a launch request is empty")


@test
def a_clusters_queue_is_fetched_while_somebody_looks(tower):
    rows = until("the queue of train-llm", lambda: tower.rows("queue", "train-llm"))
    check(any(r["name"] == "prepare" for r in rows), f"no job `prepare` in {[r['name'] for r in rows]}")


@test
def logs_are_read_and_followed(tower):
    text = tower.run("logs", "cluster/train-llm", "--tail", "50").stdout
    check(text.strip(), "the log of train-llm's latest job is empty")
    check("\x1b]" not in text and "<sky-payload" not in text, "control text in the log")
    text = tower.run("show", "cluster/train-llm", "-o", "yaml").stdout
    check("prepare" in text, f"no YAML of the task in `show`: {text[:300]}")
    follow = subprocess.Popen([tower.binary, "logs", "queue/bob-gpu/1", "-f", "--tail", "5"], env=tower.env,
                              stdout=subprocess.PIPE, text=True)
    try:
        # The job writes a line every 5 s: after the five that were there, more come.
        lines = [line for _ in range(8) if (line := follow.stdout.readline())]
    finally:
        follow.terminate()
        follow.wait()
    check(len(lines) == 8 and "step" in lines[-1], f"following gave {lines}")


@test
def what_cannot_be_done_is_refused_beforehand(tower):
    def calls():
        return len([r for r in requests_upstream() if r["name"] in ("sky.stop", "sky.autostop")])

    before = calls()
    for words in (("stop", "cluster/train-llm"), ("autostop", "cluster/train-llm", "--after", "30m")):
        done = tower.run(*words, "-y", code=(1, 4))
        check("slurm" in (done.stdout + done.stderr).lower(), f"no reason given: {done.stdout}{done.stderr}")
    check(clusters_upstream()["train-llm"]["status"] == "UP", "train-llm is no longer UP")
    check(calls() == before, "SkyPilot was asked all the same")


@test
def bad_input_changes_nothing_and_says_what_to_do(tower):
    nowhere = {"SKYPILOT_API_SERVER_ENDPOINT": "http://127.0.0.1:1"}
    cases = [
        (("clusters",), nowhere, 3),
        (("clusters",), {"SKYPILOT_API_SERVER_ENDPOINT": "ftp://x"}, (2, 3)),
        (("down", "cluster/no-such-cluster", "-y"), None, 5),
        (("clusters", "-q", "colour:red"), None, 2),
        (("down", "cluster/train-llm"), None, 2),   # no terminal, no -y
        (("frobnicate",), None, 2),
    ]
    for words, env, code in cases:
        done = tower.run(*words, code=code, env=env)
        check(done.stderr.strip(), f"{words} says nothing on standard error")
    check("train-llm" in clusters_upstream(), "train-llm is gone")


def door(tower, user):
    """The address where one has to sign in, and the password that everybody in the lab has."""
    said = subprocess.run([tower.lab, "env", user], capture_output=True, text=True, check=True).stdout
    for line in said.splitlines():
        name, _, value = line.removeprefix("export ").partition("=")
        if name == "SKYPILOT_API_SERVER_ENDPOINT":
            return value.strip("'\"")
    raise Failure(f"`lab env {user}` names no endpoint: {said}")


@test
def signing_in_shows_what_that_person_may_see_and_do(tower):
    for user, role in (("bob", "user"), ("carol", "user"), ("vera", "viewer")):
        url = door(tower, user)
        base = "http://" + url.rpartition("@")[2]
        one = tower.another()
        try:
            wrong = one.run("api", "login", "-e", url.replace(":lab@", ":not-it@"), code=3)
            check("not-it" not in wrong.stdout + wrong.stderr, "the password is in the message")
            config = os.path.join(one.home, "skytower", "config.toml")
            check(not os.path.exists(config), "what was refused was saved")
            one.run("api", "login", "-e", url)
            check(stat.S_IMODE(os.stat(config).st_mode) == 0o600, "others can read the credentials")
            info = one.run("api", "info").stdout
            check(f"User: {user}" in info and f"role: {role}" in info, f"`api info` says {info}")
            check(":lab@" not in info, "the password is in `api info`")
            theirs = set(clusters_upstream(base=base, credentials=f"{user}:lab"))
            ours = until(f"{user} sees clusters", lambda: {
                row["name"] for row in one.rows("clusters") if row["phase"] != "gone"})
            check(ours == theirs, f"{user} sees {ours} here and {theirs} at SkyPilot")
            if role == "viewer":
                done = one.run("down", "cluster/train-llm", "-y", code=4)
                check("viewer" in done.stdout + done.stderr, f"no reason: {done.stdout}{done.stderr}")
            one.run("api", "logout")
            one.run("api", "stop", "--all")
        finally:
            one.close(False)
    check("train-llm" in clusters_upstream(), "train-llm is gone")


@test
def a_service_account_signs_in_with_its_token(tower):
    base = "http://" + door(tower, "bob").rpartition("@")[2]
    lab_dir = os.environ.get("LAB_DIR", "/var/tmp/skylab")
    with open(os.path.join(lab_dir, "users", "ci-bot", "token")) as file:
        token = file.read().strip()
    one = tower.another()
    try:
        one.run("api", "login", "-e", base, "--token", "-", stdin=token + "\n")
        info = one.run("api", "info").stdout
        check("ci-bot" in info and token not in info, f"`api info` says {info}")
        until("ci-bot sees its cluster", lambda: any(row["name"] == "ci-runner" for row in one.rows("clusters")))
        said = "".join(open(os.path.join(folder, name), errors="replace").read()
                       for folder, _, names in os.walk(one.home) for name in names if name.endswith(".log"))
        check(token not in said, "the token is in a log")
    finally:
        one.close(False)


@test
def the_dashboard_opens_on_a_terminal_and_costs_nothing_when_nothing_changes(tower):
    import fcntl
    import pty
    import select
    import struct
    import termios
    import time
    pid, master = pty.fork()
    if pid == 0:
        os.execve(tower.binary, [tower.binary, "--view", "workspaces"], {**tower.env, "TERM": "xterm-256color", "LANG": "C.UTF-8"})
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def read(seconds):
        got, end = b"", time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([master], [], [], left)[0]:
                got += os.read(master, 1 << 16)
        return got

    def cpu():
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    try:
        screen = b""
        deadline = time.monotonic() + 60
        while b"research" not in screen and time.monotonic() < deadline:
            screen += read(1)
        check(b"research" in screen, f"the workspaces are not on the screen: {screen[-300:]!r}")
        read(5)
        # The names of the open lists stay; what may change at any time are counts in the tabs.
        before, quiet = cpu(), []
        for _ in range(20):
            quiet.append(len(read(1)))
        spent = (cpu() - before) / 20
        say(f"20 s of an idle dashboard: {sum(quiet)} bytes to the terminal, {spent:.2%} of a core")
        check(quiet.count(0) >= 15, f"bytes in each second: {quiet}")
        check(spent <= 0.005, f"{spent:.2%} of a core")
        os.write(master, b"\x03")
        end = b""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                end += os.read(master, 1 << 16)
            except OSError:
                break
        check(b"\x1b[?1049l" in end, "the terminal was not given back")
    finally:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            pass
        os.waitpid(pid, 0)
        os.close(master)


