"""What the build fetches: kept where nobody else writes; what is unpacked is what was verified."""
import hashlib
import os
import subprocess

import harness
import process_tree
from test_access import OTHER, readable_by_all

SOURCED = 'set -eu; target=$1; without=nothing; . "$2/scripts/debian_source.sh"; shift 2; '


def sh(script, target, *arguments, **environment):
    done = subprocess.run(
        ["/bin/sh", "-c", SOURCED + script, "fetch_test", target, harness.ROOT, *arguments],
        capture_output=True,
        text=True,
        timeout=harness.DEADLINE,
        env=dict({"PATH": os.environ["PATH"]}, **environment),
    )
    assert done.returncode == 0, done
    return done.stdout.strip()


def cache(target="/build/deps/src", **environment):
    return sh('echo "$cache"', target, **environment)


def test_where_downloads_are_kept():
    process_tree.run_as_root()
    home = harness.scratch()
    beside = "/build/deps/src.downloads"
    assert cache(HOME=home) == home + "/.cache/pprofagent"
    assert cache(HOME=home, XDG_CACHE_HOME=home + "/new/cache") == home + "/new/cache/pprofagent"
    for environment in (
        {},
        {"HOME": ""},
        {"HOME": "/tmp"},
        {"HOME": "tmp"},
        {"XDG_CACHE_HOME": "/tmp"},
        {"XDG_CACHE_HOME": "/tmp/of/nobody"},
        {"HOME": "/nonexistent"},
    ):
        assert cache(**environment) == beside, environment
    planted = readable_by_all()
    for path in (planted + "/.cache", planted + "/.cache/pprofagent"):
        os.mkdir(path)
    assert cache(HOME=planted) == planted + "/.cache/pprofagent"
    os.chmod(planted + "/.cache/pprofagent", 0o777)
    assert cache(HOME=planted) == beside
    os.chmod(planted + "/.cache/pprofagent", 0o755)
    os.chown(planted + "/.cache", OTHER, OTHER)
    assert cache(HOME=planted) == beside


def test_what_is_unpacked_is_what_was_verified():
    home, work = harness.scratch(), harness.scratch()
    kept = home + "/.cache/pprofagent"
    os.makedirs(kept)

    def archive(word):
        os.makedirs(work + "/source-1", exist_ok=True)
        with open(work + "/source-1/code.c", "w") as file:
            file.write(word)
        subprocess.run(["tar", "-C", work, "-czf", work + "/" + word, "source-1"], check=True)
        with open(work + "/" + word, "rb") as file:
            return file.read()

    good, evil = archive("good"), archive("evil")
    with open(kept + "/source.tar.gz", "wb") as file:
        file.write(good)
    # the cache changes as soon as it has been verified
    sh(
        'download source=1 source.tar.gz "$1"; cp "$2" "$cache/source.tar.gz"; '
        'unpack source.tar.gz "$target" "source-1/*"',
        work + "/out",
        hashlib.sha256(good).hexdigest(),
        work + "/evil",
        HOME=home,
    )
    assert open(work + "/out/code.c").read() == "good"
    assert evil == open(kept + "/source.tar.gz", "rb").read()
    assert sorted(os.listdir(work)) == ["evil", "good", "out", "source-1"]  # no copy is left


def test_what_is_linked_in_is_told():
    host = harness.Host([harness.build("guest.c", "-O1"), "wait"])
    host.ready()
    parts = host.health()["parts"]
    assert sorted(parts) == [
        "civetweb",
        "d3-flame-graph",
        "libbacktrace",
        "libiberty",
        "libunwind",
        "protobuf-c",
        "zlib",
        "zstd",
    ], parts
    for name, library in (
        ("zlib", "libz.a"),
        ("zstd", "libzstd.a"),
        ("protobuf-c", "libprotobuf-c.a"),
    ):
        path = subprocess.run(
            ["gcc", "-print-file-name=" + library], capture_output=True, text=True
        ).stdout.strip()
        with open(path, "rb") as file:
            assert parts[name]["sha256"] == hashlib.sha256(file.read()).hexdigest(), name
        assert parts[name]["version"][0].isdigit(), parts
    with open(os.path.join(harness.ROOT, "scripts", "fetch_deps")) as file:
        pinned = file.read()
    for name in ("civetweb", "d3-flame-graph", "libbacktrace", "libiberty", "libunwind"):
        assert parts[name]["version"] == "unknown" or parts[name]["sha256"] in pinned, parts[name]
