"""SkyPilot's people at one skytower server: each is who SkyPilot says, sees what SkyPilot shows them, and acts as
themselves."""
import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from harness import PORT, UPSTREAM, Failure, ask, check, loop, say, task, test, until
from reading import door

# Nobody but its members may know of what is in it.
PRIVATE = "research"
NOBODYS = "00000000-e2e"


class Person:
    """Somebody with credentials of SkyPilot's."""

    def __init__(self, name, header):
        self.name = name
        self.headers = {"Authorization": header} if header else {}


def basic(name, password=os.environ.get("LAB_PASSWORD", "lab")):
    return Person(name, "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode())


def ci_bot():
    lab_dir = os.environ.get("LAB_DIR", "/var/tmp/skylab")
    with open(os.path.join(lab_dir, "users", "ci-bot", "token")) as file:
        return Person("ci-bot", "Bearer " + file.read().strip())


def exchange(url, person, body=None, timeout=180, tries=1):
    """One call: its status, its headers and its text. What only reads may be tried again."""
    headers = {"Content-Type": "application/json", "X-SkyPilot-API-Version": "62",
               "X-SkyPilot-Version": "e2e", **person.headers}
    data = None if body is None else json.dumps(body).encode()
    while True:
        tries -= 1
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=timeout) as got:
                return got.status, got.headers, got.read().decode(errors="replace")
        except urllib.error.HTTPError as refused:
            return refused.code, refused.headers, refused.read().decode(errors="replace")
        except OSError:
            # A busy SkyPilot now and then closes a connection.
            if tries < 1:
                raise
            time.sleep(2)


class SkyPilot:
    """SkyPilot at the door where everybody has to sign in."""

    def __init__(self, tower):
        self.base = "http://" + door(tower, "bob").rpartition("@")[2]
        host = self.base.removeprefix("http://").partition(":")[0]
        check(not host.startswith("127."), f"{self.base} asks nobody who they are")

    def refuses(self, person, path, body):
        return exchange(self.base + path, person, body)[0] == 403

    def ask(self, person, path, body=None):
        """What one person is answered: submitted and waited for, where SkyPilot does it so."""
        if body is not None:
            body = {**body, "env_vars": {"SKYPILOT_USER_ID": "e2e00000", "SKYPILOT_USER": "e2e"}}
        status, headers, text = exchange(self.base + path, person, body, tries=4)
        check(status == 200, f"SkyPilot answers {person.name}'s {path} with {status}: {text[:300]}")
        if path == "/users/role":
            return json.loads(text)
        rid = headers["X-Skypilot-Request-ID"]
        status, _, text = exchange(f"{self.base}/api/get?request_id={rid}", person, tries=4)
        check(status == 200, f"SkyPilot answers {person.name}'s {path} with {status}: {text[:300]}")
        return json.loads(json.loads(text)["return_value"])

    def lists(self, person):
        """What skytower is to show this person: SkyPilot's own lists for them, in the very words of the poller.

        The one difference that is meant: a row in a workspace that SkyPilot does not list for the person is not
        theirs to see, even where another list of SkyPilot's lets it slip through."""
        workspaces = set(self.ask(person, "/workspaces"))
        clusters = self.ask(person, "/status", {
            "cluster_names": None, "all_users": True, "summary_response": True, "refresh": "NONE",
            "include_credentials": False, "include_handle": False})
        jobs = self.ask(person, "/jobs/queue/v2", {"all_users": True})["jobs"]
        for rows, what in ((clusters, "clusters"), (jobs, "jobs")):
            leaked = {row.get("workspace") for row in rows} - workspaces - {None}
            if leaked:
                say(f"SkyPilot shows {person.name} {what} in {leaked}; skytower must not")

        def theirs(row):
            return row.get("workspace") is None or row["workspace"] in workspaces
        return {
            "workspaces": workspaces,
            "clusters": {row["name"] for row in clusters if theirs(row)},
            "jobs": {row["job_id"] for row in jobs if theirs(row)},
        }


class Server:
    """One skytower server for everybody, which watches SkyPilot as its administrator."""

    def __init__(self, url):
        self.url = url

    def get(self, person, path, timeout=180):
        status, _, text = exchange(self.url + path, person, timeout=timeout)
        return status, text

    def post(self, person, action, *keys, **more):
        status, _, text = exchange(f"{self.url}/api/v1/requests", person,
                                   {"action": action, "targets": list(keys), **more})
        return status, text

    def rows(self, person, kind):
        status, text = self.get(person, f"/api/v1/{kind}?limit=10000")
        check(status == 200, f"{person.name}'s {kind}: {status} {text[:300]}")
        return [row for row in json.loads(text)["rows"] if row["phase"] != "gone"]

    def lists(self, person):
        names = {"workspaces": "name", "clusters": "name", "jobs": "job_id"}
        return {kind: {row[name] for row in self.rows(person, kind)} for kind, name in names.items()}

    def whoami(self, person):
        status, text = self.get(person, "/api/health")
        return json.loads(text).get("user") if status == 200 else None

    def ended(self, person, request):
        def look():
            status, text = self.get(person, f"/api/v1/requests/{request}?wait=30s")
            check(status == 200, f"{person.name}'s request: {status} {text[:300]}")
            row = json.loads(text)
            return row if row.get("ended_at") else None
        return until("the request ends", look, 300)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextlib.contextmanager
def serving(tower, skypilot):
    """`skytower-server` with a configuration file, as an administrator would run it."""
    folder = tempfile.mkdtemp(prefix="skytower-e2e-access-")
    program = os.path.join(os.path.dirname(tower.binary), "skytower-server")
    password, config, log = (os.path.join(folder, name) for name in ("password", "server.toml", "server.log"))
    with open(os.open(password, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(os.environ.get("LAB_PASSWORD", "lab"))
    port = free_port()
    with open(config, "w") as file:
        file.write(f'listen = "127.0.0.1:{port}"\nhome = "{folder}/home"\nengine = "none"\n\n'
                   f'[source.lab]\nurl = "{skypilot.base}"\nuser = "admin"\npassword_file = "{password}"\n')
    with open(log, "w") as output:
        process = subprocess.Popen([program, "--config", config], env={**tower.env, "SKYTOWER_HOME": f"{folder}/home"},
                                   stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    server = Server(f"http://127.0.0.1:{port}")

    def answers():
        check(process.poll() is None, "the server ended")
        try:
            return server.get(Person("nobody", None), "/api/health")[0] == 200
        except OSError:
            return False
    try:
        until("the server answers", answers, 60)
        yield server
        keeps_no_secret(f"{folder}/home", log)
    except BaseException:
        with open(log, errors="replace") as file:
            lines = file.read()[-3000:].splitlines()
            # Behind this one is a password.
            shown = [line for before, line in zip([""] + lines, lines) if "shown this once" not in before]
            print("\n".join([f"--- {log}", *shown]))
        raise
    finally:
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def keeps_no_secret(home, log):
    """What people signed in with, and SkyPilot's keys, are in no file of the server."""
    people = [basic(name) for name in ("admin", "alice", "bob", "vera")] + [ci_bot()]
    secrets = {person.headers["Authorization"].partition(" ")[2].encode() for person in people}
    secrets.add(b"PRIVATE KEY")
    files = [log] + [os.path.join(folder, name) for folder, _, names in os.walk(home) for name in names]
    check(len(files) > 3, f"these are not all files of a server: {files}")
    for path in files:
        with open(path, "rb") as file:
            content = file.read()
        check(not any(secret in content for secret in secrets), f"{path} holds a secret")


def segment(key):
    return key.replace("/", "%2F")


def private(rows):
    return [row for row in rows if (row.get("workspace") or "").rpartition("/")[2] == PRIVATE]


@test
def each_of_skypilots_people_is_who_skypilot_says_and_sees_what_skypilot_shows_them(tower):
    skypilot = SkyPilot(tower)
    with serving(tower, skypilot) as server:
        for person in (basic("vera"), basic("alice"), basic("bob"), basic("admin"), ci_bot()):
            said = skypilot.ask(person, "/users/role")
            check(said["id"] and said["name"] == person.name, f"SkyPilot says that {person.name} is {said}")
            user = server.whoami(person)
            check(user and user["ids"][0] == said["id"] and user["name"] == said["name"]
                  and user["role"] == said["role"], f"SkyPilot says {said}, skytower says {user}")

            def differ(person=person):
                theirs, ours = skypilot.lists(person), server.lists(person)
                return {kind: (f"only at SkyPilot: {theirs[kind] - ours[kind]}", f"only here: {ours[kind] - theirs[kind]}")
                        for kind in theirs if theirs[kind] != ours[kind]}
            different = {}

            def same():
                nonlocal different
                different = differ()
                return not different
            try:
                until(f"{person.name} is shown the same", same, 180)
            except Failure as failure:
                raise Failure(f"{failure}: {different}") from failure
            lists = server.lists(person)
            check(lists["clusters"], f"{person.name} sees no clusters: seed the lab")
            member = person.name in ("alice", "admin")
            check((PRIVATE in lists["workspaces"]) == member, f"{person.name} sees {lists['workspaces']}")
            check(("carol-dev" in lists["clusters"]) == member, f"{person.name} sees {lists['clusters']}")
            say(f"{person.name}: {said['role']}, {', '.join(f'{len(v)} {k}' for k, v in lists.items())}")


@test
def what_is_in_a_private_workspace_does_not_exist_for_others(tower):
    skypilot, alice, bob = SkyPilot(tower), basic("alice"), basic("bob")
    with serving(tower, skypilot) as server:
        # With the workspaces and the jobs the lists are whole.
        until("the jobs were read", lambda: server.lists(alice) == skypilot.lists(alice), 180)
        for kind, down in (("clusters", "cluster.down"), ("jobs", "job.cancel")):
            for row in private(server.rows(alice, kind)):
                key = row["key"]
                source, noun, bare = key.split("/", 2)
                other = f"{source}/{noun}/{NOBODYS}"

                def answers(person, key):
                    """Everything that can be tried, and how it is answered. The action that is not a dry run does no
                    harm where it succeeds: a cluster would go when idle for ten hours."""
                    at = f"/api/v1/{kind}/{segment(key)}"
                    tried = [server.get(person, at), server.get(person, f"{at}/logs?tail=3"),
                             server.get(person, f"{at}/logs?channel=controller"),
                             server.post(person, down, key, dry_run=True, others_confirmed=True)]
                    if kind == "clusters":
                        tried.append(server.post(person, "cluster.autostop", key, others_confirmed=True,
                                                 options={"idle_minutes": 600, "down": True}))
                    return tried

                def neutral(tried, bare):
                    return [(status, text.replace(segment(bare), NOBODYS).replace(bare, NOBODYS)) for status, text in tried]
                his = neutral(answers(bob, key), bare)
                check(all(status == 404 for status, _ in his), f"bob is answered {his} about {key}")
                check(his == neutral(answers(bob, other), NOBODYS),
                      f"bob is answered otherwise about {row['name']} than about what is not there: {his}")
                check(row["name"] not in json.dumps(his), f"the answers name {row['name']}: {his}")
                hers = server.get(alice, f"/api/v1/{kind}/{segment(key)}")
                check(hers[0] == 200 and row["name"] in hers[1], f"alice is answered {hers} about {key}")
        dev = next((row for row in private(server.rows(alice, "clusters")) if row["name"] == "carol-dev"), None)
        check(dev, "alice does not see carol-dev")
        status, text = server.get(alice, f"/api/v1/clusters/{segment(dev['key'])}/logs?tail=5")
        check(status == 200 and text.strip(), f"alice reads {status} {text[:200]!r} in carol-dev's log")
        dry = server.post(alice, "cluster.down", dev["key"], dry_run=True, others_confirmed=True)
        check(dry[0] == 200, f"alice may not do anything to carol-dev: {dry}")

        for kind in ("clusters", "jobs", "services", "pools", "requests", "users", "workspaces", "infra", "sources"):
            text = json.dumps(server.rows(bob, kind))
            check(PRIVATE not in text and "carol-dev" not in text, f"bob's {kind} tell of {PRIVATE}")
        status, text = server.get(bob, "/api/v1/status")
        check(status == 200 and PRIVATE not in text and "carol-dev" not in text, f"the status tells bob of {PRIVATE}")
        counted = json.loads(text)["counts"]["lab"]["cluster"]
        check(counted == len(server.rows(bob, "clusters")), f"bob is told of {counted} clusters")


@test
def what_one_may_do_is_decided_as_at_skypilot_and_done_under_ones_own_name(tower):
    skypilot, vera, bob = SkyPilot(tower), basic("vera"), basic("bob")
    with serving(tower, skypilot) as server:
        tower.sky("bob", "jobs", "launch", "-y", "--async", "-n", "e2e-bobs", task(tower.home, "e2e-bobs", loop("epoch")))

        def job():
            rows = [row for row in server.rows(bob, "jobs") if row["name"] == "e2e-bobs"]
            return next((row for row in rows if row["phase"] in ("pending", "starting", "running")), None)
        row = until("bob sees his job", job, 420)
        status, text = server.post(vera, "job.cancel", row["key"], others_confirmed=True)
        check(status == 403 and "viewer" in text, f"vera is answered {status} {text[:300]}")
        check(skypilot.refuses(vera, "/jobs/cancel", {"job_ids": [row["job_id"]], "all": False}),
              "SkyPilot lets vera cancel jobs")
        status, text = server.post(bob, "job.cancel", row["key"])
        check(status == 202, f"bob is answered {status} {text[:300]}")
        done = server.ended(bob, json.loads(text)["request_id"])
        check(done["status"] == "SUCCEEDED", f"it ended as {done['status']}: {done.get('results')}")
        # At the door without questions everybody's requests are shown.
        fields = "&".join(f"fields={field}" for field in ("request_id", "name", "user_id"))
        upstream = {r["request_id"]: r for r in ask(f"/api/status?all_status=true&limit=5000&{fields}")}
        sent = upstream[done["results"][0]["upstream"]]
        his = skypilot.ask(bob, "/users/role")["id"]
        check(sent["name"] == "sky.jobs.cancel" and sent["user_id"] == his, f"bob is {his}; SkyPilot was asked {sent}")
        hers = skypilot.ask(vera, "/users/role")["id"]
        check(not [r for r in upstream.values() if r["name"] == "sky.jobs.cancel" and r["user_id"] == hers],
              "vera's cancel went to SkyPilot")


@test
def nobody_is_let_in_whom_skypilot_does_not_know(tower):
    skypilot = SkyPilot(tower)
    anonymous = Person("nobody", None)
    # Where SkyPilot asks nobody who they are, everybody would be an administrator.
    _, _, text = exchange(f"{UPSTREAM}/users/role", anonymous)
    check(json.loads(text)["role"] == "admin", f"the door without questions at {PORT} says {text}")
    strangers = (basic("alice", "not-it"), basic("admin", "not-it"), basic("mallory"), basic(""),
                 Person("a made-up token", "Bearer sky_made-up"), Person("another token", "Bearer made-up"),
                 Person("no scheme", "alice:lab"), anonymous)
    forged = {"X-Auth-Request-Email": "admin", "X-Forwarded-User": "admin", "X-Forwarded-For": "127.0.0.1"}
    # Not signed in; and, after so many who were not, asked to wait.
    refused = (401, 429)
    with serving(tower, skypilot) as server:
        first = server.get(strangers[0], "/api/v1/clusters")
        check(first[0] == 401, f"a wrong password is answered {first}")
        for person in strangers:
            for extra in ({}, forged):
                person.headers = {**person.headers, **extra}
                status, text = server.get(person, "/api/v1/clusters")
                check(status in refused, f"{person.name}, {list(extra)}: {status} {text[:200]}")
                status, text = server.post(person, "cluster.down", f"lab/cluster/{NOBODYS}", dry_run=True)
                check(status in refused, f"{person.name}, {list(extra)}: {status} {text[:200]}")
                check(not server.whoami(person), f"{person.name}, {list(extra)} is {server.whoami(person)}")
        until("alice can sign in all the same", lambda: (server.whoami(basic("alice")) or {}).get("role") == "user", 120)
