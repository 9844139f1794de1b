"""The wall-clock profile: true about shares of time, cheap about threads that do not move."""
import concurrent.futures
import math
import time

import harness
from pprof_reader import bare

IDLE = 150


def start():
    program = harness.build("wall_shares.c", "-O2", "-pthread")
    host = harness.Host([program, str(IDLE)])
    host.ready()
    harness.poll(lambda: are_parked(host.pid), "all idle threads to wait")
    return host


def are_parked(pid):
    tasks = ["/proc/%d/task/%s/" % (pid, tid) for tid in harness.tasks(pid)]
    waits = [
        harness.proc_text(task + "wchan")
        for task in tasks
        if harness.proc_text(task + "comm") == "idler\n"
    ]
    return len(waits) == IDLE and all("futex" in function for function in waits)


def sums(host):
    host.go_on()
    return [int(text) for text in host.line().split()]


def share_of(profile, is_it):
    """(samples of the thread that takes turns for which is_it(functions, state), all of them)"""
    found = whole = 0
    for sample in profile.samples:
        if sample.labels["thread_name"] != "turns":
            continue
        whole += sample.values[0]
        functions = {bare(frame.function) for frame in sample.frames}
        found += sample.values[0] if is_it(functions, sample.labels["state"]) else 0
    return found, whole


def test_shares_of_time_are_true():
    host = start()
    before = sums(host)
    profile = host.profile("wall?seconds=8&hz=50", timeout=60)
    spent = [after - earlier for after, earlier in zip(sums(host), before)]
    assert profile.sample_types == [("samples", "count"), ("wall", "nanoseconds")]
    kinds = [
        lambda functions, state: "sleeping" in functions and state != "running",
        lambda functions, state: "waiting" in functions and state != "running",
        lambda functions, state: state == "running",
    ]
    for kind, share in zip(kinds, spent):
        found, whole = share_of(profile, kind)
        true = share / sum(spent)
        error = math.sqrt(true * (1 - true) / whole)
        assert abs(found / whole - true) <= 3 * error + 0.01, (found, whole, true)
    _, whole = share_of(profile, lambda *_: True)
    wall = sum(s.values[1] for s in profile.samples if s.labels["thread_name"] == "turns")
    assert abs(wall - profile.duration_nanos) < profile.duration_nanos * 0.001
    computed, _ = share_of(profile, lambda functions, state: "computing" in functions)
    running, _ = share_of(profile, kinds[2])
    assert computed > 0 and computed <= running


def test_threads_that_do_not_move_cost_one_read():
    host = start()
    profile = host.profile("wall?seconds=3&hz=20", timeout=60)
    wall = host.health()["wall"]
    idle = [s for s in profile.samples if s.labels["thread_name"] == "idler"]
    assert len(idle) == 1 and "idling" in {bare(frame.function) for frame in idle[0].frames}
    assert idle[0].values[0] == IDLE * wall["instants"]
    # main waits too; the one that takes turns is walked each time, at most
    assert wall["walks"] <= IDLE + 1 + wall["instants"]
    assert wall["unmoved"] >= IDLE * (wall["instants"] - 1)
    assert wall["lost"] == 0 and wall["running"] == 0


def test_off_and_idle_leave_out():
    host = start()
    states = {s.labels["state"] for s in host.profile("wall?seconds=2&off=1", timeout=60).samples}
    assert states and "running" not in states
    names = {
        s.labels["thread_name"]
        for s in host.profile("/debug/fgprof?seconds=2&idle=0", timeout=60).samples
    }
    assert names == {"turns"}


def test_parameters():
    host = start()
    assert host.get("wall?hz=0")[0] == 400
    assert host.get("wall?hz=1001")[0] == 400
    assert host.get("wall?seconds=3601")[0] == 503
    assert host.get("wall?seconds=1", method="HEAD")[0] == 200
    assert host.get("/pid/%d/debug/fgprof?seconds=1" % host.pid)[0] == 200


def test_threads_that_come_and_go_meanwhile():
    host = harness.Host([harness.build("late_threads.c", "-O1")])
    host.ready()
    moments = []

    def next_generation():
        moments.append(time.time_ns())
        host.go_on()
        host.ready()
        moments.append(time.time_ns())

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(host.profile, "wall?seconds=4&hz=100", timeout=60)
        for _ in range(2):
            time.sleep(1.2)  # the generation's life
            next_generation()
        profile = answer.result()
    begin, end = profile.time_nanos, profile.time_nanos + profile.duration_nanos
    lives = {  # surely there, perhaps there
        "first": (moments[0] - begin, moments[3] - begin),
        "second": (moments[2] - moments[1], moments[3] - moments[0]),
        "third": (2 * (end - moments[3]), 2 * (end - moments[2])),
    }
    seen = {}
    for sample in profile.samples:
        name = sample.labels["thread_name"]
        seen[name] = seen.get(name, 0) + sample.values[1]
    for name, (least, most) in lives.items():
        error = 0.05 * profile.duration_nanos
        assert 3 * (least - error) < seen.get(name, 0) < 3 * (most + error), (name, lives, seen)
    host.kill()
