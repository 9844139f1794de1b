"""Who is not let in: strangers cost no threads, and a user that a process takes on for a moment, or
that may not look into it by the kernel's rules, is a stranger."""
import contextlib
import json
import os
import signal
import socket
import subprocess

import harness
import process_tree
from http_guest import check_error, parse, read_all
from process_tree import Port, Process, pair, stop
from test_access import Guest, OTHER, OWNER, THIRD, as_user, curl, readable_by_all, refusal
from tree_strangers import HOLDER, hello_message

IDLE = 2  # the workload's thread and the agent's


def tree(count):
    """Processes of root's that share a port, the first holding it; none has a server left."""
    process_tree.run_as_root()
    port = Port()
    members = [Process(port)]
    port.await_processes([members[0].pid])
    members += [Process(port) for _ in range(count - 1)]
    port.await_processes([each.pid for each in members], others=False)
    harness.poll(lambda: threads(members) == [IDLE] * count, "the servers' end")
    return port, members


def threads(members):
    return [len(harness.tasks(each.pid)) for each in members]


# ---- what a stranger costs -----------------------------------------------------------------------


def test_a_stranger_s_requests_start_no_server():
    port, members = tree(4)
    for each in members * 3:
        for path in ("/pid/%d/debug/pprof/heap" % each.pid, "/", "/pid/4000000/"):
            check_error(curl(OTHER, "http://%s%s" % (port.address, path)), 403, refusal(OTHER, 0))
            assert threads(members) == [IDLE] * len(members), (path, threads(members))
    url = "http://%s/pid/%d/debug/pprof/heap" % (port.address, members[1].pid)
    status, _, body = curl(OTHER, url, "-I")
    assert (status, body) == (403, b"")
    assert port.ok("cmdline", members[1].pid)


CROWD = """
import socket, sys
request, held = sys.argv[2].encode(), []
for i in range(int(sys.argv[3])):
    held.append(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
    held[-1].sendall(request)
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_crowd_of_strangers_starts_no_server():
    """Silent, in the midst of a request, or asking for a process that does not answer: the owner is
    served beside them."""
    port, members = tree(3)
    stop(members[2].pid)
    try:
        line = "GET /pid/%d/debug/pprof/heap HTTP/1.1\r\n"
        for request in ("", "GET /pi", line % members[1].pid, line % members[2].pid + "\r\n"):
            harness.poll(lambda: threads(members) == [IDLE] * 3, "the servers' end")
            command = [harness.need("python3"), "-c", CROWD, str(port.number), request, "300"]
            crowd = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                preexec_fn=as_user(OTHER),
                cwd="/",
            )
            try:
                assert crowd.stdout.readline() == b"ready\n"
                assert threads(members) == [IDLE] * 3, (request, threads(members))
                harness.in_time(
                    lambda _: port.ok("cmdline", members[1].pid), 2, "an answer beside the crowd"
                )
            finally:
                crowd.kill()
                crowd.communicate()
    finally:
        os.kill(members[2].pid, signal.SIGCONT)


CROWD_ELSEWHERE = """
import socket, sys
address, request, held = sys.argv[1], sys.argv[2].encode(), []
family = socket.AF_UNIX if address[0] == "/" else socket.AF_INET6
where = address if address[0] == "/" else ("::1", int(address))
for i in range(300):
    held.append(socket.socket(family))
    held[-1].settimeout(20)
    held[-1].connect(where)
    held[-1].sendall(request)
print("ready", flush=True)
sys.stdin.read()
"""


def check_crowd_at(members, where, request, ask):
    command = [harness.need("python3"), "-c", CROWD_ELSEWHERE, where, request]
    harness.poll(lambda: threads(members) == [IDLE] * len(members), "the servers' end")
    crowd = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", preexec_fn=as_user(OTHER)
    )
    try:
        assert crowd.stdout.readline() == b"ready\n"
        assert threads(members) == [IDLE] * len(members), (where, request, threads(members))
        harness.in_time(lambda _: ask(), 2, "an answer beside the crowd")
    finally:
        crowd.kill()
        crowd.communicate()


def test_a_crowd_at_the_other_address_of_localhost():
    need_version_six()
    port, members = tree(2)
    url = "http://[::1]:%d/pid/%d/debug/pprof/%%s" % (port.number, members[1].pid)

    def ask():
        assert curl(0, url % "cmdline")[0] == 200

    for request in ("", "GET /pi", "GET /pid/%d/debug/pprof/heap HTTP/1.1\r\n" % members[1].pid):
        check_crowd_at(members, str(port.number), request, ask)
    check_error(curl(OTHER, url % "heap"), 403, refusal(OTHER, 0))


def test_a_crowd_at_a_unix_socket_that_is_open_to_all():
    process_tree.run_as_root()
    path = os.path.join(readable_by_all(), "agent.sock")
    port = Port("unix:" + path)
    members = [Process(port)]
    port.await_processes([members[0].pid])
    members.append(Process(port))
    port.await_processes([each.pid for each in members], others=False)
    os.chmod(path, 0o777)
    for request in ("", "GET /pi", "GET /pid/%d/debug/pprof/heap HTTP/1.1\r\n" % members[1].pid):
        check_crowd_at(members, path, request, lambda: port.ok("cmdline", members[1].pid))
    for each in ("/", "/pid/%d/debug/pprof/heap" % members[1].pid):
        answer = curl(OTHER, "http://x" + each, "--unix-socket", path)
        check_error(answer, 403, refusal(OTHER, 0))


def test_strangers_do_not_keep_a_server_alive():
    """Half a second after the owner's request it ends, whoever connects meanwhile."""
    port, members = tree(1)
    assert port.ok("/debug/pprof/cmdline") and threads(members)[0] > IDLE

    def ends():
        check_error(curl(OTHER, "http://%s/" % port.address), 403, refusal(OTHER, 0))
        return threads(members) == [IDLE]

    harness.poll(ends, "the server's end among a stranger's requests")


def test_a_stranger_to_the_holder_may_be_the_owner_of_another():
    """A worker's user comes by root's port to his own process, and to no other."""
    port, (first, second) = tree(2)
    worker = first.do("fork uid:%d alloc:50007" % OWNER)
    port.await_processes([first.pid, second.pid, worker], others=False)
    url = "http://%s%%s" % port.address
    own = "/pid/%d/debug/pprof/%%s" % worker
    harness.poll(lambda: threads([first]) == [IDLE], "the holder's server has ended")
    for _ in range(2):  # without a server, and with one
        status, _, body = curl(OWNER, url % (own % "cmdline"))
        assert (status, body) == (200, process_tree.build().encode()), (status, body)
    others = ["/pid/%d/debug/pprof/heap" % each.pid for each in (first, second)]
    for path in ("/", "/debug/pprof/", *others):
        check_error(curl(OWNER, url % path), 403, refusal(OWNER, 0))
    check_error(curl(OTHER, url % (own % "cmdline")), 403, refusal(OTHER, OWNER))


def test_the_holder_refuses_for_a_process_that_would_not_answer():
    """Whom only the holder's PPROFAGENT_ALLOW_UIDS names: he gets no thread of the others'."""
    process_tree.run_as_root()
    port, first, second = pair(of_first={"PPROFAGENT_ALLOW_UIDS": str(OTHER)})
    harness.poll(lambda: threads([second]) == [IDLE], "the server's end")
    url = "http://%s/pid/%%d/debug/pprof/cmdline" % port.address
    assert curl(OTHER, url % first.pid)[0] == 200
    for _ in range(3):
        check_error(curl(OTHER, url % second.pid), 403, refusal(OTHER, 0))
        assert threads([second]) == [IDLE]


# ---- whose a process is --------------------------------------------------------------------------

ACTS = r"""
import ctypes, os, sys
libc = ctypes.CDLL(None)
print("there", flush=True)
for line in sys.stdin:
    word, *numbers = line.split()
    numbers = [int(number) for number in numbers]
    if word == "seteuid": os.seteuid(*numbers)
    elif word == "setresuid": os.setresuid(*numbers)
    elif word == "dumpable": assert libc.prctl(4, numbers[0], 0, 0, 0) == 0
    print("done", flush=True)
"""


class Actor(Guest):
    """Does what it is told to its own users; and is asked who may see it."""

    def __init__(self, uid=0, **extra):
        super().__init__(uid, argv=[harness.need("python3"), "-c", ACTS], **extra)
        assert self.process.line() == "there"

    def do(self, words):
        self.process.process.stdin.write(words.encode() + b"\n")
        self.process.process.stdin.flush()
        assert self.process.line() == "done", self.process.describe()


def not_only(uid, real, effective, saved):
    return (
        "user %d may not connect: this process is not only that user's (real %d, effective %d, "
        "saved %d); PPROFAGENT_ALLOW_UIDS names further users" % (uid, real, effective, saved)
    )


def test_a_user_taken_on_for_a_moment():
    actor = Actor()
    for words, users in (
        ("seteuid %d" % OWNER, (0, OWNER, 0)),
        ("seteuid 0", None),
        ("setresuid %d 0 0" % OWNER, (OWNER, 0, 0)),
        ("setresuid %d %d 0" % (OWNER, OWNER), (OWNER, OWNER, 0)),
    ):
        actor.do(words)
        text = not_only(OWNER, *users) if users else refusal(OWNER, 0)
        check_error(curl(OWNER, actor.url()), 403, text)
        assert actor.status(0) == 200
        assert actor.status(OTHER) == 403
    actor.do("setresuid %d %d %d" % (OWNER, OWNER, OWNER))  # for good
    assert actor.status(OWNER) == actor.status(0) == 200 and actor.status(OTHER) == 403


def test_a_user_taken_on_again_and_again():
    """20 ms of each 200, as sshd, samba and cron do."""
    process_tree.run_as_root()
    source = os.path.join(harness.ROOT, "test", "workloads", "takes_on_a_user.c")
    directory = readable_by_all(harness.build(source))
    program = os.path.join(directory, os.listdir(directory)[0])
    guest = Guest(argv=[program, str(OWNER), "20000", "180000"])
    assert {guest.status(OWNER) for _ in range(60)} == {403}
    assert guest.status(0) == 200


def test_a_process_that_is_not_dumpable():
    actor = Actor(OWNER, PPROFAGENT_ALLOW_UIDS=str(THIRD))
    assert actor.status(OWNER) == 200
    actor.do("dumpable 0")
    check_error(
        curl(OWNER, actor.url()),
        403,
        "user %d may not connect: this process is not dumpable (prctl(2)), so only root "
        "may; PPROFAGENT_ALLOW_UIDS names further users" % OWNER,
    )
    assert actor.status(0) == actor.status(THIRD) == 200
    actor.do("dumpable 1")
    assert actor.status(OWNER) == 200


def test_a_worker_that_asks_not_to_be_looked_into():
    """Who gave up root under the agent is its new user's, until it says that it is not."""
    actor = Actor()
    actor.do("setresuid %d %d %d" % (OWNER, OWNER, OWNER))
    assert actor.status(OWNER) == 200
    actor.do("dumpable 0")
    assert actor.status(OWNER) == 403 and actor.status(0) == 200


def test_a_holder_of_the_user_taken_on_is_not_believed():
    """He listens at the name of the port, and sends a connection for whose client he vouches."""
    process_tree.run_as_root()
    port = Port()
    python = harness.need("python3")
    holder = harness.Host(
        [python, "-c", HOLDER, "pprofagent/" + port.address, "00" * 16],
        plain=True,
        preexec_fn=as_user(OWNER),
        cwd="/",
    )
    assert holder.line() == "bound"
    program = "import os, sys; os.seteuid(%d); print('there', flush=True); sys.stdin.read()"
    host = harness.Host([python, "-c", program % OWNER], address=port.address)
    assert host.line() == "there"
    harness.poll(lambda: holder.process.poll() is not None, "the member has left")
    assert b"200 OK" not in holder.process.stdout.read(), "root's pages"
    assert "sharing the port" not in host.log(), host.log()


def test_a_holder_that_gave_up_root_is_believed_no_more():
    """Its new user could look into it and speak for it."""
    port, (first, second) = tree(2)
    assert port.processes()[second.pid]["heap_inuse_bytes"] is not None
    first.do("uid:%d" % OWNER)
    # Known by the key that it was told before; root's own holds the port now.
    port.await_processes([first.pid, second.pid], others=False)
    harness.poll(lambda: port.holder() == second.pid, "root's holds the port")
    third = Process(port)
    port.await_processes([first.pid, second.pid, third.pid], others=False)


JOIN = r"""
import os, socket, struct, sys
hello = bytes.fromhex(sys.argv[2])
peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
peer.connect("\0" + sys.argv[1])
peer.send(hello[:16] + struct.pack("=i", os.getpid()) + hello[20:])
answer, descriptors, _, _ = socket.recv_fds(peer, 65536, 4)
print(struct.unpack_from("=I", answer, 8)[0], len(descriptors))
"""
WELCOME = 2


def test_a_listener_is_given_to_root_and_the_first_user_only():
    """Who may join (PPROFAGENT_ALLOW_UIDS) is not yet who may hear what is meant for the others."""
    process_tree.run_as_root()
    port = Port("unix:" + os.path.join(harness.scratch(), "agent.sock"))
    holder = Process(port, extra={"PPROFAGENT_ALLOW_UIDS": str(OTHER)})
    port.await_processes([holder.pid])
    hello = hello_message()
    for uid, given in ((0, 1), (OTHER, 0)):
        command = [harness.need("python3"), "-c", JOIN, "pprofagent/" + port.address, hello]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, preexec_fn=as_user(uid), cwd="/", check=True
        )
        assert done.stdout.split() == [str(WELCOME), str(given)], (uid, done.stdout)


ASK_FOR_PORT = (
    JOIN
    + r"""
peer.send(hello[:8] + struct.pack("=II", 8, 0).ljust(len(hello) - 8, b"\0"))  # it is to give way
print(len(peer.recv(65536)))
"""
)


def test_root_s_process_gives_the_port_to_no_other_user():
    """Who may join may not send the one away that holds the port."""
    process_tree.run_as_root()
    port = Port()
    holder = Process(port, extra={"PPROFAGENT_ALLOW_UIDS": str(OTHER)})
    port.await_processes([holder.pid])
    hello = hello_message()
    for uid in (OTHER, 0, OTHER):  # each is heard after what came of the one before
        command = [harness.need("python3"), "-c", ASK_FOR_PORT, "pprofagent/" + port.address, hello]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, preexec_fn=as_user(uid), cwd="/", check=True
        )
        assert done.stdout.split() == [str(WELCOME), "0", "0"], (uid, done.stdout)
    assert port.holder() == holder.pid
    assert "takes the port over" not in holder.log()


# ---- what a server's own user sees ---------------------------------------------------------------


def may_read(uid, path):
    """Whether that user may read a first byte."""
    program = "import sys; open(sys.argv[1], 'rb').read(1)"
    done = subprocess.run(
        [harness.need("python3"), "-c", program, path],
        capture_output=True,
        preexec_fn=as_user(uid),
        cwd="/",
    )
    return done.returncode == 0


def test_nginx_shows_no_more_than_proc():
    """Its workers' user may see their profiles, and the kernel lets him read their maps, memory and
    environment; of root's master neither."""
    process_tree.run_as_root()
    nginx, port, directory = harness.need("nginx"), Port(), harness.scratch()
    os.chmod(directory, 0o755)
    with open(directory + "/nginx.conf", "w") as file:
        file.write(
            "user nobody nogroup;\nworker_processes 1;\ndaemon off;\npid %s/pid;\n"
            "error_log %s/error;\nevents {}\n"
            "http { access_log off; server { listen 127.0.0.1:%d; } }\n"
            % (directory, directory, harness.free_port())
        )
    command = [nginx, "-p", directory, "-c", directory + "/nginx.conf"]
    master = harness.Host(command, address=port.address)
    nobody = 65534
    two = lambda: {pid: entry["uid"] for pid, entry in port.processes().items()}
    harness.poll(lambda: {0, nobody} == set(two().values()), "master and worker")
    worker = next(pid for pid, uid in two().items() if uid == nobody)
    for pid, may in ((worker, True), (master.pid, False)):
        status = curl(nobody, "http://%s/pid/%d/debug/pprof/heap" % (port.address, pid))[0]
        assert status == (200 if may else 403), (pid, status)
        for name in ("maps", "environ"):
            assert may_read(nobody, "/proc/%d/%s" % (pid, name)) == may, (pid, name)
    for path in ("/", "/debug/pprof/"):
        assert curl(nobody, "http://%s%s" % (port.address, path))[0] == 403
    assert curl(OTHER, "http://%s/pid/%d/debug/pprof/heap" % (port.address, worker))[0] == 403
    assert not may_read(OTHER, "/proc/%d/maps" % worker)
    os.kill(master.pid, signal.SIGQUIT)
    assert master.process.wait(harness.DEADLINE) == 0


# ---- localhost is two addresses ------------------------------------------------------------------


def need_version_six():
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            raise harness.Skip("no IPv6 loopback here") from None


def test_both_addresses_of_localhost_are_one_user_s():
    need_version_six()
    process_tree.run_as_root()
    for address, other in (("127.0.0.1:%d", "[::1]"), ("[::1]:%d", "127.0.0.1")):
        guest = Guest(OWNER, address=address)
        url = "http://%s:%d/debug/pprof/cmdline" % (other, guest.port)
        squatter = socket.socket(socket.AF_INET6 if other[0] == "[" else socket.AF_INET)
        with squatter, contextlib.suppress(OSError):
            squatter.bind((other.strip("[]"), guest.port))
            raise AssertionError("a stranger can have %s:%d" % (other, guest.port))
        asked = [(OWNER, url), (0, url), (0, url.replace(other, "localhost"))]
        assert [curl(*each)[0] for each in asked] == [200] * 3
        check_error(curl(OTHER, url), 403, refusal(OTHER, OWNER))
        health = json.loads(curl(0, guest.url("/debug/pprof/health"))[2])
        assert health["agent"]["localhost_fault"] is None


def test_a_stranger_who_has_the_other_address_is_named():
    need_version_six()
    with socket.socket(socket.AF_INET6) as stranger:
        stranger.bind(("::1", 0))
        stranger.listen()
        number = stranger.getsockname()[1]
        host = harness.Host(["/bin/sleep", "300"], address="127.0.0.1:%d" % number, stdin=None)
        for text in (host.health()["agent"]["localhost_fault"], host.text(""), host.log()):
            assert "127.0.0.1 and ::1 are two" in text, text
    harness.poll(lambda: host.health()["agent"]["localhost_fault"] is None, "the agent has both")
    with socket.create_connection(("::1", number)) as connection:
        head = b"GET /debug/pprof/cmdline HTTP/1.1\r\nHost: localhost:%d\r\n\r\n"
        connection.sendall(head % number)
        assert parse(read_all(connection))[0] == 200


def test_another_process_takes_over_both():
    need_version_six()
    port = Port()
    first = Process(port)
    port.await_processes([first.pid])
    second = Process(port)
    port.await_processes([first.pid, second.pid], others=False)
    first.kill()
    port.await_processes([second.pid], others=False)

    def has_both():
        with socket.socket(socket.AF_INET6) as probe:
            return probe.connect_ex(("::1", port.number)) == 0

    harness.poll(has_both, "the second address")
