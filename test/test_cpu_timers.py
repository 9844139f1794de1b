"""No timer outlives the profile that it was made for."""
import socket

import harness

FLAGS = ("-O1", "-fno-optimize-sibling-calls")


def kernels_timers(pid):
    with open("/proc/%d/timers" % pid) as file:
        return file.read().count("ID:")


def profiles_running(host):
    return host.health()["cpu_sampling"]["profiles_running"]


def test_profiles_start_and_stop_while_threads_are_born():
    """(unit_cpu_sampling.c has the moments in between one by one.)"""
    host = harness.Host([harness.build("birth_storm.c", *FLAGS)], **harness.by_timers())
    host.ready()
    for _ in range(60):
        host.go_on()
        assert host.line() == "storm"
        with socket.create_connection(host.address) as connection:
            name, port = host.address
            connection.sendall(
                b"GET /debug/pprof/profile?seconds=600&hz=1000 HTTP/1.1\r\n"
                b"Host: %s:%d\r\n\r\n" % (name.encode(), port)
            )
            harness.poll(lambda: profiles_running(host) == 1, "the profile to run")
        host.go_on()  # before, while or after the sampler stops
        host.ready()
        harness.poll(lambda: profiles_running(host) == 0, "the profile to stop")
        assert kernels_timers(host.pid) == 0, kernels_timers(host.pid)
    assert host.health()["cpu_sampling"]["timers"] == 0
    assert host.finish() == 0
