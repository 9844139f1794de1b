"""The list of a port that the processes of a packaged program share."""
import harness


def await_list(port, condition, what):
    """The list {pid: entry} of which the condition holds, every process having answered."""

    def look():
        found = port.processes()
        return (
            found
            if found and all(entry["answered"] for entry in found.values()) and condition(found)
            else None
        )

    try:
        return harness.poll(look, what)
    except AssertionError as error:
        raise AssertionError("%s; there are %s" % (error, port.processes())) from None


def having(found, words):
    """Pids whose command has the words, in order."""
    return [pid for pid, entry in found.items() if words in entry["command"]]


def functions(profile):
    return profile.by_function()
