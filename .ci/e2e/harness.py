"""What the end-to-end tests are made of: the binary, watching clients, the lab, and SkyPilot itself."""
import base64
import collections
import json
import os
import queue
import re
import selectors
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

PORT = os.environ.get("LAB_PORT", "46580")
UPSTREAM = f"http://127.0.0.1:{PORT}"
TESTS = []


def test(function):
    TESTS.append(function)
    return function


class Failure(Exception):
    pass


def check(condition, text):
    if not condition:
        raise Failure(text)


def until(what, probe, seconds=120):
    """Asks again and again until the answer is true; fails when it never is."""
    deadline = time.monotonic() + seconds
    last = None
    while time.monotonic() < deadline:
        last = probe()
        if last:
            return last
        time.sleep(0.3)
    raise Failure(f"{what}: not within {seconds} s (last answer {last!r})")


def say(text):
    print(f"    {text}", flush=True)


class Watch:
    """A watching client: the lines of `skytower … --watch -o json`, as they come."""

    def __init__(self, tower, *words):
        self.process = subprocess.Popen(
            [tower.binary, *words, "--watch", "-o", "json"], env=tower.env,
            stdout=subprocess.PIPE, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put((time.time(), json.loads(line)))

    def wait_for(self, what, matches, seconds=120):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                at, row = self.lines.get(timeout=1)
            except queue.Empty:
                continue
            if matches(row):
                return at, row
        raise Failure(f"{what}: the watching client was not told within {seconds} s")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


class Sockets:
    """Many watching websockets in one thread; what they are sent is read and thrown away."""

    def __init__(self, url, token, count):
        host, port = url.removeprefix("http://").split(":")
        self.selector = selectors.DefaultSelector()
        self.sockets = [self._open(host, int(port), token) for _ in range(count)]
        self.open = True
        self.bytes = collections.Counter()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _open(self, host, port, token):
        sock = socket.create_connection((host, port), timeout=30)
        key = base64.b64encode(os.urandom(16)).decode()
        sock.sendall((f"GET /api/v1/watch HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
                      f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
                      f"Sec-WebSocket-Protocol: skytower.v1.json\r\nAuthorization: Bearer {token}\r\n\r\n").encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(4096)
        check(head.startswith(b"HTTP/1.1 101"), f"a websocket was answered {head[:60]!r}")
        words = json.dumps({"type": "subscribe", "kinds": []}).encode()
        check(len(words) < 126, "a longer frame needs a longer head")
        mask = os.urandom(4)
        sock.sendall(bytes([0x81, 0x80 | len(words)]) + mask
                     + bytes(byte ^ mask[i % 4] for i, byte in enumerate(words)))
        sock.setblocking(False)
        self.selector.register(sock, selectors.EVENT_READ)
        return sock

    def _read(self):
        while self.open:
            for key, _ in self.selector.select(timeout=0.2):
                try:
                    piece = key.fileobj.recv(1 << 16)
                except OSError:
                    piece = b""
                self.bytes[key.fd] += len(piece)
                if not piece:
                    self.selector.unregister(key.fileobj)

    def alive(self):
        return len(self.selector.get_map() or {})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.open = False
        self.thread.join()
        for sock in self.sockets:
            sock.close()


class Tower:
    """The skytower binary with a state folder of its own."""

    def __init__(self, binary, lab, endpoint=UPSTREAM):
        self.binary = os.path.abspath(binary)
        self.lab = lab
        self.home = tempfile.mkdtemp(prefix="skytower-e2e-")
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SKY", "XDG_"))},
            "SKYTOWER_HOME": self.home,
            "XDG_CONFIG_HOME": self.home,
            "HOME": self.home,
        }
        if endpoint:
            self.env["SKYPILOT_API_SERVER_ENDPOINT"] = endpoint

    def another(self, endpoint=None):
        """Somebody else's skytower, with a home of its own."""
        return Tower(self.binary, self.lab, endpoint)

    def run(self, *words, code=0, env=None, timeout=300, stdin=None):
        try:
            done = subprocess.run([self.binary, *words], env={**self.env, **(env or {})}, input=stdin,
                                  stdin=subprocess.DEVNULL if stdin is None else None,
                                  capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired as late:
            raise Failure(f"`skytower {' '.join(words)}` did not end within {timeout} s: "
                          f"{(late.stdout or b'')[-600:]!r} {(late.stderr or b'')[-600:]!r}") from late
        if code is not None:
            codes = code if isinstance(code, tuple) else (code,)
            check(done.returncode in codes,
                  f"`skytower {' '.join(words)}` ended with {done.returncode}, not {code}: "
                  f"{done.stdout[-600:]}{done.stderr[-600:]}")
        return done

    def rows(self, *words):
        return json.loads(self.run(*words, "-o", "json").stdout)

    def row(self, *words, **wanted):
        """The one row of a list with these values; none when there is not exactly one."""
        found = [row for row in self.rows(*words) if all(row.get(k) == v for k, v in wanted.items())]
        return found[0] if len(found) == 1 else None

    def server(self):
        return json.loads(self.run("api", "status", "-o", "json").stdout)

    def skypilot(self):
        """What the server says of SkyPilot; the local engine is another source of it."""
        return next(s for s in self.server()["sources"] if s["flavour"] == "skypilot")

    def door(self):
        """The address and the token of the server in the background."""
        homes = [folder for folder, _, files in os.walk(self.home) if "server.json" in files]
        check(homes, "no server has written its card")
        with open(os.path.join(homes[0], "server.json")) as card, open(os.path.join(homes[0], "token")) as token:
            return json.load(card)["url"], token.read().strip()

    def get(self, path):
        url, token = self.door()
        request = urllib.request.Request(f"{url}{path}", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=30) as got:
            return got.read().decode()

    def upstream_calls(self):
        return sum(float(line.split()[-1]) for line in self.get("/metrics").splitlines()
                   if line.startswith("skytower_upstream_calls_total"))

    def sky(self, user, *words, timeout=600):
        """The `sky` command line as one of the lab's people; a busy machine misses its health checks."""
        for _ in range(6):
            done = subprocess.run([self.lab, "as", user, "sky", *words], stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=timeout)
            if done.returncode == 0 or "ApiServerConnectionError" not in done.stdout + done.stderr:
                break
            time.sleep(3)
        check(done.returncode == 0, f"sky {' '.join(words)}: {done.stdout[-400:]}{done.stderr[-400:]}")
        return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)

    def close(self, failed):
        self.run("api", "stop", "--all", code=None)
        if failed:
            for folder, _, files in os.walk(self.home):
                for name in files:
                    if name.endswith(".log"):
                        print(f"--- {name}")
                        with open(os.path.join(folder, name), errors="replace") as log:
                            print(log.read()[-3000:])
        shutil.rmtree(self.home, ignore_errors=True)


def ask(path, body=None, base=UPSTREAM, credentials=None):
    """SkyPilot itself, past skytower: submit and get."""
    headers = {"Content-Type": "application/json", "X-SkyPilot-API-Version": "62",
               "X-SkyPilot-Version": "e2e"}
    if credentials:
        headers["Authorization"] = "Basic " + base64.b64encode(credentials.encode()).decode()

    def call(where, data=None, timeout=180):
        # A busy SkyPilot now and then closes a connection; to read again harms nobody.
        for attempt in range(4):
            try:
                with urllib.request.urlopen(urllib.request.Request(base + where, data, headers), timeout=timeout) as got:
                    return got.headers["X-Skypilot-Request-ID"], json.load(got)
            except urllib.error.HTTPError:
                raise
            except (urllib.error.URLError, OSError):
                if attempt == 3:
                    raise
                time.sleep(2)

    if body is None:
        return call(path)[1]
    body = {**body, "env_vars": {"SKYPILOT_USER_ID": "e2e00000", "SKYPILOT_USER": "e2e"}}
    rid, _ = call(path, json.dumps(body).encode())
    return json.loads(call(f"/api/get?request_id={rid}")[1]["return_value"])


def clusters_upstream(**door):
    rows = ask("/status", {"all_users": True, "include_credentials": False, "include_handle": False,
                           "summary_response": True}, **door)
    return {row["name"]: row for row in rows}


def jobs_upstream(*ids):
    rows = ask("/jobs/queue/v2", {"all_users": True, "job_ids": list(ids)})
    return {row["job_id"]: row for row in rows["jobs"]}


def requests_upstream():
    fields = "&".join(f"fields={f}" for f in ("request_id", "name", "cluster_name", "status"))
    return ask(f"/api/status?all_status=true&limit=5000&{fields}")


def loop(words, pause=2):
    return f'for i in $(seq 1 100000); do echo "{words} $i"; sleep {pause}; done'


def task(folder, name, run, cpus="1", **more):
    """A task file of the size that fits the lab."""
    path = os.path.join(folder, f"{name}.yaml")
    resources = {"infra": "slurm/lab", "cpus": cpus, "memory": "1", **more.pop("resources", {})}
    with open(path, "w") as file:
        # JSON is YAML.
        json.dump({"name": name, "resources": resources, "run": run, **more}, file)
    os.chmod(folder, 0o755)
    return path
