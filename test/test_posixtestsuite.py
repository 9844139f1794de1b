"""The pthread and semaphore programs of the POSIX conformance tests: each ends as it does without
the agent (its exit code; 0 passed, 1 failed, ...).

make test runs the quick ones of the families that the agent wraps; SOAK=1 runs all.
"""
import collections
import concurrent.futures
import os
import signal
import subprocess

import harness
import pytest

pytestmark = pytest.mark.alone

FAMILIES = (
    "pthread_mutex_",
    "pthread_cond_",
    "pthread_rwlock_",
    "pthread_barrier_",
    "pthread_spin_",
    "sem_",
    "pthread_join",
    "pthread_cancel",
    "pthread_testcancel",
    "pthread_cleanup",
    "pthread_exit",
    "pthread_setcancel",
    "pthread_detach",
    "pthread_kill",
    "pthread_atfork",
)
SLOW = {  # more than two seconds each, almost all of them asleep
    "pthread_barrier_destroy/2-1",
    "pthread_barrier_init/4-1",
    "pthread_barrier_wait/1-1",
    "pthread_barrier_wait/3-1",
    "pthread_barrier_wait/3-2",
    "pthread_cancel/2-2",
    "pthread_cancel/2-3",
    "pthread_cond_broadcast/1-2",
    "pthread_cond_signal/2-2",
    "pthread_cond_timedwait/4-1",
    "pthread_detach/1-2",
    "pthread_join/1-1",
    "pthread_join/6-3",
    "pthread_mutex_lock/1-1",
    "pthread_mutex_timedlock/1-1",
    "pthread_mutex_timedlock/2-1",
    "pthread_mutex_unlock/2-1",
    "pthread_rwlock_rdlock/1-1",
    "pthread_rwlock_rdlock/2-1",
    "pthread_rwlock_rdlock/2-2",
    "pthread_rwlock_rdlock/2-3",
    "pthread_rwlock_rdlock/4-1",
    "pthread_rwlock_timedrdlock/1-1",
    "pthread_rwlock_timedrdlock/3-1",
    "pthread_rwlock_timedrdlock/6-1",
    "pthread_rwlock_timedrdlock/6-2",
    "pthread_rwlock_timedwrlock/1-1",
    "pthread_rwlock_timedwrlock/3-1",
    "pthread_rwlock_timedwrlock/6-1",
    "pthread_rwlock_timedwrlock/6-2",
    "pthread_rwlock_unlock/2-1",
    "pthread_rwlock_unlock/3-1",
    "pthread_rwlock_wrlock/1-1",
    "pthread_rwlock_wrlock/2-1",
    "pthread_spin_lock/1-2",
    "pthread_spin_lock/3-2",
    "pthread_spin_unlock/1-2",
    "sem_timedwait/3-1",
}
EVERYTHING = {"PPROFAGENT_BLOCKPROFILERATE": "1", "PPROFAGENT_MUTEXPROFILEFRACTION": "1"}
NO_PROGRAM = {"pthread_once/4-1"}
UNDEFINED = {"pthread_barrier_wait/6-1"}  # waits at a barrier that is whatever lies on the stack
SETS_THE_CLOCK = {
    "pthread_cond_init/1-2",
    "pthread_cond_init/2-2",
}  # of the machine that runs the tests
# They detach threads that run on stacks of the program's own (threads_scenarii.c, 8 and 14) and use
# each stack again a round later, however slowly its last thread ends: two threads on one stack. On
# a busy machine 4-3 does so in 47 of 60 runs without the agent and 48 of 60 with it; made to wait
# for the last thread's end it never crashes, with the agent either (0 of 60). As it is, it crashes
# in a few of a hundred runs without the agent, more with it: more is on the stack when its turn
# comes.
CRASH_BY_THEMSELVES = {"pthread_detach/4-3", "pthread_create/14-1"}
RETRIES = 4
CRASHES = {
    -signal.SIGSEGV,
    -signal.SIGBUS,
    -signal.SIGILL,
    -signal.SIGABRT,
    -signal.SIGTRAP,
    -signal.SIGSYS,
}


def fetched():
    """The unpacked sources."""
    directory = os.path.join(harness.BUILD, "test", "posixtestsuite")
    script = os.path.join(harness.ROOT, "scripts", "fetch_posixtestsuite")
    stamp = os.path.join(directory, ".fetched")
    if not os.path.exists(stamp) or os.path.getmtime(stamp) < os.path.getmtime(script):
        done = subprocess.run([script, directory], capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise harness.Skip("posixtestsuite could not be fetched: " + done.stderr.strip()[-200:])
        open(stamp, "w").close()
    return directory


def names(directory):
    """FUNCTION/NUMBER of every program."""
    interfaces = os.path.join(directory, "conformance", "interfaces")
    found = (
        {
            "%s/%s" % (folder, name[:-2])
            for folder in os.listdir(interfaces)
            for name in os.listdir(os.path.join(interfaces, folder))
            if name.endswith(".c") and name[0].isdigit()
        }
        - NO_PROGRAM
        - UNDEFINED
        - SETS_THE_CLOCK
    )
    assert len(found) == 448 and SLOW < found, (len(found), SLOW - found)
    return sorted(found)


def build(directory, name):
    program = os.path.join(directory, "programs", name.replace("/", "-"))
    if not os.path.exists(program):
        os.makedirs(os.path.dirname(program), exist_ok=True)
        done = subprocess.run(
            [
                "gcc",
                "-O1",
                "-w",
                "-std=gnu99",
                "-D_POSIX_C_SOURCE=200112L",
                "-I" + os.path.join(directory, "include"),
                "-pthread",
                "-o",
                program,
                os.path.join(directory, "conformance", "interfaces", name + ".c"),
                "-lrt",
                "-lm",
            ],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    return program


def outcome(program, environment, seconds):
    """The exit code, -N after signal N, or "timeout"."""
    process = subprocess.Popen(
        [program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd=os.path.dirname(program),
        start_new_session=True,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return "timeout"
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)  # its session: children that it left behind too
        except ProcessLookupError:
            pass
        process.wait()


def check(selected, seconds, at_once, extra):
    directory = fetched()
    chosen = [name for name in names(directory) if selected(name)]
    plain = harness.agent_environment(plain=True)
    with_agent = harness.agent_environment(extra=extra)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        programs = dict(zip(chosen, pool.map(lambda name: build(directory, name), chosen)))
    results = []
    for environment in (plain, with_agent):
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            results.append(
                dict(
                    zip(
                        chosen,
                        pool.map(
                            lambda name: outcome(programs[name], environment, seconds), chosen
                        ),
                    )
                )
            )
    differ, again = [], 0
    for name in chosen:
        expected, found = results[0][name], results[1][name]
        if expected == found:
            continue
        again += 1
        expected, found = [expected], [
            found
        ]  # some depend on timing: one after the other, and alone
        for _ in range(RETRIES):
            expected.append(outcome(programs[name], plain, seconds))
            found.append(outcome(programs[name], with_agent, seconds))
            if set(expected[1:]) & set(found[1:]):
                break
        crashes = set(found) & CRASHES - set(expected)  # once is enough
        crashes = crashes and name not in CRASH_BY_THEMSELVES
        if crashes or not set(expected[1:]) & set(found[1:]):
            differ.append("%s: without the agent %s, with it %s" % (name, expected, found))
    counts = collections.Counter(str(code) for code in results[1].values())
    harness.note("%d programs; exit codes %s; %d tried again" % (len(chosen), dict(counts), again))
    assert not differ, "\n".join(differ)
    assert counts["0"] > 0.9 * len(chosen), counts


def test_quick_programs():
    check(lambda name: name.startswith(FAMILIES) and name not in SLOW, 20, 12, EVERYTHING)


def test_all_programs():
    if not os.environ.get("SOAK"):
        raise harness.Skip("SOAK=1")
    check(lambda name: True, 60, 12, EVERYTHING)
    check(lambda name: True, 60, 12, {})
