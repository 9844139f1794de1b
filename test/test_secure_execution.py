"""Programs with more rights than who started them (AT_SECURE), where /etc/ld.so.preload brings the
agent in: it is off altogether."""
import os
import shutil
import subprocess

import harness
import process_tree
from test_access import OTHER, readable_by_all

IN_THAT_ROOT = 'mount --bind "$1" /etc && shift && exec "$@"'


def copy_for_all(path):
    return os.path.join(readable_by_all(path), os.path.basename(path))


def preloading_etc():
    """A copy of /etc that names the agent for every program."""
    directory = harness.scratch()
    os.chmod(directory, 0o755)
    etc, agent = os.path.join(directory, "etc"), copy_for_all(harness.agent())
    shutil.copytree("/etc", etc, symlinks=True, ignore_dangling_symlinks=True)
    with open(os.path.join(etc, "ld.so.preload"), "w") as file:
        file.write(agent + "\n")
    os.chmod(os.path.join(etc, "ld.so.preload"), 0o644)
    return etc


def in_that_root(etc):
    return [harness.need("unshare"), "-m", "/bin/sh", "-c", IN_THAT_ROOT, "sh", etc]


def start(etc, program, address):
    user = ["--reuid=%d" % OTHER, "--regid=%d" % OTHER, "--clear-groups"]
    command = [*in_that_root(etc), harness.need("setpriv"), *user, program]
    host = harness.Host(command, plain=True, address=address, cwd="/")
    assert host.line().startswith("done "), host.describe()
    return host


def do(host, words):
    host.process.stdin.write(words.encode() + b"\n")
    host.process.stdin.flush()
    line = host.line()
    assert line.startswith("done "), line
    return int(line.split()[1])


def test_a_setuid_program_is_left_alone():
    process_tree.run_as_root()
    etc = preloading_etc()
    program = copy_for_all(process_tree.build())
    with_rights = shutil.copy(program, program + "_setuid")
    os.chmod(with_rights, 0o4755)
    if subprocess.run([*in_that_root(etc), "/bin/true"]).returncode:
        raise harness.Skip("no mount namespace can be had here")
    port = process_tree.Port()
    secure = start(etc, with_rights, port.address)
    child = do(secure, "fork alloc:1000000")
    do(secure, "alloc:1000000")
    common = start(etc, program, port.address)  # the same without those rights is served
    port.await_processes([common.pid])
    for pid in (secure.pid, child):
        maps = open("/proc/%d/maps" % pid).read()
        assert os.path.basename(harness.agent()) in maps, maps
        assert os.stat("/proc/%d" % pid).st_uid == 0 and len(harness.tasks(pid)) == 1
        assert port.get("cmdline", pid)[0] == 404
    do(secure, "spin")
    assert len(harness.tasks(secure.pid)) == 2
    assert set(port.processes()) == {common.pid}
    with open("/proc/net/unix") as file:
        names = [line.rstrip() for line in file if "@pprofagent/" in line]
    assert not [name for name in names if name.endswith("/%d" % secure.pid)], names
