// The agent's dump of threads (goroutine?debug=2) as records.

/**
 * @typedef {{call: string, name: string, place: string}} Call
 * @typedef {{tid: number, name: string, state: string, minutes: number, waitsFor: string,
 *   calls: Call[], creator: string, createdBy: number}} Thread
 */

function readNames(line, names) {
  for (const each of line.split(', ')) {
    const at = each.indexOf('=');
    if (at > 0) names.set(Number(each.slice(0, at)), each.slice(at + 1).replace(/,$/, ''));
  }
}

/** What stands above the records: names, what is waited for, what is not known. */
function readPreamble(lines) {
  const names = new Map(), waits = new Map(), notes = [];
  for (const line of lines) {
    const text = line.slice(2), wait = /^(\d+) waits for (.*)$/.exec(text);
    if (wait) waits.set(Number(wait[1]), wait[2]);
    else if (text.startsWith('pid ')) readNames(text.slice(text.indexOf('; ') + 2), names);
    else if (/^\d+=/.test(text)) readNames(text, names);
    else notes.push(text);
  }
  return {names, waits, notes};
}

/** `\t/src/a.cc:7 .c:7 +0x1f`: `/src/a.cc:7`. */
function placeOf(line) {
  const found = /^\t(.*?:\d+)/.exec(line || '');
  return found && !found[1].startsWith('??') ? found[1] : '';
}

function readThread(lines, {names, waits}) {
  const head = /^goroutine (\d+) \[([^,\]]*?)(?: \(leaked\))?(?:, (\d+) minutes)?\]/.exec(lines[0]);
  if (!head) return null;
  const tid = Number(head[1]), calls = [];
  let creator = '', createdBy = 0;
  for (let i = 1; i < lines.length; i += 2) {
    const line = lines[i];
    if (line.startsWith('...')) {
      calls.push({call: line, name: '', place: ''});
      i--;  // it has no place
    } else if (line.startsWith('created by ')) {
      const by = /^created by (.*?)(?: in goroutine (\d+))?$/.exec(line);
      creator = by[1];
      createdBy = Number(by[2] || 0);
    } else {
      const end = line.lastIndexOf('(');
      const name = end > 0 ? line.slice(0, end) : line;
      const call = line.endsWith('(...)') ? name : line;
      calls.push({call, name, place: placeOf(lines[i + 1])});
    }
  }
  return {
    tid,
    name: names.get(tid) || '',
    state: head[2],
    minutes: Number(head[3] || 0),
    waitsFor: waits.get(tid) || '',
    calls,
    creator,
    createdBy
  };
}

/** @param {string} text @returns {{threads: Thread[], notes: string[]}} */
export function readDump(text) {
  const blocks = text.split(/\n\n/).map((block) => block.split('\n').filter(Boolean));
  const above = readPreamble((blocks[0] || []).filter((line) => line.startsWith('# ')));
  const threads = blocks.map((lines) => readThread(lines[0] ? lines : [''], above)).filter(Boolean);
  return {threads, notes: above.notes};
}
