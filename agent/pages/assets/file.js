// A saved profile, .pb.gz or .pb, read in the browser: it becomes what the agent's ?format=json is.

const largest = 1 << 28;  // bytes, of what comes out of a file

class Broken extends Error {}

/** Fields of protobuf's wire format. */
class Reader {
  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  /** A varint as int64 holds it: exact up to 2^53. */
  number() {
    let low = 0, high = 0;
    for (let i = 0; i < 10; i++) {
      if (this.at >= this.bytes.length) throw new Broken('it ends within a number');
      const byte = this.bytes[this.at++], part = byte & 0x7f, shift = 7 * i;
      if (shift < 28) low += part * 2 ** shift;
      else if (shift === 28) [low, high] = [low + (part & 15) * 2 ** 28, part >> 4];
      else high += part * 2 ** (shift - 32);
      if (byte < 0x80) {
        high %= 2 ** 32;
        return high < 2 ** 31 ? high * 2 ** 32 + low :
                                (high - 2 ** 32 + 1) * 2 ** 32 - (2 ** 32 - low);
      }
    }
    throw new Broken('a number in it is too long');
  }

  piece() {
    const size = this.number();
    if (size < 0 || size > this.bytes.length - this.at)
      throw new Broken('it ends within a record');
    this.at += size;
    return this.bytes.subarray(this.at - size, this.at);
  }

  /**
   * Calls back for each field: a number, or bytes.
   * @param {(field: number, value: any) => void} on
   */
  fields(on) {
    while (this.at < this.bytes.length) {
      const key = this.number(), type = key % 8, field = Math.floor(key / 8);
      if (field < 1) throw new Broken('a field in it has no number');
      if (type === 0) on(field, this.number());
      else if (type === 2) on(field, this.piece());
      else if (type === 1 || type === 5) this.at += type === 1 ? 8 : 4;
      else throw new Broken(`a field in it has type ${type}`);
    }
    if (this.at > this.bytes.length) throw new Broken('it ends within a number');
  }
}

function needBytes(value) {
  if (!(value instanceof Uint8Array)) throw new Broken('a number stands where a record should');
  return value;
}

/** Of a repeated field: one number, or many in a piece. */
function numbersOf(value) {
  if (typeof value === 'number') return [value];
  const packed = new Reader(value), out = [];
  while (packed.at < value.length) out.push(packed.number());
  return out;
}

/**
 * The numbers of a record by their fields, the last of each; taken: says that it has another use.
 * @param {Uint8Array} bytes @param {(field: number, value: any) => any} taken
 */
function readRecord(bytes, taken = () => false) {
  const out = {};
  new Reader(needBytes(bytes)).fields((field, value) => {
    if (!taken(field, value) && typeof value === 'number') out[field] = value;
  });
  return out;
}

function readSample(bytes) {
  const locations = [], values = [], labels = [];
  readRecord(bytes, (field, value) => {
    if (field === 1) locations.push(...numbersOf(value));
    else if (field === 2) values.push(...numbersOf(value));
    else if (field === 3) labels.push(readRecord(value));
  });
  return {locations, values, labels};
}

function readLocation(bytes) {
  const lines = [];
  const numbers =
      readRecord(bytes, (field, value) => field === 4 && lines.push(readRecord(value)));
  return {...numbers, lines};
}

/** A whole profile; fields by their numbers in profile.proto. */
function readProfile(bytes) {
  const out = {types: [], samples: [], mappings: [], locations: [], functions: [], strings: []};
  const comments = [], utf8 = new TextDecoder();
  const numbers = readRecord(bytes, (field, value) => {
    if (field === 1) out.types.push(readRecord(value));
    else if (field === 2) out.samples.push(readSample(value));
    else if (field === 3) out.mappings.push(readRecord(value));
    else if (field === 4) out.locations.push(readLocation(value));
    else if (field === 5) out.functions.push(readRecord(value));
    else if (field === 6) out.strings.push(utf8.decode(needBytes(value)));
    else if (field === 13) comments.push(...numbersOf(value));
    else return false;
    return true;
  });
  return {...out, numbers, comments};
}

/** @param {Object[]} records @returns {Map<number, Object>} */
const byId = (records) => new Map(records.map((each) => [each[1] || 0, each]));

/** The functions at each location, outermost first, as the agent names them. */
function placesOf(raw, string) {
  const functions = [], modules = [], known = new Map(), places = new Map();
  const mappings = byId(raw.mappings), sources = byId(raw.functions);
  const number = (list, seen) => {
    if (!list.includes(seen)) list.push(seen);
    return list.indexOf(seen);
  };
  const functionOf = (name, file, module) => {
    const key = `${name}\0${file || ''}\0${module || ''}`;
    if (!known.has(key)) {
      known.set(key, functions.length);
      functions.push({name, file, module: module ? number(modules, module) : null});
    }
    return known.get(key);
  };
  for (const each of raw.locations) {
    const mapping = mappings.get(each[2] || 0), module = mapping ? string(mapping[5]) : '';
    const frames = each.lines.slice().reverse().map((line) => {
      const source = sources.get(line[1] || 0);
      if (!source) throw new Broken('a function is missing in it');
      const name = string(source[2]) || string(source[3]) || '<unknown>';
      return {fn: functionOf(name, string(source[4]) || null, module), line: line[2] || 0};
    });
    const base = module.slice(module.lastIndexOf('/') + 1);
    if (!frames.length)
      frames.push({fn: functionOf(base ? `[${base}]` : '<unknown>', null, module), line: 0});
    places.set(each[1] || 0, frames);
  }
  return {functions, modules, places};
}

/** Processes that were made one profile: a sample's is its outermost function. */
function addProcesses(samples, functions, string) {
  const known = new Map();
  for (const sample of samples) {
    const labels = new Map(sample.labels.map((label) => [string(label[1]), label]));
    if (!labels.has('process') || !labels.has('pid')) continue;
    const name = `${string(labels.get('process')[2])} (${labels.get('pid')[3] || 0})`;
    if (!known.has(name)) {
      known.set(name, functions.length);
      functions.push({name, file: null, module: null});
    }
    sample.process = {fn: known.get(name), line: 0};
  }
}

/** Samples of blocks with their sizes, and where their locations are; null: there are none. */
function blocksOf(raw, places) {
  const label = raw.strings.indexOf('bytes'), sizeOf = ({labels}) => {
    const found = labels.find((each) => each[1] === label && each[3]);
    return found ? found[3] : 0;
  };
  if (label < 1 || !raw.samples.some(sizeOf)) return null;
  return {places, samples: raw.samples.map((each) => ({...each, size: sizeOf(each)}))};
}

function addSample(nodes, children, sample, places, functionCount) {
  const count = nodes[0].flat.length, {locations, values, process} = sample;
  if (values.length !== count) throw new Broken('a sample in it has not all values');
  let at = 0;
  for (const id of [...(process ? ['process'] : []), ...locations.reverse()]) {
    const frames = id === 'process' ? [process] : places.get(id);
    if (!frames) throw new Broken('a location is missing in it');
    for (const {fn, line} of frames) {
      const key = at * functionCount + fn;
      let next = children.get(key);
      if (next === undefined) {
        next = nodes.length;
        children.set(key, next);
        nodes.push({parent: at, function: fn, flat: Array(count).fill(0)});
      }
      at = next;
      const {lines} = nodes[at];
      if (line) nodes[at].lines =
          lines ? [Math.min(lines[0], line), Math.max(lines[1], line)] : [line, line];
    }
  }
  values.forEach((value, v) => nodes[at].flat[v] += value);
}

/** @param {Uint8Array} bytes of profile.proto, not compressed */
function answerOf(bytes, name) {
  const raw = readProfile(bytes);
  const string = (index) => {
    const found = raw.strings[index || 0];
    if (found === undefined) throw new Broken('a name is missing in it');
    return found;
  };
  if (!raw.types.length || !raw.strings.length) throw new Broken('it names no sample types');
  const types = raw.types.map((each) => ({type: string(each[1]), unit: string(each[2])}));
  const {functions, modules, places} = placesOf(raw, string);
  addProcesses(raw.samples, functions, string);
  const nothing = () => Array(types.length).fill(0);
  const nodes = [{parent: null, function: null, flat: nothing()}], children = new Map();
  for (const each of raw.samples) addSample(nodes, children, each, places, functions.length);
  const total = types.map((_, v) => nodes.reduce((sum, node) => sum + node.flat[v], 0));
  nodes[0].cum = total;
  const first = raw.mappings[0];
  return {
    file: name,
    profile: name,
    process: {name, pid: null},
    time_nanos: raw.numbers[9] || 0,
    duration_nanos: raw.numbers[10] || 0,
    program: first ? string(first[5]) : '',
    sample_types: types,
    default_sample_type: string(raw.numbers[14]) || types[types.length - 1].type,
    comments: raw.comments.map(string),
    total,
    modules,
    functions,
    nodes,
    cut: {one_in: 0, nodes: 0, functions: 0, values: nothing()},
    blocks: blocksOf(raw, places)
  };
}

// Younger than the types that it is checked with.
const {DecompressionStream: Unzip} = /** @type {any} */ (window);

async function unzipped(bytes) {
  const reader =
      new Blob([bytes]).stream().pipeThrough(new Unzip('gzip')).getReader();
  const pieces = [];
  let size = 0;
  for (;;) {
    const {done, value} = await reader.read().catch(() => {
      throw new Broken('it is no whole gzip file');
    });
    if (done) break;
    pieces.push(value);
    if ((size += value.length) > largest) {
      reader.cancel();
      throw new Broken('it is larger than 256 MiB');
    }
  }
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}

/** @param {File} file @returns {Promise<Object>} as the agent answers; throws what to tell */
export async function readProfileFile(file) {
  try {
    if (file.size > largest) throw new Broken('it is larger than 256 MiB');
    let bytes = new Uint8Array(await file.arrayBuffer());
    if (!bytes.length) throw new Broken('it is empty');
    if (bytes[0] === 0x1f && bytes[1] === 0x8b) bytes = await unzipped(bytes);
    if (bytes.subarray(0, 8).every((byte) => byte === 9 || byte === 10 || byte >= 32 && byte < 127))
      throw new Broken('it is text; the binary form is needed, without debug= or format=');
    return answerOf(bytes, file.name);
  } catch (error) {
    const reason = error instanceof Broken ? error.message : `it cannot be read, ${error.message}`;
    throw new Error(`${file.name} is no profile in pprof's form: ${reason}.`);
  }
}
