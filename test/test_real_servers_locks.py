"""Block and mutex profiles of packaged servers under load."""
import os
import re
import signal
import socket
import subprocess
import threading

import harness
from contention_truth import (
    CONDITION,
    EVERY,
    MILLISECOND,
    by_pprof,
    check_balance,
    contention,
    summary,
)
from packaged_programs import Load, in_open_directory, unprivileged
from pprof_reader import bare


def converse(port, pipeline, answer_end, answers):
    with socket.create_connection(("127.0.0.1", port), timeout=harness.DEADLINE) as connection:
        connection.sendall(pipeline)
        received = bytearray()
        while received.count(answer_end) < answers:
            piece = connection.recv(1 << 20)
            assert piece, "closed after %d of %d answers" % (received.count(answer_end), answers)
            received += piece
        return bytes(received)


def test_memcached():
    """Four workers that set and read the same few keys."""
    memcached = harness.need("memcached")
    port = harness.free_port()
    host = harness.Host(
        [
            memcached,
            "-t",
            "4",
            "-l",
            "127.0.0.1",
            "-p",
            str(port),
            "-U",
            "0",
            "-u",
            "root" if os.getuid() == 0 else str(os.getuid()),
        ],
        extra=EVERY,
    )

    def answers():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    harness.poll(answers, "memcached answers")
    value, count = b"v" * 900, 3000
    sets = b"".join(
        b"set key%d 0 0 %d\r\n%s\r\n" % (i % 3, len(value), value) for i in range(count)
    )
    gets = b"".join(b"get key%d\r\n" % (i % 3) for i in range(count))

    def load():
        assert converse(port, sets, b"STORED\r\n", count) == b"STORED\r\n" * count
        received = converse(port, gets, b"END\r\n", count)
        assert received == b"".join(
            b"VALUE key%d 0 %d\r\n%s\r\nEND\r\n" % (i % 3, len(value), value) for i in range(count)
        ), received[:200]

    def waited():
        return contention(host, "mutex").by_leaf()["pthread_mutex_unlock"][0] >= 10

    with Load(load), Load(load), Load(load), Load(load):
        harness.poll(waited, "its workers are in each other's way")
    mutex, block = contention(host, "mutex"), contention(host, "block")
    check_balance(block, mutex)
    assert (
        by_pprof(host, "mutex")["pthread_mutex_unlock"][0]
        == mutex.by_leaf()["pthread_mutex_unlock"][1]
        > 0
    )
    assert (
        by_pprof(host, "block")["pthread_mutex_lock"][0]
        >= block.by_leaf()["pthread_mutex_lock"][1]
        > 0
    )
    for profile in (block, mutex):
        outside = [
            sample
            for sample in profile.samples
            if not any(
                frame.mapping and frame.mapping.filename == memcached for frame in sample.frames
            )
        ]
        assert not outside, outside[:3]
    host.process.send_signal(signal.SIGTERM)
    assert host.process.wait(harness.DEADLINE) in (0, -signal.SIGTERM)
    assert "Signal handled" in host.stderr() or host.stderr() == "", host.stderr()
    harness.note("block: " + summary(block))
    harness.note("mutex: " + summary(mutex))


def test_mariadb():
    """Four clients add to one row: they wait for its lock; the server's own latches are futexes."""
    install, server, client = harness.need("mariadb-install-db", "mariadbd", "mariadb")
    become, uid, gid = unprivileged()
    directory = harness.scratch()
    os.chown(directory, uid, gid)
    data, port = os.path.join(directory, "data"), str(harness.free_port())
    done = subprocess.run(
        [
            install,
            "--no-defaults",
            "--datadir=" + data,
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ],
        cwd="/",
        preexec_fn=become,
        capture_output=True,
        text=True,
        timeout=harness.DEADLINE,
    )
    assert done.returncode == 0, done
    host = in_open_directory(
        [
            server,
            "--no-defaults",
            "--datadir=" + data,
            "--port=" + port,
            "--bind-address=127.0.0.1",
            "--pid-file=" + directory + "/pid",
            "--socket=" + directory + "/socket",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-buffer-pool-size=16M",
            "--innodb-log-file-size=4M",
            "--tmpdir=" + directory,
        ],
        become,
        uid,
        stdin=subprocess.DEVNULL,
        extra=EVERY,
    )

    def ask(text):
        return subprocess.run(
            [client, "--no-defaults", "-h", "127.0.0.1", "-P", port, "-u", "root", "-N", "-B"],
            input=text,
            capture_output=True,
            text=True,
            timeout=harness.DEADLINE,
        )

    harness.poll(lambda: ask("select 1;").returncode == 0, "mariadb answers")
    done = ask(
        "create database d; create table d.t (id int primary key, v int) engine=innodb; insert "
        "into d.t values (1, 0);"
    )
    assert done.returncode == 0, done

    def in_four_clients(text):
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(ask(text))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(done.returncode == 0 and not done.stderr for done in answers), answers

    def row_locks():
        """As the server itself counts: how often a thread waited for a row's lock, and ns (it adds
        whole milliseconds)."""
        lines = dict(
            line.split()
            for line in ask("show global status like 'innodb_row_lock_%';").stdout.splitlines()
        )
        return int(lines["Innodb_row_lock_waits"]), int(lines["Innodb_row_lock_time"]) * MILLISECOND

    def waits_in_update():
        """The row's lock is waited for by a condition variable; the binary has no names for what is
        between that and mysql_update."""
        samples = [
            sample
            for sample in contention(host, "block").samples
            if sample.frames[0].function in CONDITION
            and any(bare(frame.function) == "mysql_update" for frame in sample.frames)
        ]
        return [sum(sample.values[index] for sample in samples) for index in (0, 1)]

    def difference(function, text):
        before = function()
        in_four_clients(text)
        return [after - earlier for earlier, after in zip(before, function())]

    update = "update d.t set v = v + 1 where id = 1;"
    server_before = row_locks()
    waits, waited = difference(
        waits_in_update, ("begin; %s do sleep(0.01); commit;\n" % update) * 15
    )
    true_waits, true_time = [after - before for before, after in zip(server_before, row_locks())]
    in_four_clients((update + "\n") * 500)  # short ones: the server's own latches
    assert ask("select v from d.t;").stdout == "%d\n" % (4 * 515)
    mutex, block = contention(host, "mutex"), contention(
        host, "block"
    )  # in this order: waits go on
    assert (
        waits == true_waits > 0
        and abs(waited - true_time) <= 0.03 * true_time + (waits + 10) * MILLISECOND
    ), (waits, waited, true_waits, true_time)
    check_balance(block, mutex)
    for name in ("block", "mutex"):
        assert "mysql_update" in by_pprof(host, name)
    host.process.send_signal(signal.SIGTERM)
    assert host.process.wait(harness.DEADLINE) == 0, host.describe()
    assert "Shutdown complete" in host.stderr() and not re.search(
        r"\[ERROR\]|got signal|Assertion", host.stderr()
    ), host.stderr()
    harness.note(
        "row lock: %d x %.2f s, the server says %d x %.2f s; block: %s"
        % (waits, waited / 1e9, true_waits, true_time / 1e9, summary(block))
    )
    harness.note("mutex: " + summary(mutex))
