"""Profiles that are written when a signal comes that the program leaves as it is: it ends by it as
ever, or goes on; and it sees nothing of the handler."""
import os
import signal
import subprocess
import sys

import harness
import pytest
from test_dumps import await_file, files, options, read

ENDING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
ON = "exit,signal:USR2"


def program():
    return harness.build("signals_that_end.c", "-O1")


def to_default():
    """The tests may be run in the background, or by nohup: some are ignored then."""
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)


def run(*words, directory=None, preexec_fn=to_default, **more):
    extra = options(directory or harness.scratch(), ON)
    return harness.run([program(), *words], rate=1, extra=extra, preexec_fn=preexec_fn, **more)


def as_without(*words, **more):
    plain = harness.run([program(), *words], plain=True, preexec_fn=to_default)
    done = run(*words, **more)
    assert (done.returncode, done.stdout) == (plain.returncode, plain.stdout), words
    return done


def test_it_ends_by_the_signal_and_its_file_is_there():
    for number in ENDING:
        for _ in range(20):  # 100 ms may be too short for the file on a busy machine
            directory = harness.scratch()
            done = as_without("raise", str(int(number)), directory=directory)
            assert done.returncode == -number
            if files(directory):
                break
        (name,) = files(directory)
        inuse = sum(sample.values[3] for sample in read(directory, name).samples)
        assert inuse >= 5 << 20, inuse


def test_its_own_handler_first():
    for number in ENDING:
        for _ in range(20):
            directory = harness.scratch()
            done = as_without("handler", str(int(number)), directory=directory)
            assert done.returncode == -number and done.stdout == b"cleaned up\n"
            if files(directory):
                break
        assert len(files(directory)) == 1


def test_what_the_program_reads_and_writes_of_its_signals():
    done = as_without("views")
    assert done.returncode == 0 and b"12 at first: default 0 0\n" in done.stdout, done.stdout


@pytest.mark.parametrize("number", ENDING)
def test_children_end_by_it(number):
    done = as_without("children", str(int(number)))
    assert done.stdout == b"status %x\n" % number * 3


def test_who_waits_for_the_signal_gets_it():
    for number in (signal.SIGTERM, signal.SIGUSR2):
        done = as_without("waits", str(int(number)))
        assert b"sigwait 0 %d" % number in done.stdout and done.returncode == 0


def test_blocked_but_in_a_call_that_lets_it_in():
    for number in ENDING:
        done = as_without("inside", str(int(number)))
        assert done.stdout == b"status %x\n" % number * 4


def test_the_first_of_a_namespace_does_not_see_it():
    if os.geteuid() != 0:
        raise harness.Skip("a namespace needs root")
    for number in ENDING:
        done = as_without("first", str(int(number)))
        assert done.stdout == b"first of its namespace: 0\nstatus 0\n"


def test_small_alternate_stacks():
    for size in (2048, 3072, 3632, 4096, 8192):
        directory = harness.scratch()
        done = run("alternate", str(size), directory=directory)
        assert done.returncode == 0 and done.stdout.endswith(b"\n0 bytes are changed\n"), done


def test_who_ignores_it_goes_on():
    """As nohup does: what is ignored at the start stays so."""

    def ignore():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    directory = harness.scratch()
    done = run("raise", str(int(signal.SIGHUP)), directory=directory, preexec_fn=ignore)
    assert done.returncode == 0


def test_usr2_writes_and_the_program_goes_on():
    directory = harness.scratch()
    host = harness.Host([program(), "goes_on"], rate=1, extra=options(directory, "signal:USR2"))
    host.ready()
    for count in (1, 2, 3):
        host.process.send_signal(signal.SIGUSR2)
        await_file(directory, count=count)
    host.go_on()
    assert host.ready() == ["poll 1 0"], "it has seen an EINTR"
    host.process.send_signal(signal.SIGUSR2)
    await_file(directory, count=4)
    host.go_on()
    assert host.line() == "read 1"
    assert host.finish() == 0


def test_a_confined_program_ends_by_it():
    """The handler is gone before the program puts itself under a filter, which allows it nothing
    else."""
    source = harness.build("signal_under_filter.c", "-O1")
    for number in (signal.SIGTERM, signal.SIGUSR2):
        plain = harness.run([source, str(int(number))], plain=True, preexec_fn=to_default)
        done = harness.run(
            [source, str(int(number))],
            extra=options(harness.scratch(), ON),
            preexec_fn=to_default,
        )
        assert done.returncode == plain.returncode == -number, (done, plain)
        assert done.stdout == plain.stdout == b"default\n"


def test_shells_and_interpreters():
    environment = dict(
        os.environ,
        **harness.agent_environment(extra=options(harness.scratch(), ON), log=os.devnull)
    )
    trap = 'trap "echo trapped; exit 3" TERM; trap; kill -TERM $$; echo never'
    catch = """
import os, signal, time
print(signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)
except KeyboardInterrupt:
    print("caught", flush=True)
os.kill(os.getpid(), signal.SIGTERM)
"""
    for argv, code in ((["bash", "-c", trap], 3), ([sys.executable, "-c", catch], -signal.SIGTERM)):
        plain = subprocess.run(argv, capture_output=True, preexec_fn=to_default)
        done = subprocess.run(argv, capture_output=True, env=environment, preexec_fn=to_default)
        assert done.returncode == plain.returncode == code, (argv, done)
        assert done.stdout == plain.stdout and done.stderr == plain.stderr, (argv, done)
