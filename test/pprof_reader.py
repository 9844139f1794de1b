"""An independent reader of gzip'ed profile.proto: the standard library only, no code in common with
the agent.

It is strict where the agent's users are: sequential ids, string_table[0] == "", every reference
valid.
"""
import collections
import gzip


def _varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _signed(value):
    return value - (1 << 64) if value >= 1 << 63 else value


def _fields(data):
    """Yields (field number, value): an int for varints, bytes for length-delimited fields."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
        elif wire == 2:
            size, at = _varint(data, at)
            value = data[at : at + size]
            assert len(value) == size, "length-delimited field runs past the end"
            at += size
        else:
            raise ValueError("wire type %d in profile.proto" % wire)
        yield key >> 3, value


def _repeated_ints(value):
    """A repeated integer field, packed or one by one."""
    if isinstance(value, int):
        return [_signed(value)]
    out, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        out.append(_signed(number))
    return out


Frame = collections.namedtuple(
    "Frame", "function system_name filename line address mapping inlined"
)
Mapping = collections.namedtuple("Mapping", "id start limit offset filename build_id has_functions")
Sample = collections.namedtuple("Sample", "frames values labels locations")


def bare(name):
    """A C++ function's name without its parameters: `by_new(unsigned long)` and `by_new() [clone
    .cold]` are `by_new`."""
    name = name.split(" [clone ")[0]
    if not name.endswith((")", ") const")) or name.startswith("("):
        return name
    depth = 0
    for at in range(len(name) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(name[at], 0)
        if name[at] == "(" and depth == 0:
            return name if name[:at].endswith("operator") else name[:at]
    return name


class Profile:
    def __init__(self, body):
        self.raw = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        sample_types, samples, mappings, locations, functions, strings = [], [], [], [], [], []
        self.drop_frames = self.period_type = self.default_sample_type = None
        self.time_nanos = self.duration_nanos = self.period = 0
        comments, period_type, default_type = [], None, 0
        for number, value in _fields(self.raw):
            if number == 1:
                sample_types.append(value)
            elif number == 2:
                samples.append(value)
            elif number == 3:
                mappings.append(value)
            elif number == 4:
                locations.append(value)
            elif number == 5:
                functions.append(value)
            elif number == 6:
                strings.append(value.decode("utf-8"))
            elif number == 9:
                self.time_nanos = value
            elif number == 10:
                self.duration_nanos = value
            elif number == 11:
                period_type = value
            elif number == 12:
                self.period = _signed(value)
            elif number == 13:
                comments += _repeated_ints(value)
            elif number == 14:
                default_type = value
            elif number not in (7, 8):
                raise ValueError("unknown top-level field %d" % number)
        assert strings and strings[0] == "", "string_table[0] is not empty"
        self.strings = strings
        self.sample_types = [self._value_type(item) for item in sample_types]
        self.period_type = self._value_type(period_type) if period_type is not None else None
        self.default_sample_type = strings[default_type] if default_type else None
        self.comments = [strings[index] for index in comments]
        self.mappings = [self._mapping(item, index) for index, item in enumerate(mappings)]
        self._functions = [self._function(item, index) for index, item in enumerate(functions)]
        self._locations = [self._location(item, index) for index, item in enumerate(locations)]
        self.samples = [self._sample(item) for item in samples]

    def _value_type(self, data):
        fields = dict(_fields(data))
        return self.strings[fields.get(1, 0)], self.strings[fields.get(2, 0)]

    def _mapping(self, data, index):
        f = dict(_fields(data))
        assert f.get(1) == index + 1, "mapping ids are not sequential from 1"
        return Mapping(
            f[1],
            f.get(2, 0),
            f.get(3, 0),
            f.get(4, 0),
            self.strings[f.get(5, 0)],
            self.strings[f.get(6, 0)],
            bool(f.get(7, 0)),
        )

    def _function(self, data, index):
        f = dict(_fields(data))
        assert f.get(1) == index + 1, "function ids are not sequential from 1"
        return self.strings[f.get(2, 0)], self.strings[f.get(3, 0)], self.strings[f.get(4, 0)]

    def _location(self, data, index):
        """A list of frames, innermost inlined function first; one nameless frame when it has no
        lines."""
        lines, number, mapping_id, address = [], 0, 0, 0
        for field, value in _fields(data):
            if field == 1:
                number = value
            elif field == 2:
                mapping_id = value
            elif field == 3:
                address = value
            elif field == 4:
                lines.append(dict(_fields(value)))
        assert number == index + 1, "location ids are not sequential from 1"
        assert mapping_id <= len(self.mappings), "location refers to an unknown mapping"
        mapping = self.mappings[mapping_id - 1] if mapping_id else None
        if not lines:
            return [Frame("", "", "", 0, address, mapping, False)]
        frames = []
        for position, line in enumerate(lines):
            name, system_name, filename = self._functions[line[1] - 1]
            frames.append(
                Frame(
                    name,
                    system_name,
                    filename,
                    _signed(line.get(2, 0)),
                    address,
                    mapping,
                    position < len(lines) - 1,
                )
            )
        return frames

    def _sample(self, data):
        location_ids, values, labels = [], [], {}
        for number, value in _fields(data):
            if number == 1:
                location_ids += _repeated_ints(value)
            elif number == 2:
                values += _repeated_ints(value)
            elif number == 3:
                f = dict(_fields(value))
                labels[self.strings[f.get(1, 0)]] = (
                    self.strings[f[2]] if 2 in f else _signed(f.get(3, 0))
                )
        assert len(values) == len(self.sample_types), "a sample has %d values" % len(values)
        assert location_ids and 0 not in location_ids, "a sample without locations"
        frames = [frame for index in location_ids for frame in self._locations[index - 1]]
        return Sample(frames, values, labels, location_ids)

    # What tests ask for. Values are (alloc objects, alloc bytes, in-use objects, in-use bytes) for
    # heap and allocs; names are bare.

    def by_leaf(self):
        """{leaf function: summed values}"""
        return self._sums(lambda sample: {bare(sample.frames[0].function)})

    def by_function(self):
        """{function: summed values of every sample in which it appears}, as pprof's cum column"""
        return self._sums(lambda sample: {bare(frame.function) for frame in sample.frames})

    def _sums(self, keys):
        sums = collections.defaultdict(lambda: [0] * len(self.sample_types))
        for sample in self.samples:
            for key in keys(sample):
                total = sums[key]
                for index, value in enumerate(sample.values):
                    total[index] += value
        return sums

    def total(self):
        return [
            sum(sample.values[index] for sample in self.samples)
            for index in range(len(self.sample_types))
        ]

    def stacks_with(self, function):
        """Every distinct tuple of function names, leaf first, in which the function appears."""
        found = {tuple(bare(frame.function) for frame in sample.frames) for sample in self.samples}
        return sorted(stack for stack in found if function in stack)
