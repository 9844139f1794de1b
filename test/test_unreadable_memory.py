"""What the shim reads of the program's memory beside its stacks may not be there any more."""
import harness


def test_symbols_that_cannot_be_read():
    """A library without a build-id, whose identity is made of its symbols, is sampled."""
    library = harness.build("unreadable_symbols.c", "-DLIBRARY", "-Wl,--build-id=none", shared=True)
    program = harness.build("unreadable_symbols.c", "-O1", "-ldl")
    for how in ("none", "protect", "unmap"):
        done = harness.run([program, library, how], rate=1)
        assert (done.returncode, done.stdout) == (0, b"1\n"), (how, done)
