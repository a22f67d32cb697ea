#!/usr/bin/env python3
"""Fetch what some tests need from Debian's packages, and print where it is.

    deploy/counterparts/fetch-from-debian.py [--quiet] [--must]

- a guest kernel (user-mode-linux), on which agents lose power for real
- etcd (etcd-server), which goes through the same power cuts
- Debian's own nats-server, older than the pinned one: 2.9.10 in Debian 12

Each is taken from its environment variable, or downloaded once by apt, which checks its
signature, and unpacked into .tools/; nothing is installed. apt works with lists of its own
there, so it takes no rights and leaves the system's lists alone. For each that was found
there is one line on stdout, fit for `env $(fetch-from-debian.py) …`:

    FLOTILLA_GUEST_KERNEL=/path/of/linux.uml
    FLOTILLA_ETCD=/path/of/etcd
    FLOTILLA_DEBIAN_NATS_SERVER=/path/of/nats-server

For one that can't be had there is a reason on stderr, and the tests that need it say that
they were not run. Exit code 0; with --must it is 1 if something is missing.
"""

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent.parent / ".tools"
STEP_SECONDS_MAX = 300
# Variable, package, the program in it, and whether one on PATH does as well.
WANTED = [
    ("FLOTILLA_GUEST_KERNEL", "user-mode-linux", "usr/bin/linux.uml", True),
    ("FLOTILLA_ETCD", "etcd-server", "usr/bin/etcd", True),
    ("FLOTILLA_DEBIAN_NATS_SERVER", "nats-server", "usr/sbin/nats-server", False),
]


class Failed(Exception):
    """A reason to print."""


def say(text):
    print(f"fetch-from-debian: {text}", file=sys.stderr)


def run(command, **options):
    try:
        done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=STEP_SECONDS_MAX, check=False, **options)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise Failed(f"{command[0]} … ended with {done.returncode}: {done.stdout.strip()[-500:]}")
    return done.stdout


class Apt:
    """apt with a folder of its own, whose lists are fetched when they are first needed."""

    def __init__(self, folder):
        self.folder = folder
        self.fresh = False

    def get(self, *arguments, **options):
        state, cache = self.folder / "state", self.folder / "cache"
        for path in (state / "lists" / "partial", cache / "archives" / "partial"):
            path.mkdir(parents=True, exist_ok=True)
        own = ["-o", f"Dir::State={state}", "-o", f"Dir::State::status={os.devnull}", "-o", f"Dir::Cache={cache}",
               "-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1"]
        return run(["apt-get", "-q", *own, *arguments], **options)

    def download(self, package, folder):
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise Failed("this machine has no apt, so it is no Debian")
        if not self.fresh:
            self.get("update")
            self.fresh = True
        self.get("download", package, cwd=folder)
        found = sorted(folder.glob(f"{package}_*.deb"))
        if len(found) != 1:
            raise Failed(f"apt left {len(found)} packages")
        return found[0]


def unpacked(package, inside):
    """The newest folder of a package that was fetched before."""
    folders = sorted(TOOLS.glob(f"{package}_*"), key=lambda path: path.stat().st_mtime)
    programs = [folder / inside for folder in folders if (folder / inside).is_file()]
    return programs[-1] if programs else None


def fetch(apt, package, inside):
    say(f"fetching {package}")
    with tempfile.TemporaryDirectory(prefix="debian-", dir=TOOLS) as work:
        work = Path(work)
        archive = apt.download(package, work)
        run(["dpkg-deb", "-x", archive, work / "out"])
        if not (work / "out" / inside).is_file():
            raise Failed(f"{archive.name} holds no {inside}; its layout has changed")
        folder = TOOLS / archive.stem.replace("%", "-")
        if folder.exists():
            shutil.rmtree(folder)
        # The modules of the guest kernel are large and not needed: what is used is built in.
        shutil.rmtree(work / "out" / "usr" / "lib" / "uml", ignore_errors=True)
        os.rename(work / "out", folder)
    return folder / inside


def find(apt, variable, package, inside, any_does):
    chosen = os.environ.get(variable)
    if chosen:
        if not os.access(chosen, os.X_OK):
            raise Failed(f"{variable} names {chosen}, which is no program")
        return Path(chosen)
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    on_path = shutil.which(Path(inside).name, path=path) if any_does else None
    if on_path:
        return Path(on_path)
    return unpacked(package, inside) or fetch(apt, package, inside)


def main():
    parser = argparse.ArgumentParser(description="Fetch what some tests need from Debian's packages.")
    parser.add_argument("--quiet", action="store_true", help="print nothing on success")
    parser.add_argument("--must", action="store_true", help="fail if something can't be had")
    options = parser.parse_args()
    missing = 0
    TOOLS.mkdir(exist_ok=True)
    apt = Apt(TOOLS / "apt")
    with open(TOOLS / ".debian.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for variable, package, inside, any_does in WANTED:
            try:
                program = find(apt, variable, package, inside, any_does)
            except (Failed, OSError) as reason:
                say(f"NOT FETCHED: {package}: {reason}")
                missing += 1
                continue
            if not options.quiet:
                print(f"{variable}={program}")
    return 1 if missing and options.must else 0


if __name__ == "__main__":
    sys.exit(main())
