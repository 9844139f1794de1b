"""CPU profiles in files: of a program's whole life, or of the time since the last one."""
import concurrent.futures

import harness
from test_dumps import files, options, program, read


def cpu_of(profile, function):
    return sum(
        sample.values[1]
        for sample in profile.samples
        if any(frame.function == function for frame in sample.frames)
    )


def run_burning(milliseconds, source):
    directory = harness.scratch()
    extra = options(directory, "exit", PROFILES="heap,cpu")
    extra.update(PPROFAGENT_CPUPROFILERATE="1000", PPROFAGENT_CPU=source)
    plain = harness.run([program(), "burn", str(milliseconds)], plain=True)
    done = harness.run([program(), "burn", str(milliseconds)], extra=extra, address="off")
    assert (done.returncode, done.stdout, done.stderr) == (0, plain.stdout, plain.stderr)
    return [read(directory, name) for name in files(directory, "cpu")]


def check_whole_life(source):
    """600 ms of CPU time, which began before the agent's thread did."""
    for _ in range(10):
        profiles = run_burning(600, source)
        total = profiles and sum(sample.values[1] for sample in profiles[0].samples)
        burnt = profiles and cpu_of(profiles[0], "burns")
        if burnt:
            break  # else 100 ms were too short for it on a busy machine, or for its names
    harness.note("%s: %d ms of 600 ms, %d in all" % (source, burnt / 1e6, total / 1e6))
    assert 0.8 * 600e6 < burnt < 1.15 * 600e6, burnt
    assert profiles[0].duration_nanos >= 0.8 * 600e6


def test_whole_life():
    check_whole_life("auto")


def test_whole_life_by_timers():
    check_whole_life("timer")


def test_windows_that_follow_each_other():
    """Three seconds' burning is in the windows of one second, once."""
    for source in ("auto", "timer"):
        directory = harness.scratch()
        extra = options(directory, "interval:1s", PROFILES="cpu", KEEP="100")
        extra.update(PPROFAGENT_CPUPROFILERATE="1000", PPROFAGENT_CPU=source)
        host = harness.Host([program(), "burn", "2500", "wait"], extra=extra)
        host.ready(harness.DEADLINE * 3)
        # clients come and go: the server's end takes no signal away
        assert cpu_of(host.profile("profile?seconds=1"), "burns") == 0
        count = host.health()["dump"]["written"]
        harness.poll(lambda: host.health()["dump"]["written"] >= count + 2, "two more")
        assert host.health()["dump"]["failed"] == 0
        host.kill()
        profiles = [read(directory, name) for name in files(directory)]
        burnt = [cpu_of(profile, "burns") for profile in profiles]
        harness.note("%s: windows of %s ms" % (source, [round(each / 1e6) for each in burnt]))
        assert 0.85 * 2500e6 < sum(burnt) < 1.15 * 2500e6, burnt
        assert sum(1 for each in burnt if each) >= 2 and burnt[-1] == 0, burnt


def test_four_clients_have_their_places_all_the_same():
    directory = harness.scratch()
    host = harness.Host([program(), "wait"], extra=options(directory, "exit", PROFILES="cpu"))
    host.ready()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = [pool.submit(host.get, "profile?seconds=4") for _ in range(4)]
        harness.poll(lambda: host.health()["cpu_sampling"]["profiles_running"] == 5, "all run")
        assert host.get("profile?seconds=1")[0] == 503
        assert [each.result()[0] for each in found] == [200] * 4
    assert host.health()["cpu_sampling"]["profiles_running"] == 1
    assert host.finish() == 0
