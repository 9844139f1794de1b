"""Programs of the distribution for stacks.py, each with the work that it is given: real parts of
the program at work, the same again and again until it is ended."""
import glob
import os
import subprocess

import harness
from test_unwind_oracle import NODE, PERL, PYTHON

RUBY = """
require "json"; require "set"; require "zlib"
loop do
  rows = (1..800).map { |i| { "a" => i, "b" => i.to_s * 5 } }
  JSON.parse(JSON.generate(rows)).sort_by { |row| row["b"] }.group_by { |row| row["a"] % 7 }
  rows.to_s.scan(/1+2/).to_set
  Zlib.deflate(rows.to_s)
end
"""
NUMPY = """
import numpy
a = numpy.random.rand(500, 500)
while True:
    b = a @ a
    numpy.linalg.svd(a[:150, :150])
    numpy.linalg.solve(a[:200, :200], a[:200, 0])
    numpy.sort(b, axis=None)
    numpy.fft.fft2(a)
    (b.astype(numpy.float32) @ b.astype(numpy.float32)).sum()
"""
OCTAVE = """
function r = f(n)
  if n < 2
    r = n;
  else
    r = f(n - 1) + f(n - 2);
  end
end
while true
  a = rand(250); b = a * a; c = a \\ b; d = eig(a(1:80, 1:80)); f(12);
  s = sprintf("%d,", 1:2000); t = strsplit(s, ","); regexprep(s, "1+2", "x"); sort(b(:));
end
"""
R = """
f <- function(n) if (n < 2) n else f(n - 1) + f(n - 2)
repeat {
  d <- data.frame(x = rnorm(2000), g = sample(letters, 2000, TRUE))
  m <- lm(x ~ g, d); a <- aggregate(x ~ g, d, mean); f(15)
  s <- sapply(strsplit(paste(d$x, collapse = ","), ",")[[1]], nchar)
  o <- order(d$x); a <- matrix(rnorm(40000), 200); b <- solve(a) %*% a; gsub("1+2", "x", names(s))
}
"""
EMACS = """
(require 'bytecomp)
(let ((byte-compile-warnings nil) (byte-compile-verbose nil))
  (while t
    (with-temp-buffer
      (dotimes (i 300) (insert (format "(defun f%d (x) (let ((y (* x %d))) (if (> y 3)
        (mapcar (lambda (z) (+ z y)) (list x y)) (cons x y))))\\n" i i)))
      (goto-char (point-min))
      (while (re-search-forward "defun f\\\\([0-9]+\\\\)" nil t) (replace-match "defun g\\\\1"))
      (goto-char (point-min))
      (condition-case nil (while t (byte-compile (read (current-buffer)))) (end-of-file nil))
      (sort (split-string (buffer-string)) #'string<))))
"""
ERLANG = """
-module(load).
-export([run/0]).
fib(N) when N < 2 -> N;
fib(N) -> fib(N - 1) + fib(N - 2).
run() ->
    spawn(fun loop/0),
    loop().
loop() ->
    L = lists:sort([erlang:phash2(I) || I <- lists:seq(1, 20000)]),
    M = maps:from_list([{I, integer_to_binary(I)} || I <- L]),
    _ = term_to_binary(maps:to_list(M)),
    _ = re:run(integer_to_list(lists:sum(L)), "1+2"),
    _ = zlib:compress(term_to_binary(L)),
    fib(20),
    loop().
"""
LUA = """
local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
while true do
  local t = {}
  for i = 1, 20000 do t[i] = tostring(i * 7919 % 10007) end
  table.sort(t)
  local s = table.concat(t, ",")
  s:gsub("1+2", "x"); for w in s:gmatch("[^,]+") do t[w] = (t[w] or 0) + 1 end
  fib(22)
end
"""
CSHARP = """
using System; using System.Collections.Generic; using System.Linq; using System.Text;
class Load {
  static int Fib(int n) { return n < 2 ? n : Fib(n - 1) + Fib(n - 2); }
  static void Main() {
    for (;;) {
      var d = new Dictionary<string, int>(); var b = new StringBuilder();
      for (int i = 0; i < 20000; i++) { d[(i * 7919 % 10007).ToString()] = i; b.Append(i); }
      d.OrderBy(p => p.Key, StringComparer.Ordinal).Select(p => p.Value).ToList();
      System.Text.RegularExpressions.Regex.Replace(b.ToString(), "1+2", "x"); Fib(22);
    }
  }
}
"""
SCHEME = """
(use-modules (srfi srfi-1) (ice-9 regex))
(define (fib n) (if (< n 2) n (+ (fib (- n 1)) (fib (- n 2)))))
(define (work)
  (let* ((l (map (lambda (i) (number->string (modulo (* i 7919) 10007))) (iota 20000)))
         (s (sort l string<?)) (h (make-hash-table)))
    (for-each (lambda (x) (hash-set! h x (string-length x))) s)
    (string-join s ",") (fold + 0 (map string-length l)) (fib 20) (work)))
(work)
"""
HASKELL = """
module Main where
import Data.List (sort, foldl')
import qualified Data.IORef as I
import Control.Monad (forever)
fib :: Int -> Int
fib n = if n < 2 then n else fib (n - 1) + fib (n - 2)
main :: IO ()
main = do
  r <- I.newIORef (1 :: Int)
  forever $ do
    n <- I.readIORef r
    let l = map (\\i -> show (i * 7919 `mod` 10007)) [n .. n + 20000]
    I.writeIORef r $! (foldl' (\\a s -> a + length s) 0 (sort l) + fib 20) `mod` 1000
"""
JAVA = """
import java.util.*; import java.util.regex.*; import java.util.stream.*; import java.math.*;
public class Load {
  static int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
  static long sink;
  static volatile boolean stop;
  static void work() {
    Pattern pattern = Pattern.compile("1+2");
    for (int round = 0; round < 20; round++) {
      Map<String, Integer> map = new HashMap<>(); StringBuilder text = new StringBuilder();
      for (int i = 0; i < 20000; i++) {
        map.put(Integer.toString(i * 7919 % 10007), i); text.append(i);
      }
      sink += map.entrySet().stream().sorted(Map.Entry.comparingByKey()).map(e -> e.getValue())
                 .collect(Collectors.toList()).size();
      sink += pattern.matcher(text).replaceAll("x").length() + fib(22);
      sink += BigInteger.valueOf(3).pow(3000).mod(BigInteger.valueOf(1000003)).longValue();
      java.util.zip.CRC32 crc = new java.util.zip.CRC32(); crc.update(text.toString().getBytes());
      java.util.zip.Deflater deflater = new java.util.zip.Deflater();
      deflater.setInput(text.toString().getBytes()); deflater.finish();
      sink += deflater.deflate(new byte[100000]) + crc.getValue(); deflater.end();
      try { Object o = null; o.hashCode(); } catch (NullPointerException e) { sink++; }
    }
  }
  static void run() { while (!stop) work(); }
  public static void main(String[] words) {
    new Thread(Load::run, "second").start();
    run();
  }
}
"""
GO = """package main

/*
#include <stdlib.h>
#include <string.h>
static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
static int work(int n) {
	int *values = malloc(n * sizeof *values), result;
	for (int i = 0; i < n; i++) values[i] = i * 7919 % 10007;
	qsort(values, n, sizeof *values, compare);
	char *text = strdup("text");
	result = values[n / 2] + text[0];
	free(text);
	free(values);
	return result;
}
*/
import "C"

import (
	"encoding/json"
	"regexp"
	"sort"
	"strconv"
)

type row struct {
	A int
	B string
}

func burn() int {
	pattern, sum := regexp.MustCompile("1+2"), 0
	for {
		rows, names := []row{}, []string{}
		for i := 0; i < 2000; i++ {
			rows = append(rows, row{i, strconv.Itoa(i * 7919 % 10007)})
			names = append(names, rows[i].B)
		}
		text, _ := json.Marshal(rows)
		json.Unmarshal(text, &rows)
		sort.Strings(names)
		sum += len(pattern.ReplaceAll(text, []byte("x"))) + int(C.work(20000))
	}
}

func main() {
	go burn()
	burn()
}
"""
PAGE = """<!doctype html><title>load</title><div id=d></div><script>
function work() {
  const rows = []; for (let i = 0; i < 3000; i++) rows.push({a: i, b: String(i * 7919 % 10007)});
  JSON.parse(JSON.stringify(rows)).sort((x, y) => x.b < y.b ? -1 : 1);
  rows.map(r => r.b).join(',').replace(/1+2/g, 'x');
  const shown = rows.slice(0, 200).map(r => '<p>' + r.b + '</p>');
  document.getElementById('d').innerHTML = shown.join('');
  document.getElementById('d').offsetHeight;
  setTimeout(work, 0);
}
work();
</script>"""


def write(directory, name, text):
    path = os.path.join(directory, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def made(argv, cwd, **variables):
    done = subprocess.run(
        argv, cwd=cwd, env=dict(os.environ, HOME=cwd, **variables), capture_output=True, text=True
    )
    if done.returncode:
        raise harness.Skip("%s: %s" % (argv[0], done.stderr.strip()[-200:]))


def java(*options):
    def start(directory):
        program, compiler = harness.need("java", "javac")
        made([compiler, "-d", directory, write(directory, "Load.java", JAVA)], directory)
        return [program, *options, "-Xmx256m", "-cp", directory, "Load"]

    return start


def script(program, text, *options):
    """A program that reads its work from a file."""
    return lambda directory: [harness.need(program), *options, write(directory, "load", text)]


def numpy(directory):
    if subprocess.run(["/usr/bin/python3", "-c", "import numpy"], capture_output=True).returncode:
        raise harness.Skip("python3-numpy is not installed")
    return ["/usr/bin/python3", write(directory, "load.py", NUMPY)]


def r(directory):
    return [harness.need("R"), "--no-save", "--no-echo", "-f", write(directory, "load.R", R)]


def ffmpeg(directory):
    return [
        harness.need("ffmpeg"),
        "-nostdin",
        "-loglevel",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=640x360:rate=30",
        "-f",
        "lavfi",
        "-i",
        "sine=frequency=440",
        "-vf",
        "scale=480:272,unsharp",
        "-c:v",
        "libx264",
        "-c:a",
        "aac",
        "-f",
        "null",
        "-",
    ]


def emacs(directory):
    return [harness.need("emacs"), "-Q", "--batch", "-l", write(directory, "load.el", EMACS)]


def go(directory):
    program = os.path.join(directory, "load")
    made(
        [harness.need("go"), "build", "-o", program, write(directory, "load.go", GO)],
        directory,
        CGO_ENABLED="1",
        GO111MODULE="off",
        GOCACHE=os.path.join(directory, "cache"),
        GOPATH=directory,
    )
    return [program]


def erlang(*options):
    def start(directory):
        erl, erlc = harness.need("erl", "erlc")
        made([erlc, "-o", directory, write(directory, "load.erl", ERLANG)], directory)
        return [erl, *options, "-noinput", "-pa", directory, "-s", "load", "run"]

    return start


def mono(directory):
    program, compiler = harness.need("mono", "mcs")
    made([compiler, "-r:System.Core.dll", write(directory, "load.cs", CSHARP)], directory)
    return [program, os.path.join(directory, "load.exe")]


def ghc(directory):
    made(
        [
            harness.need("ghc"),
            "-O1",
            "-o",
            os.path.join(directory, "load"),
            write(directory, "Load.hs", HASKELL),
        ],
        directory,
    )
    return [os.path.join(directory, "load")]


def chromium(directory):
    page = "file://" + write(directory, "page.html", PAGE)
    return [
        harness.need("chromium"),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--user-data-dir=" + directory,
        "--remote-debugging-port=0",
        page,
    ]


# ---- servers: (argv, what keeps them busy) ----


def redis(directory):
    server, benchmark = harness.need("redis-server", "redis-benchmark")
    port = str(harness.free_port())
    return (
        [server, "--port", port, "--save", "", "--dir", directory],
        [benchmark, "-p", port, "-q", "-l", "-P", "16", "-t", "set,get,lpush,zadd"],
    )


def requests_to(port):
    """Asks for a page for ever."""
    loop = "while :; do ab -q -n 20000 -c 8 http://127.0.0.1:%d/page >/dev/null 2>&1; done" % port
    harness.need("ab")
    return ["/bin/sh", "-c", loop]


def nginx(directory):
    port = harness.free_port()
    os.chmod(directory, 0o755)
    write(directory, "page", "a paragraph of a page\n" * 500)
    configuration = write(
        directory,
        "nginx.conf",
        """
daemon off; master_process off; pid %(d)s/pid; error_log %(d)s/error.log;
events { worker_connections 256; }
http { access_log %(d)s/access.log; gzip on; gzip_types *; client_body_temp_path %(d)s/b;
proxy_temp_path %(d)s/p; fastcgi_temp_path %(d)s/f; uwsgi_temp_path %(d)s/u;
scgi_temp_path %(d)s/s; server { listen 127.0.0.1:%(port)d; root %(d)s; } }
"""
        % {"d": directory, "port": port},
    )
    return [harness.need("nginx"), "-c", configuration, "-p", directory], requests_to(port)


def apache(directory):
    port = harness.free_port()
    os.chmod(directory, 0o755)
    write(directory, "page", "a paragraph of a page\n" * 500)
    configuration = write(
        directory,
        "httpd.conf",
        """
ServerRoot %(d)s
DefaultRuntimeDir %(d)s
PidFile %(d)s/pid
ServerName localhost
Listen 127.0.0.1:%(port)d
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule deflate_module /usr/lib/apache2/modules/mod_deflate.so
LoadModule filter_module /usr/lib/apache2/modules/mod_filter.so
StartServers 1
ServerLimit 1
ThreadsPerChild 16
MaxRequestWorkers 16
User www-data
Group www-data
ErrorLog %(d)s/error.log
DocumentRoot %(d)s
SetOutputFilter DEFLATE
"""
        % {"d": directory, "port": port},
    )
    return ([harness.need("apache2"), "-X", "-f", configuration], requests_to(port))


def postgres(directory):
    places = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not places:
        raise harness.Skip("postgresql is not installed")
    os.chmod(directory, 0o711)
    data, port = os.path.join(directory, "data"), harness.free_port()
    os.mkdir(data)
    as_user = []
    if os.getuid() == 0:
        subprocess.run(["chown", "postgres", data], check=True)
        as_user = [
            harness.need("setpriv"),
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
        ]
    made(as_user + [places[-1] + "/initdb", "-D", data, "-A", "trust", "-U", "postgres"], directory)
    work = (
        "SELECT count(*), sum(length(b)) FROM (SELECT a, repeat(a::text, 3) b FROM "
        "generate_series(1, 60000) a ORDER BY md5(a::text)) x JOIN generate_series(1, 1000) c "
        "ON x.a = c WHERE b ~ '1+2'; \\watch 0.01\n"
    )
    return (
        as_user
        + [
            places[-1] + "/postgres",
            "-D",
            data,
            "-k",
            data,
            "-p",
            str(port),
            "-c",
            "listen_addresses=",
        ],
        as_user
        + [
            places[-1] + "/psql",
            "-h",
            data,
            "-p",
            str(port),
            "-U",
            "postgres",
            "-q",
            "-f",
            write(directory, "work.sql", work),
        ],
    )
