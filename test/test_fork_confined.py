"""Children that put themselves under a seccomp filter, or into its strict mode."""
import harness
from fork_family import check_way, confined
from test_fork_ways import served


def test_child_filters_its_system_calls():
    """From then on it is on its own: the agent has left."""
    check_way(
        "filter_child",
        [served(0), served(1), served(0)],
        program=confined(),
        lines=["filtered", "child exit 4"],
    )


def test_child_of_a_program_that_filters():
    def not_served(family):
        return lambda: harness.poll(lambda: not family.port.processes(), "nobody holds the port")

    check_way("filtered_parent", [not_served], program=confined(), lines=["child exit 6"])


def test_child_in_strict_mode():
    """Its only thread ends by exit(2), as that mode demands; the process ends with that code,
    although there is an agent thread."""
    check_way("strict_child", [], program=confined(), lines=["strict", "child exit 5"])
