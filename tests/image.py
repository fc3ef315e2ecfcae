"""Builds and enters what the Dockerfile says, where no container engine runs: `make image-check`, as root.

    python -m tests.image

The base is this machine's own Python and libraries, bound read-only in the place of python:3.11-slim, and the
requirements are those of this environment. All else is read from the Dockerfile: what is copied, variables, user,
volume, health check, stop signal and command. The process gets namespaces of its own for mounts, processes and network,
a read-only root, no capability, and its data as the only place that it may write to.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
PREFIX = "/opt/claude-proxy"
SITE = f"{PREFIX}/lib/python3.11/site-packages"
BASE = [path for path in ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc/ssl") if Path(path).exists()]
DEVICES = ("null", "urandom")
STARTED_WITHIN_S = 20.0


@dataclass
class Image:
    """What the last stage of a Dockerfile says."""

    env: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    volume: str = ""
    stop: signal.Signals = signal.SIGTERM
    health: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)


def read(text: str) -> Image:
    """Raises KeyError, ValueError if it is written in another way than ours."""
    image = Image()
    for line in re.sub(r"\\\n", " ", text).splitlines():
        what, _, rest = line.partition(" ")
        match what:
            case "FROM":
                image = Image(copied=image.copied)
            case "COPY" if "--from" not in rest:
                image.copied += rest.split()[:-1]
            case "ENV":
                image.env |= dict(each.split("=", 1) for each in shlex.split(rest))
            case "USER":
                image.user = rest
            case "VOLUME":
                image.volume = rest
            case "STOPSIGNAL":
                image.stop = signal.Signals[rest]
            case "HEALTHCHECK":
                image.health = json.loads(rest.partition(" CMD ")[2])
            case "ENTRYPOINT" | "CMD":
                image.command += json.loads(rest)
    return image


def build(image: Image, work: Path) -> Path:
    """The root folder. The program is installed from what the Dockerfile copies, and from nothing else."""
    root, copy = work / "root", work / "src"
    for name in image.copied:
        place = copy / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place, ignore=shutil.ignore_patterns("__pycache__", "config.yaml"))
        else:
            shutil.copy(ROOT / name, place)
    base = [*BASE, sys.base_prefix, "/deps", "/proc", "/dev", image.volume]
    for folder in base:
        (root / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
    run(sys.executable, "-m", "venv", "--without-pip", f"{root}{PREFIX}")
    run(
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"),
        *("--no-index", "--no-build-isolation", "--target", f"{root}{SITE}", str(copy)),
    )
    script = root / PREFIX[1:] / "bin/claude-proxy"
    shutil.move(f"{root}{SITE}/bin/claude-proxy", script)
    script.write_text(re.sub(r"^#!.*", f"#!{PREFIX}/bin/python", script.read_text()))
    (root / SITE[1:] / "deps.pth").write_text("/deps\n")
    for name in DEVICES:
        (root / "dev" / name).touch()
    run("chmod", "--recursive", "a+rX", str(root))
    return root


def mounts(image: Image, root: Path, data: Path) -> Iterator[str]:
    """The commands that make the root what the process sees of it."""
    yield "set -e; ip link set lo up; mount --make-rprivate /"
    yield f"mount --bind {root} {root}"
    site = next(path for path in sys.path if path.endswith("site-packages") and "/.venv/" in path)
    for source, place in [*((path, path) for path in (*BASE, sys.base_prefix)), (site, "/deps")]:
        yield f"mount --bind {source} {root}{place}; mount -o remount,bind,ro {root}{place}"
    for name in DEVICES:
        yield f"mount --bind /dev/{name} {root}/dev/{name}"
    yield f"mount --bind {data} {root}{image.volume}; mount -t proc proc {root}/proc"
    yield f"mount -o remount,bind,ro {root}"


def inside(image: Image, root: Path, command: list[str], **variables: str) -> str:
    """What runs a command in the root as the image's user, without any capability."""
    uid, gid = image.user.split(":")
    environ = [f"{name}={value}" for name, value in (image.env | variables).items()]
    environ = [each.replace(":$PATH", ":/usr/bin:/bin") for each in environ]
    rights = ["--reuid", uid, "--regid", gid, "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
    words = ["chroot", str(root), "/usr/bin/setpriv", *rights, "/usr/bin/env", "--ignore-environment"]
    return shlex.join([*words, *environ, *command])


def run(*command: str) -> None:
    subprocess.run(command, check=True)  # noqa: S603 - our own words


def enter(process: int, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command beside the process, in its namespaces."""
    spaces = ["nsenter", "--target", str(process), "--mount", "--pid", "--net"]
    return subprocess.run([*spaces, "sh", "-c", command], capture_output=True, text=True, timeout=60)  # noqa: S603


def check(image: Image, root: Path, data: Path) -> None:
    """Raises AssertionError if it does not start, write only to its data, answer the health check, or stop."""
    start = [
        *mounts(image, root, data),
        f"exec {inside(image, root, image.command, AUTH__API_KEY=os.urandom(16).hex())}",
    ]
    spaces = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child=KILL"]
    outer = subprocess.Popen([*spaces, "sh", "-c", "\n".join(start)])  # noqa: S603 - our own words
    try:
        end = time.monotonic() + STARTED_WITHIN_S
        while not (first := child(outer.pid)) or enter(first, inside(image, root, image.health)).returncode:
            assert outer.poll() is None and time.monotonic() < end, "it is not healthy in time"
            time.sleep(0.2)
        status = Path(f"/proc/{first}/status").read_text()
        uid = image.user.split(":")[0]
        assert re.search(rf"^Uid:\s+{uid}\s+{uid}\s+{uid}\s+{uid}$", status, re.MULTILINE), status
        assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE), status
        for place, works in ((image.volume, True), ("/", False), (PREFIX, False), ("/usr", False)):
            done = enter(first, inside(image, root, ["touch", f"{place}/written"]))
            assert (done.returncode == 0) is works, (place, done.stderr)
        assert {path.stat().st_uid for path in data.rglob("*")} == {int(uid)}
        os.kill(first, image.stop)
        assert outer.wait(30) == 0, outer.returncode
    finally:
        outer.kill()
        outer.wait()


def child(process: int) -> int | None:
    """The only child of a process, once it has become the program."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return int(children[0]) if children else None


def main() -> int:
    image = read((ROOT / "Dockerfile").read_text())
    with tempfile.TemporaryDirectory(prefix="claude-proxy-image-") as folder:
        work = Path(folder)
        work.chmod(0o755)
        data = work / "data"
        data.mkdir(0o700)
        os.chown(data, *map(int, image.user.split(":")))
        root = build(image, work)
        check(image, root, data)
    print(
        "as the Dockerfile says: it starts unprivileged on a read-only root, is healthy, writes to its data, and stops"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
