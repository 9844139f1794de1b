// The table of threads: those that stand at one place in one state are a row, which opens.
import {element} from './table.js';

const rowsShown = 300, threadsListed = 500;
const lockStates = /^(sync\.|semacquire)/;

/** Functions by their names, and by them without parameters, as in the dump. */
function byShortName(functions) {
  const found = new Map();
  for (const fn of functions) {
    const end = fn.name.indexOf('(', 1);
    for (const name of [fn.name, end > 0 ? fn.name.slice(0, end) : fn.name])
      if (!found.has(name)) found.set(name, fn);
  }
  return found;
}

/** Threads with one state and one stack. @param {import('./dump.js').Thread[]} threads */
function grouped(threads) {
  const groups = new Map();
  for (const thread of threads) {
    const calls = thread.calls.map((each) => `${each.call.replace(/\(.*\)$/, '')} ${each.place}`);
    const key = [thread.state, ...calls].join('\n');
    if (!groups.has(key)) groups.set(key, {key, threads: [], state: thread.state});
    groups.get(key).threads.push(thread);
  }
  const rank = ({state, threads: [first]}) => first.waitsFor.includes(' held by ') ? 0 :
      lockStates.test(state)                                                      ? 1 :
      /^run/.test(state)                                                          ? 2 :
                                                                                    3;
  return [...groups.values()].sort(
      (a, b) => rank(a) - rank(b) || b.threads.length - a.threads.length ||
          a.threads[0].tid - b.threads[0].tid);
}

/** `redis-server`, `io_thd_1, io_thd_2 and 3 others` */
function namesIn(threads) {
  const names = [...new Set(threads.map((each) => each.name))];
  const shown = names.length > 3 ? names.slice(0, 2) : names;
  const rest = names.length - shown.length;
  return shown.join(', ') + (rest ? ` and ${rest} others` : '');
}

function waitsOf(threads) {
  const waits = [...new Set(threads.map((each) => each.waitsFor).filter(Boolean))];
  return waits.length > 1 ? `${waits[0]} and ${waits.length - 1} more` : waits[0] || '';
}

function forHowLong(threads) {
  const most = Math.max(...threads.map((each) => each.minutes));
  if (!most) return '';
  return most < 120 ? `${most} min` : `${Math.floor(most / 60)} h`;
}

export class ThreadTable {
  /** on: {pick(fn), filter(state)} */
  constructor(place, on) {
    this.place = place;
    this.on = on;
    this.open = new Set();  // keys of groups
    this.all = false;
  }

  /** dump: of dump.js; functions: of tree.js; state: '' or the one that is listed. */
  draw(dump, functions, wanted, state) {
    this.dump = dump;
    this.wanted = wanted;
    this.state = state;
    this.functions = byShortName(functions);
    const {threads} = dump;
    const states = [...new Set(threads.map((each) => each.state))].sort();
    const choose = element('select', {id: 'thread-state'}, new Option('any', ''));
    for (const each of states) {
      const count = threads.filter((thread) => thread.state === each).length;
      choose.add(new Option(`${each} (${count.toLocaleString('en')})`, each));
    }
    choose.value = states.includes(state) ? state : '';
    choose.onchange = () => this.on.filter(choose.value);
    const found = threads.filter(
        (each) => (!choose.value || each.state === choose.value) && this.matches(each));
    const groups = grouped(found), rows = groups.slice(0, this.all ? groups.length : rowsShown);
    const count = `${found.length.toLocaleString('en')} of ` +
        `${threads.length.toLocaleString('en')} threads at ${groups.length} places`;
    const head = element('tr', {});
    for (const [label, more] of [
           ['Thread', ''], ['Name', 'left'], ['State', 'left'], ['For', 'wide'],
           ['Waits for', 'left wide'], ['At', 'name']])
      head.append(element('th', {scope: 'col', className: more}, label));
    const caption = element('caption', {className: 'hidden'}, 'Threads that stand at one place');
    const table = element('table', {}, caption, element('thead', {}, head));
    for (const group of rows) table.append(this.body(group));
    const choice = element('label', {}, 'State ', choose);
    const line =
        element('p', {className: 'choice'}, choice, element('span', {className: 'dim'}, count));
    this.place.replaceChildren(
        ...this.warnings(), line, element('div', {className: 'scroll'}, table));
    if (rows.length < groups.length) this.place.append(this.moreButton(groups.length));
  }

  matches(thread) {
    const {wanted} = this;
    return !wanted || [thread.name, String(thread.tid), thread.waitsFor].some(
        (each) => wanted.test(each)) || thread.calls.some((each) => wanted.test(each.call));
  }

  moreButton(count) {
    const button = element('button', {}, `all ${count.toLocaleString('en')} places`);
    button.onclick = () => {
      this.all = true;
      this.again();
    };
    return button;
  }

  again() { this.draw(this.dump, this.functions.values(), this.wanted, this.state); }

  warnings() {
    const told = (text) => text.startsWith('deadlock: ') || text.startsWith('behind it: ');
    return this.dump.notes.map((text) => told(text) ?
        element('p', {className: 'deadlock', role: 'alert'}, text) :
        element('p', {className: 'dim'}, text));
  }

  /** The first call of the program's own code, or the first. */
  at(calls) {
    const own = calls.find((each) => (this.functions.get(each.name) || {own: false}).own);
    return own || calls[0] || {call: '?', name: '', place: ''};
  }

  body(group) {
    const {threads, key} = group, open = this.open.has(key), one = threads.length === 1;
    const label = one ? String(threads[0].tid) : `${threads.length.toLocaleString('en')} threads`;
    const button = element('button', {ariaExpanded: String(open)}, label);
    button.onclick = () => {
      if (!this.open.delete(key)) this.open.add(key);
      const made = this.body(group);
      body.replaceWith(made);
      made.querySelector('button').focus();
    };
    const at = this.at(threads[0].calls), text = (more, words) =>
        element('td', {className: more, dir: 'auto'}, words);
    const row = element(
        'tr', {}, element('td', {className: 'opens'}, button), text('left', namesIn(threads)),
        text(lockStates.test(group.state) ? 'left locked' : 'left', group.state),
        text('wide', forHowLong(threads)), text('left wide waits', waitsOf(threads)),
        element('td', {className: 'name'}, this.link(at), element('small', {}, at.place)));
    const body = element('tbody', {}, row);
    if (open) body.append(element('tr', {className: 'stack'}, this.stack(group)));
    return body;
  }

  link(call) {
    const fn = this.functions.get(call.name);
    if (!fn) return element('span', {dir: 'auto'}, call.call);
    const button = element('button', {title: fn.name}, call.call);
    button.onclick = () => this.on.pick(fn);
    return button;
  }

  stack({threads}) {
    const [first] = threads, cell = element('td', {colSpan: 6});
    const list = element('ul', {});
    for (const each of threads.slice(0, threadsListed)) {
      const words = [`${each.tid} ${each.name}`];
      if (each.waitsFor) words.push(`waits for ${each.waitsFor}`);
      if (each.minutes) words.push(`for ${each.minutes} min`);
      list.append(element('li', {dir: 'auto'}, words.join(', ')));
    }
    if (threads.length > threadsListed)
      list.append(element('li', {}, `and ${threads.length - threadsListed} more`));
    const calls = element('ol', {});
    for (const each of first.calls) {
      const place = element('small', {}, each.place);
      calls.append(element('li', {className: 'name'}, this.link(each), place));
    }
    if (first.creator) {
      const by = first.createdBy ? ` in thread ${first.createdBy}` : '';
      calls.append(element('li', {className: 'dim'}, `created by ${first.creator}${by}`));
    }
    cell.append(list, calls);
    return cell;
  }
}
