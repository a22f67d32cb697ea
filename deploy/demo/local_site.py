"""What the steps of the tour share: a local site, the command line, bare requests, and patience."""

import json
import os
import subprocess
import time

from writers import LOST

SITE = "plant"
STEP_S_MAX = 60.0


class Wrong(Exception):
    """Something that is not as it should be."""


def check(condition, text):
    if not condition:
        raise Wrong(text)


class LocalSite:
    """What the steps share."""

    def __init__(self, bin_dir, folder):
        self.flotilla = bin_dir / "flotilla"
        self.agent_bin = bin_dir / "flotilla-agent"
        for program in (self.flotilla, self.agent_bin):
            check(program.is_file(), f"{program} is not built; run `cargo build --workspace --bins`")
        self.folder = folder
        self.data = folder / "site"
        self.started = []
        self.facts = []
        self.nats = None

    # --- saying ---

    def step(self, title):
        print(f"\n== {title}", flush=True)

    def measured(self, what, value):
        self.facts.append((what, value))
        print(f"   {what}: {value}", flush=True)

    # --- the command line ---

    def cli(self, *words, site=SITE, shown=True):
        """Runs `flotilla` and gives its standard output; it must succeed."""
        done = self.try_cli(*words, site=site, shown=shown)
        check(done.returncode == 0,
              f"flotilla {words[0]} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def try_cli(self, *words, site=SITE, shown=True):
        """Runs `flotilla` and gives what came of it, whatever that is."""
        if shown:
            print(f"   $ flotilla {' '.join(str(word) for word in words)}", flush=True)
        environment = dict(os.environ, FLOTILLA_SITE=site, NO_COLOR="1")
        if self.nats is not None:
            environment["FLOTILLA_SERVER"] = self.url
        return subprocess.run([str(self.flotilla), *map(str, words)], env=environment, check=False,
                              capture_output=True, text=True, timeout=180)

    def item(self, *words):
        """What `flotilla` tells of something, as a program reads it."""
        return json.loads(self.cli(*words, "-o", "json", shown=False))

    # --- bare NATS ---

    def request(self, rest, body=None, headers=None, site=SITE, nats=None, timeout_s=5.0):
        """One request, as any NATS client makes it."""
        payload = b"" if body is None else json.dumps(body).encode()
        return (nats or self.nats).request(f"flotilla.{site}.{rest}", payload, headers, timeout_s)

    def accepted(self, rest, body=None, headers=None, site=SITE):
        reply = self.request(rest, body, headers, site)
        check(reply.get("ok") is True, f"{rest} was not accepted: {reply}")
        return reply

    def until(self, what, look, limit_s=STEP_S_MAX):
        """Looks again and again until `look` gives something; lost requests are no news."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            try:
                found = look()
            except LOST:
                found = None
            if found:
                return found
            time.sleep(0.02)
        raise Wrong(f"after {limit_s:.0f} s still not so: {what}")

    def site_facts(self, site=SITE):
        def look():
            reply = self.request("control.query.site.get", site=site, timeout_s=1.0)
            return reply["item"] if reply.get("ok") else None
        return self.until(f"site {site} answers", look)

    def status(self, name):
        reply = self.request(f"control.node.{name}.status", timeout_s=1.0)
        return reply["item"] if reply.get("ok") else None

    def leader(self):
        """The agent that leads, as everybody running sees it."""
        node = self.until("there is a leader", lambda: self.site_facts().get("leader"))
        return next(agent for agent in self.agents if agent["node_id"] == node)

    def served(self):
        """How many requests each agent has answered, by node name."""
        stats = self.nats.gather(f"$SRV.STATS.flotilla-{SITE}", len(self.agents))
        count = lambda it: sum(point.get("num_requests", 0) for point in it["endpoints"])
        return {it["id"]: count(it) for it in stats}

    # --- agents ---

    def start_again(self, agent):
        """Starts an agent that was killed."""
        log = open(self.data / "logs" / f"{agent['name']}.log", "ab")
        process = subprocess.Popen(
            [str(self.agent_bin), "run", "--data-dir", agent["data_dir"], "--nats", self.url,
             "--set", "mesh.listen=/ip4/127.0.0.1/tcp/0", "--set", "mesh.mdns=false",
             "--set", f"devices.simulated_dir={self.data}"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.started.append(process)
        agent["pid"] = process.pid
