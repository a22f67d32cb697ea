#!/usr/bin/env python3
"""Fetch the programs that break networks and clocks for tests, if they are not there yet.

    deploy/faults/fetch-fault-tools.py [--quiet]

- nft (nftables): what the switch of a test's network throws away.
- libfaketime: a wall clock that jumps.
- strace: a disk whose syncs fail.

In this order: the variable, if set; the program on PATH; the one in .tools; else the packages are
fetched by apt-get from where this machine gets its packages, and unpacked into .tools. Nothing is
installed into the system. On stdout lines that a shell can read, for what there is:

    FLOTILLA_NFT=/path/of/nft
    FLOTILLA_FAKETIME=/path/of/libfaketime.so.1
    FLOTILLA_STRACE=/path/of/strace

All talk goes to stderr. What can't be had is said, and the exit code is 0 all the same: the tests
that need it say NOT RUN, and everything else goes on.
"""

import argparse
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent.parent / ".tools"
# The layout of the folder; another number fetches anew.
FOLDER = TOOLS / "fault-tools-1"
STEP_SECONDS_MAX = 300
LOADER = """#!/bin/sh
here=$(dirname "$(readlink -f "$0")")/root
LD_LIBRARY_PATH="$(find "$here/usr/lib" "$here/lib" -maxdepth 1 -type d 2>/dev/null | tr '\\n' ':')" \\
    exec "$here/{program}" "$@"
"""


class Failed(Exception):
    """A reason to print."""


class Tool:
    """One thing to have: its variable, its package, and where it lies in that package."""

    def __init__(self, variable, package, name, is_program):
        self.variable, self.package, self.name, self.is_program = variable, package, name, is_program

    def chosen(self):
        return os.environ.get(self.variable)

    def on_path(self):
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        return shutil.which(self.name, path=path) if self.is_program else None

    def fetched(self):
        file = FOLDER / self.name
        return str(file) if file.exists() else None

    def found(self):
        return self.chosen() or self.on_path() or self.fetched()


ALL = [
    Tool("FLOTILLA_NFT", "nftables", "nft", True),
    Tool("FLOTILLA_FAKETIME", "libfaketime", "libfaketime.so.1", False),
    Tool("FLOTILLA_STRACE", "strace", "strace", True),
]


def say(text):
    print(f"fetch-fault-tools: {text}", file=sys.stderr)


def run(command, **options):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=STEP_SECONDS_MAX,
                              check=False, **options)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise Failed(f"{' '.join(command[:3])} … ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def packages_of(package):
    """The package and those that it needs and this machine lacks."""
    text = run(["apt-get", "install", "--simulate", "--no-install-recommends", package])
    return re.findall(r"^Inst (\S+)", text, re.MULTILINE) or [package]


def fetch(tool, work):
    packages = packages_of(tool.package)
    say(f"fetching {', '.join(packages)}")
    debs = work / f"{tool.package}.debs"
    debs.mkdir()
    run(["apt-get", "download", *packages], cwd=debs)
    for deb in sorted(debs.glob("*.deb")):
        run(["dpkg-deb", "--extract", str(deb), str(work / "root")])
    found = [path for path in (work / "root").rglob(tool.name) if path.is_file()]
    if not found:
        raise Failed(f"{tool.package} holds no {tool.name}")
    inside = found[0].relative_to(work)
    if not tool.is_program:
        (work / tool.name).symlink_to(inside)
        return
    program = work / tool.name
    program.write_text(LOADER.format(program=found[0].relative_to(work / "root")))
    program.chmod(0o755)
    run([str(program), "--version"])


def fetch_missing(missing):
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Failed("there is no apt-get on this machine")
    with tempfile.TemporaryDirectory(prefix="fault-tools-", dir=TOOLS) as folder:
        # apt-get downloads as a user of its own, who has to get in.
        os.chmod(folder, 0o755)
        work = Path(folder) / "out"
        if FOLDER.exists():
            shutil.copytree(FOLDER, work, symlinks=True)
        work.mkdir(exist_ok=True)
        try:
            run(["apt-get", "--quiet", "update"])
        except Failed as reason:
            say(f"{reason}; going on with the lists that are there")
        for tool in missing:
            try:
                fetch(tool, work)
            except Failed as reason:
                say(f"no {tool.name}: {reason}")
            shutil.rmtree(work / f"{tool.package}.debs", ignore_errors=True)
        if FOLDER.exists():
            shutil.rmtree(FOLDER)
        os.rename(work, FOLDER)


def main():
    parser = argparse.ArgumentParser(description="Fetch the programs that break things for tests.")
    parser.add_argument("--quiet", action="store_true", help="print no variables")
    options = parser.parse_args()
    try:
        TOOLS.mkdir(exist_ok=True)
        with open(TOOLS / ".fault-tools.lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            missing = [tool for tool in ALL if not tool.found()]
            if missing:
                fetch_missing(missing)
    except (Failed, OSError) as reason:
        say(reason)
    for tool in ALL:
        found = tool.found()
        if found is None:
            say(f"no {tool.name}: tests that need it are NOT RUN")
        elif not options.quiet:
            print(f"{tool.variable}={found}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
