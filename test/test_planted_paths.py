"""What a stranger puts on the way to a file that the agent of a root process opens or removes for
itself: nothing is written, read or removed there, and the pages say why."""
import http.client
import json
import os
import re
import socket
import subprocess

import harness
import process_tree
from http_guest import guest, raw
from test_access import OTHER, as_user, readable_by_all
from test_server_addresses import unix_get


def strangers_directory(name="of_stranger"):
    path = os.path.join(readable_by_all(), name)
    os.mkdir(path)
    os.chown(path, OTHER, OTHER)
    return path


def shared_directory():
    """As /tmp."""
    path = os.path.join(readable_by_all(), "shared")
    os.mkdir(path)
    os.chmod(path, 0o1777)
    return path


def by_stranger(function, *arguments):
    """Runs a function of os as the stranger."""
    script = "import os, sys; getattr(os, sys.argv[1])(*sys.argv[2:])"
    subprocess.run(
        [harness.need("python3"), "-c", script, function, *arguments],
        check=True,
        preexec_fn=as_user(OTHER),
        env={"PATH": os.environ["PATH"]},
        cwd="/",
    )


def roots_file(text="of root\n"):
    path = os.path.join(harness.scratch(), "precious")
    with open(path, "w") as file:
        file.write(text)
    return path


def health_with_log(log):
    """The configuration in the health page of a process whose log goes there."""
    process_tree.run_as_root()
    port = harness.free_port()
    host = guest(address="127.0.0.1:%d" % port, extra={"PPROFAGENT_LOG": log})

    def answer():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=harness.DEADLINE)
        try:
            connection.request("GET", "/debug/pprof/health")
            return json.loads(connection.getresponse().read())
        except OSError:
            return None
        finally:
            connection.close()

    found = harness.poll(answer, "the health page" + host.describe())
    assert host.finish() == 0
    return found["config"]


def check_refused(log, why, precious=None):
    config = health_with_log(log)
    assert config["log"] == log and why in (config["log_fault"] or ""), config
    assert config["log_fault"].startswith("PPROFAGENT_LOG: "), config
    if precious:
        assert open(precious).read() == "of root\n"


def test_a_log_in_a_directory_of_a_strangers():
    process_tree.run_as_root()
    directory, precious = strangers_directory(), roots_file()
    link = os.path.join(directory, "agent.log")
    by_stranger("symlink", precious, link)
    check_refused(link, 'directory "of_stranger" on its way belongs to user %d' % OTHER, precious)
    missing = os.path.join(directory, "new.log")
    check_refused(missing, "of_stranger")
    assert sorted(os.listdir(directory)) == ["agent.log"]


def test_a_log_where_everybody_may_write():
    process_tree.run_as_root()
    directory, precious = shared_directory(), roots_file()
    path = lambda name: os.path.join(directory, name)  # noqa: E731
    by_stranger("symlink", precious, path("link.log"))
    check_refused(path("link.log"), "is a link", precious)
    by_stranger("symlink", os.path.dirname(precious), path("way"))
    check_refused(path("way/precious"), 'the link "way" on its way belongs to user', precious)
    by_stranger("mkdir", path("their"))
    check_refused(path("their/agent.log"), 'the directory "their"')
    with open(path("hard.log"), "w") as file:
        file.write("of root\n")
    os.link(path("hard.log"), path("second_name"))
    check_refused(path("hard.log"), "it has a second name", path("hard.log"))
    by_stranger("mkfifo", path("fifo.log"))
    check_refused(path("fifo.log"), "")
    os.chmod(directory, 0o777)  # others may rename what lies in it
    check_refused(path("new.log"), 'others may write the directory "shared"')
    assert not os.path.exists(path("new.log"))
    os.chmod(directory, 0o1777)
    assert health_with_log(path("new.log"))["log_fault"] is None
    assert "listening on" in open(path("new.log")).read()


def test_a_log_behind_a_link_of_root_s():
    process_tree.run_as_root()
    directory, real = readable_by_all(), readable_by_all()
    os.symlink(real, os.path.join(directory, "log"))
    assert health_with_log(os.path.join(directory, "log", "agent.log"))["log_fault"] is None
    assert "listening on" in open(os.path.join(real, "agent.log")).read()


def test_a_log_has_no_text_of_clients_and_no_more_lines_than_it_may():
    host = guest()
    for _ in range(400):
        for request in (
            "GET / HTTP/" + "evil_text" * 20,
            "GET /evil_text HTTP/7.7\r\nHost: evil_text",
            "evil_text / HTTP/1.1",
            "GET /%00evil_text HTTP/1.1\r\nevil_text: " + "x" * 9000,
        ):
            try:
                raw(host, request + "\r\n\r\n")
            except (OSError, AssertionError, ValueError, IndexError):
                pass  # closed before all was sent
    log = host.log()
    assert "evil_text" not in log and "listening on" in log, log[:2000]
    assert len(log.splitlines()) < 250, len(log.splitlines())  # 100, and one a second
    config = host.health()["config"]
    assert config["log_fault"] is None
    harness.note(
        "%d lines of 1600 refused requests, %d left out"
        % (len(log.splitlines()), config["log_lines_left_out"])
    )


def test_a_unix_socket_in_a_directory_that_is_swapped():
    process_tree.run_as_root()
    race = strangers_directory("race")
    for name in ("run", "other"):
        by_stranger("mkdir", os.path.join(race, name))
    precious = os.path.join(race, "other", "agent.sock")
    with open(precious, "w") as file:
        file.write("of root\n")
    with socket.socket(socket.AF_UNIX) as stale:  # as a process of root's left it
        stale.bind(os.path.join(race, "run", "agent.sock"))
    flip = harness.build("flip_directories.c", "-O1")
    directory = readable_by_all(flip)
    attacker = subprocess.Popen(
        [os.path.join(directory, os.path.basename(flip)), "run", "other"],
        cwd=race,
        stdout=subprocess.PIPE,
        preexec_fn=as_user(OTHER),
    )
    try:
        assert attacker.stdout.readline() == b"ready\n"
        for _ in range(10):
            host = guest(address="unix:%s/run/agent.sock" % race)
            harness.poll(lambda: "off: " in host.log() or "listening" in host.log(), "its agent")
            why = r'off: cannot bind unix:\S+: it is not safe: the directory "race"'
            assert re.search(why, host.log()), host.log()
            assert host.finish() == 0
    finally:
        attacker.kill()
        attacker.wait()
        attacker.stdout.close()
    left = sorted(
        os.path.join(name, entry)
        for name in ("run", "other")
        for entry in os.listdir(os.path.join(race, name))
    )
    assert [os.path.basename(path) for path in left] == ["agent.sock"] * 2, left
    contents = [path for path in left if os.path.isfile(os.path.join(race, path))]
    assert len(contents) == 1 and open(os.path.join(race, contents[0])).read() == "of root\n"


def test_a_stale_socket_of_a_strangers_stays():
    process_tree.run_as_root()
    path = os.path.join(shared_directory(), "agent.sock")
    script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1])"
    subprocess.run(
        [harness.need("python3"), "-c", script, path],
        check=True,
        cwd="/",
        preexec_fn=as_user(OTHER),
        env={"PATH": os.environ["PATH"]},
    )
    host = guest(address="unix:" + path)
    harness.poll(lambda: "the address is in use" in host.log(), "the reason" + host.describe())
    assert host.finish() == 0 and os.lstat(path).st_uid == OTHER
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as own:
        own.bind(path)
    host = guest(address="unix:" + path)
    harness.poll(lambda: "listening" in host.log(), "a new listener in the dead one's place")
    assert unix_get(path) == 200
    os.rename(path, path + ".aside")  # what lies there at the end is not the agent's
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
    assert host.finish() == 0 and os.path.exists(path)


def test_tls_files_in_a_directory_of_a_strangers():
    process_tree.run_as_root()
    directory, own = strangers_directory(), readable_by_all()
    paths = {}
    for name in ("cert", "key", "client_ca"):
        paths[name] = os.path.join(own, name)
        with open(paths[name], "w") as file:
            file.write("not read\n")
    for name in paths:
        planted = os.path.join(directory, name)
        by_stranger("symlink", paths[name], planted)
        used = dict(paths, **{name: planted})
        host = harness.Host(
            [harness.build("guest.c", "-O1"), "wait"],
            extra={
                "PPROFAGENT_TLS_ADDR": "127.0.0.1:0",
                **{"PPROFAGENT_TLS_" + key.upper(): value for key, value in used.items()},
            },
        )
        host.ready()
        reason = "PPROFAGENT_TLS_%s: %s is not safe: the directory" % (name.upper(), planted)
        harness.poll(lambda: reason in host.log(), "the reason" + host.describe())  # noqa: B023
        assert host.health()["tls"]["off_reason"].startswith(reason)
        assert host.finish() == 0
