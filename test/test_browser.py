"""What a person sees: the index page and the text profiles in headless chromium, and in curl."""
import concurrent.futures
import html
import os
import re
import subprocess

import harness


def host_with_memory():
    host = harness.Host([harness.build("exact.c", "-O1", "-fno-optimize-sibling-calls")], rate=1)
    host.ready()
    return host


def for_a_second(path):
    """The link, where it records for longer, for one second."""
    if path in ("profile", "trace", "wall"):
        return path + "?seconds=1"
    return re.sub(r"\bseconds=\d+", "seconds=1", path)


def test_index_page():
    host = host_with_memory()
    document, console = harness.dom(host.url())
    text = html.unescape(
        re.sub(r"<[^>]+>", " ", re.sub(r"<style.*?</style>", "", document, flags=re.DOTALL))
    )
    for word in (
        "heap",
        "allocs",
        "block",
        "mutex",
        "cmdline",
        "symbol",
        "every wait of 100 µs or more",
        str(host.pid),
        "exact_c",
    ):
        assert word in text, "%s is not on the page:\n%s" % (word, text[:3000])
    assert not console, console
    links = set(re.findall(r"href=[\"']?([^\"' >]+)", document))
    paths = {
        for_a_second(html.unescape(link).split("#")[0])
        for link in links
        if not link.startswith(("http:", "https:", "#", "data:"))
    }
    with concurrent.futures.ThreadPoolExecutor(3) as pool:  # four windows are all there are
        for path, (status, _, body) in zip(paths, pool.map(host.get, paths)):
            assert status == 200 and body, "the page's link %s answers %d" % (path, status)
    harness.note("%d links" % len(links))
    if os.environ.get("SCREENSHOT"):
        subprocess.run(
            [
                harness.need("chromium"),
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--window-size=1100,1000",
                "--screenshot=" + os.environ["SCREENSHOT"],
                host.url(),
            ],
            capture_output=True,
            timeout=60,
        )
    assert host.finish() == 0


def test_text_profile_in_a_browser():
    host = host_with_memory()
    document, console = harness.dom(host.url("heap?debug=1"))
    assert "heap profile: " in document and "by_malloc+0x" in document and not console, document[
        :1000
    ]
    assert host.finish() == 0


def test_cross_origin_page_cannot_read():
    """A page of another origin that fetches the heap is refused (no CORS header, foreign
    Origin)."""
    host = host_with_memory()
    directory = harness.scratch()
    page = os.path.join(directory, "page.html")
    with open(page, "w") as file:
        file.write(
            "<body><script>fetch('%s').then(r => r.text()).then(t => document.body.append('re' + "
            "'ad'))"
            ".catch(e => document.body.append('refu' + 'sed'))</script>" % host.url("heap")
        )
    document, _ = harness.dom("file://" + page)
    assert "refused" in document, document
    assert host.finish() == 0


def test_pprof_web_page_shows_names():
    host = host_with_memory()
    status, _, body = host.get("heap")
    path = os.path.join(host.directory, "heap.pb.gz")
    with open(path, "wb") as file:
        file.write(body)
    with harness.pprof_web(path) as (page, _):
        for view in ("", "flamegraph", "top", "peek", "source"):
            document, console = harness.dom(page + "ui/" + view)
            assert (
                view == "source" or "by_large_realloc" in document
            ), "by_large_realloc is not in pprof's view %s" % (view or "graph")
            assert not [line for line in console if "Error" in line], console
    assert status == 200 and host.finish() == 0
