"""The programs of the differential runner (differential.py): cases of our own, and others' programs
and tests. Each function gives Programs, or raises harness.Skip."""
import functools
import hashlib
import os
import re
import shutil
import struct
import subprocess
import zlib

import harness
from differential import Program, Way, at_once, run

SUBJECTS = (
    "clone",
    "namespaces",
    "credentials",
    "seccomp",
    "rlimits",
    "keyrings",
    "view",
    "transfers",
)
AT_ONCE = 4


def not_installed(programs):
    """What is left out of a Program: of {test: the program that it needs}."""
    return {name: program + " is not installed" for name, program in sorted(programs.items())}


# ---- cases of our own ----------------------------------------------------------------------------


def outcome_of(argv, way_name, **options):
    found = run(Way(way_name), argv, **options)
    return "%s\nexit code %s" % (found.stdout + found.stderr, found.code), found.answers


def case(program, name, form, way_name):
    return outcome_of(
        [program, name, form],
        way_name,
        seconds=100,
        says_ready=form != "early",
        cwd=harness.scratch(),
    )


def subject(name):
    """test/workloads/differ_NAME.c: each case in a process of its own, once its agent is there
    and while it starts, and in a child of one."""
    program = harness.build("differ_%s.c" % name, "-O1")
    names = subprocess.run([program, "list"], capture_output=True, text=True).stdout.split()
    tests = {
        each + suffix: functools.partial(case, program, each, form)
        for each in names
        for suffix, form in (("", ""), (" in a child", "forked"), (" at start", "early"))
    }
    return at_once("system calls: " + name, tests, AT_ONCE)


# ---- CPython -------------------------------------------------------------------------------------

CPYTHON = (
    "test_threading",
    "test_signal",
    "test_subprocess",
    "test_fork1",
    "test_posix",
    "test_os",
    "test_socket",
)


def cpython(module):
    """CPython's own tests, by the distribution's interpreter."""
    interpreter = harness.need("python3")
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = subprocess.run(
        [interpreter, "-c", ask], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not os.path.exists("/usr/lib/python%s/test/%s.py" % (version, module)):
        raise harness.Skip("libpython%s-testsuite is not installed" % version)
    script = os.path.join(harness.TEST_DIRECTORY, "differ_unittest.py")

    def tests(way_name, only=None):
        path = os.path.join(harness.scratch(), "results")
        names = sorted(name for name in only or () if name.startswith("test."))
        argv = [interpreter, script, path, module] + names
        found = run(Way(way_name), argv, seconds=3600)
        results = {"the process": "exit code %s" % found.code}
        if os.path.exists(path):
            with open(path) as file:
                results.update(line.rstrip("\n").split("\t") for line in file)
        return results, found.answers

    return Program("CPython %s %s" % (version, module), tests)


# ---- stress-ng -----------------------------------------------------------------------------------

STRESSORS = """affinity alarm bad-altstack cap chroot clone context daemon dynlib env eventfd exec
    exit-group fork futex get itimer key kill membarrier mutex nanosleep nice pidfd poll prctl
    pthread ptrace resched rlimit schedpolicy seccomp sem session set sigabrt sigchld sigfd sigfpe
    sigio signal signest sigpending sigpipe sigq sigrt sigsegv sigsuspend sigtrap sleep spawn
    switch timer timerfd unshare userfaultfd usersyscall vfork wait yield zombie""".split()


def stressor(program, name, way_name):
    found = run(
        Way(way_name),
        [program, "--" + name, "1", "-t", "1", "--verify", "--temp-path", harness.scratch()],
        seconds=120,
    )
    said = re.findall(r"(?:fail|error|skipp|abort)\w*:? .*", found.stdout + found.stderr)
    said = sorted({re.sub(r"\d+", "N", line) for line in said})
    return "%s\nexit code %s" % ("\n".join(said), found.code), found.answers


def stress_ng():
    program = harness.need("stress-ng")
    tests = {name: functools.partial(stressor, program, name) for name in STRESSORS}
    return at_once("stress-ng --verify", tests, 2)


# ---- tools that make namespaces, change users, set limits ----------------------------------------

TOOLS = {
    "unshare, user namespace": "unshare -U -r id -u",
    "unshare, pid namespace": "unshare -p -f -m --mount-proc ps -e -o pid=,comm=",
    "unshare, all": "unshare -m -u -i -n -p -U -r -f sh -c 'id -u; echo $$'",
    "unshare, time namespace": "unshare -T --boottime 100000 -f cat /proc/self/timens_offsets",
    "nsenter": "nsenter -t $$ -n -u -i id -u",
    "setpriv": "setpriv --reuid=1000 --regid=1000 --clear-groups id",
    "setpriv, no new privileges": "setpriv --no-new-privs --bounding-set=-all "
    "grep -E 'Cap|NoNew' /proc/self/status",
    "runuser": "runuser -u daemon -- id",
    "su": "su -s /bin/sh daemon -c 'id; exit 3'",
    "chrt, fifo": "chrt -f 10 sh -c 'chrt -p $$ | sed s/[0-9]*.s//; (exit 3); echo $?'",
    "chrt, rttime": "chrt -f 50 prlimit --rttime=200000:400000 sleep 1",
    "prlimit": "prlimit --nofile=30:40 --memlock=65536 sh -c 'ulimit -n; ulimit -l'",
    "taskset": "taskset 1 nproc",
    "setsid": "setsid -w sh -c 'exit 6'",
    "timeout": "timeout -s INT 1 sleep 100; echo $?",
    "chroot": "chroot / /bin/sh -c 'id -u; exit 4'",
    "start-stop-daemon": "start-stop-daemon --start -c daemon --exec /usr/bin/id",
    "flock": "flock . sh -c 'flock -n . true; echo $?'",
    "keyctl session": "keyctl session - sh -c 'keyctl show >/dev/null; echo $?' 2>/dev/null",
    "keyctl new_session": "keyctl new_session >/dev/null; echo $?",
    "bwrap": "bwrap --ro-bind / / --unshare-all --dev /dev --proc /proc ps -e -o pid=,comm=",
    "bwrap, user": "bwrap --unshare-user --uid 7 --ro-bind / / --die-with-parent id -u",
    "dd": "dd if=/dev/zero bs=8M count=20 2>/dev/null | sha256sum",
    "xargs": "seq 200 | xargs -P 4 -n 1 sh -c 'exit 0' _; echo $?",
    "make -j": "printf 'all: 1 2 3 4\\n%%:\\n\\t@sleep 0.2; echo x\\n' | make -j4 -f - | wc -l",
    "bash traps": "bash -c 'trap \"echo int\" INT; kill -INT $$; wait; trap \"echo exit\" EXIT'",
    "perl fork": "perl -e 'for(1..50){my $p=fork();exit 0 unless $p;waitpid $p,0;print $?}'",
    "runc": "runc --version",
    "m4": "seq 100000 | m4 | sha256sum",
    "qemu, a program": "qemu-x86_64 -U LD_PRELOAD /bin/sh -c 'echo guest; exit 5'",
}


def tool(command, way_name):
    return outcome_of(["/bin/sh", "-c", command], way_name, seconds=60, cwd=harness.scratch())


def tools():
    found = {name: functools.partial(tool, command) for name, command in TOOLS.items()}
    there = {
        name: function for name, function in found.items() if shutil.which(TOOLS[name].split()[0])
    }
    return at_once(
        "packaged tools",
        there,
        AT_ONCE,
        not_installed({name: TOOLS[name].split()[0] for name in set(found) - set(there)}),
    )


# ---- browsers ------------------------------------------------------------------------------------


def pixels(path):
    """A digest of the picture itself, or why there is none."""
    if not os.path.exists(path):
        return "no picture"
    with open(path, "rb") as file:
        data = file.read()
    found, place = b"", 8
    while place < len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        found += data[place + 8 : place + 8 + size] if kind == b"IDAT" else b""
        place += size + 12
    return hashlib.sha256(zlib.decompress(found)).hexdigest()[:16]


def page(directory):
    path = os.path.join(directory, "page.html")
    with open(path, "w") as file:
        file.write(
            "<body style='background:#ace'><h1 id=x></h1><script>"
            "x.textContent=[...Array(50).keys()].map(i=>i*i).join(' ')</script>"
        )
    return "file://" + path


def chromium(prefix, flags, way_name):
    directory = harness.scratch()
    picture = os.path.join(directory, "picture.png")
    url = page(directory)
    os.chmod(directory, 0o777)
    argv = (
        prefix
        + [
            harness.need("chromium"),
            "--headless",
            "--disable-gpu",
            "--no-first-run",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--window-size=400,300",
            "--user-data-dir=%s/data" % directory,
            "--screenshot=" + picture,
            url,
        ]
        + flags
    )
    found = run(Way(way_name), argv, seconds=300, cwd=directory, extra={"HOME": directory})
    return "exit code %s, %s" % (found.code, pixels(picture)), found.answers


def firefox(way_name):
    directory = harness.scratch()
    picture = os.path.join(directory, "picture.png")
    argv = [
        harness.need("firefox-esr"),
        "--headless",
        "--profile",
        directory,
        "--screenshot",
        picture,
        "--window-size=400,300",
        page(directory),
    ]
    found = run(Way(way_name), argv, seconds=300, cwd=directory, extra={"HOME": directory})
    return "exit code %s, %s" % (found.code, pixels(picture)), found.answers


def browsers():
    tests = {}
    left_out = not_installed(
        {name: name for name in ("chromium", "firefox-esr") if not shutil.which(name)}
    )
    if shutil.which("chromium"):
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        tests["chromium without its sandbox"] = functools.partial(chromium, [], ["--no-sandbox"])
        tests["chromium in its sandbox"] = functools.partial(
            chromium, nobody if os.getuid() == 0 else [], []
        )
    if shutil.which("firefox-esr"):
        tests["firefox"] = firefox
    if not tests:
        raise harness.Skip("neither chromium nor firefox-esr is installed")
    return at_once("browsers: a page's picture", tests, 1, left_out)


# ---- a virtual machine ---------------------------------------------------------------------------


def boot_sector():
    """Counts for a while, writes `boots` to the serial port and ends qemu by its debug port."""
    code = b"\x66\xb9" + struct.pack("<I", 1000000000) + b"\x66\x49\x75\xfc"  # ecx, to 0
    code += b"".join(b"\xba\xf8\x03\xb0" + bytes([byte]) + b"\xee" for byte in b"boots\n")
    code += b"\xba\xf4\x00\xb0\x10\xee\xf4"  # out 0xf4, 0x10; hlt
    return code.ljust(510, b"\0") + b"\x55\xaa"


def virtual_machine(flags, way_name):
    directory = harness.scratch()
    disk = os.path.join(directory, "disk")
    with open(disk, "wb") as file:
        file.write(boot_sector())
    return outcome_of(
        [
            harness.need("qemu-system-x86_64"),
            "-nodefaults",
            "-display",
            "none",
            "-serial",
            "stdio",
            "-device",
            "isa-debug-exit,iobase=0xf4,iosize=4",
            "-drive",
            "format=raw,file=" + disk,
            "-accel",
            "tcg",
        ]
        + flags,
        way_name,
        seconds=120,
    )


def qemu():
    harness.need("qemu-system-x86_64")
    sandbox = [
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    ]
    return at_once(
        "qemu boots a sector",
        {
            "as it is": functools.partial(virtual_machine, []),
            "with -sandbox on": functools.partial(virtual_machine, sandbox),
        },
        1,
    )
