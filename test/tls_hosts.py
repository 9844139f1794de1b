"""What the tests of remote admin share: certificates, a host with TLS, and clients."""
import os
import re
import socket
import ssl
import subprocess
import tempfile

import harness

PAIR = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
_directory = tempfile.TemporaryDirectory(prefix="pprofagent-test-")


def openssl(*arguments, check=True, **options):
    done = subprocess.run(
        [harness.need("openssl")] + list(arguments),
        capture_output=True,
        timeout=harness.DEADLINE,
        **options,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def certificates():
    """The directory of NAME.crt and NAME.key: of an authority, a server, its clients, and of
    others."""
    directory = _directory.name
    if os.path.exists(directory + "/rsa.crt"):
        return directory
    path = lambda name: os.path.join(directory, name)

    def root(name):
        openssl(
            "req",
            "-x509",
            *PAIR,
            "-keyout",
            path(name + ".key"),
            "-out",
            path(name + ".crt"),
            "-subj",
            "/CN=" + name,
            "-days",
            "2",
        )

    def leaf(name, authority, purpose, days=2, extra="", kind=PAIR):
        with open(path("extensions"), "w") as file:
            file.write("extendedKeyUsage=%s\n%s" % (purpose, extra))
        openssl(
            "req",
            *kind,
            "-keyout",
            path(name + ".key"),
            "-out",
            path(name + ".csr"),
            "-subj",
            "/CN=" + name,
        )
        sign = [
            "x509",
            "-req",
            "-in",
            path(name + ".csr"),
            "-CA",
            path(authority + ".crt"),
            "-CAkey",
            path(authority + ".key"),
            "-CAcreateserial",
            "-extfile",
            path("extensions"),
            "-out",
            path(name + ".crt"),
        ]
        done = openssl(*sign, "-days", str(days), check=days > 0)
        if done.returncode != 0:  # 3.4 and later take no negative number, older ones no dates
            openssl(*sign, "-not_before", "20200101000000Z", "-not_after", "20200102000000Z")

    root("authority")
    root("foreign")
    leaf(
        "server",
        "authority",
        "serverAuth",
        extra="subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost\n",
    )
    leaf(
        "intermediate",
        "authority",
        "clientAuth,serverAuth",
        extra="basicConstraints=critical,CA:true\n",
    )
    leaf("chained", "intermediate", "serverAuth", extra="subjectAltName=IP:127.0.0.1\n")
    with open(path("chain.crt"), "w") as file:
        file.write(open(path("chained.crt")).read() + open(path("intermediate.crt")).read())
    leaf("client", "authority", "clientAuth")
    leaf("expired", "authority", "clientAuth", days=-1)
    leaf("wrong_purpose", "authority", "serverAuth")
    leaf("stranger", "foreign", "clientAuth")
    leaf("rsa", "authority", "clientAuth", kind=["-newkey", "rsa:2048", "-nodes"])
    return directory


def settings(
    address="127.0.0.1:0", certificate="server.crt", key="server.key", authority="authority.crt"
):
    in_it = lambda name: os.path.join(certificates(), name) if name else ""
    return {
        "PPROFAGENT_TLS_ADDR": address,
        "PPROFAGENT_TLS_CERT": in_it(certificate),
        "PPROFAGENT_TLS_KEY": in_it(key),
        "PPROFAGENT_TLS_CLIENT_CA": in_it(authority),
    }


def start(argv=None, tls=None, **options):
    host = harness.Host(
        argv or [harness.build("remote_admin.c", "-O1")],
        extra=dict(tls or settings(), **options.pop("more", {})),
        **options,
    )
    if not argv:
        host.ready()
    return host


def tls_port(host, nth=1):
    """The port that its log tells, the nth time that it listens."""

    def look():
        assert host.process.poll() is None, "the host ended" + host.describe()
        found = re.findall(r"remote admin on https://\S+:(\d+)/", host.log())
        return found[nth - 1] if len(found) >= nth else None

    return int(harness.poll(look, "remote admin"))


def curl(
    port,
    path="cmdline",
    who="client",
    *options,
    host="127.0.0.1",
    authority="authority",
    seconds=harness.DEADLINE,
):
    """(exit code, body) of curl with a client's certificate; who=None: without."""
    directory = certificates()
    url = "https://%s:%d%s" % (host, port, path if path.startswith("/") else "/debug/pprof/" + path)
    command = [
        harness.need("curl"),
        "-sS",
        "--noproxy",
        "*",
        "--cacert",
        "%s/%s.crt" % (directory, authority),
        *options,
        url,
    ]
    if who:
        command[1:1] = [
            "--cert",
            "%s/%s.crt" % (directory, who),
            "--key",
            "%s/%s.key" % (directory, who),
        ]
    done = subprocess.run(command, capture_output=True, timeout=seconds)
    return done.returncode, done.stdout


def get(port, path="cmdline", *options, **more):
    code, body = curl(port, path, more.pop("who", "client"), *options, **more)
    assert code == 0, "%s: curl's exit code %d" % (path, code)
    return body


def s_client(port, *options, send=b"GET /debug/pprof/cmdline HTTP/1.1\r\nHost: x\r\n\r\n"):
    """All that the server sends inside TLS."""
    return openssl(
        "s_client", "-quiet", "-connect", "127.0.0.1:%d" % port, *options, input=send, check=False
    ).stdout


def identity(who):
    return [
        "-cert",
        "%s/%s.crt" % (certificates(), who),
        "-key",
        "%s/%s.key" % (certificates(), who),
    ]


def tls_socket(port):
    context = ssl.create_default_context(cafile=certificates() + "/authority.crt")
    context.load_cert_chain(certificates() + "/client.crt", certificates() + "/client.key")
    context.verify_flags &= (
        ~ssl.VERIFY_X509_STRICT
    )  # Python 3.13's default asks for more than openssl's own tool makes
    return context.wrap_socket(
        socket.create_connection(("127.0.0.1", port), timeout=harness.DEADLINE),
        server_hostname="127.0.0.1",
    )


def bytes_back(port, text):
    with socket.create_connection(("127.0.0.1", port), timeout=harness.DEADLINE) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        pieces = b""
        try:
            while piece := connection.recv(4096):
                pieces += piece
        except ConnectionResetError:
            pass
        return pieces
