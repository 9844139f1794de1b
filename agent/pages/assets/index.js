// The lines at the top of the index: the last five minutes, asked for while the page is looked at.
import {amount} from './units.js';

const every = 4000, soon = 1000, longest = 300000, shortest = 60000, apart = 3 * every;
const wide = 180, high = 40;
const rate = (unit) => (value) => `${amount(value, unit)}/s`;

/**
 * value: of two answers of health, the later and the one before it.
 * @type {{label: string, link: string, value: (now: any, before: any) => number,
 *         words: (value: number) => string, level?: boolean}[]}
 */
const signs = [
  {
    label: 'Heap in use',
    link: 'view/heap',
    value: (now) => now.profiles.heap.on ? now.heap_estimate.inuse_bytes : null,
    words: (value) => amount(value, 'bytes'),
    level: true
  },
  {
    label: 'Allocation rate',
    link: 'view/allocs',
    value: (now, before) => now.profiles.allocs.on ?
        gained(now, before, (each) => each.heap_estimate.alloc_bytes) :
        null,
    words: rate('bytes')
  },
  {
    label: 'Resident memory',
    link: 'view/heap',
    value: (now) => now.process.rss_bytes,
    words: (value) => amount(value, 'bytes'),
    level: true
  },
  {
    label: 'CPU',
    link: 'view/profile',
    value: (now, before) => gained(now, before, (each) => each.process.cpu_seconds),
    words: (value) => `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`
  },
  {
    label: 'Threads',
    link: 'view/goroutine#view=threads',
    value: (now) => now.process.threads,
    words: (value) => amount(value, 'count'),
    level: true
  },
  {
    label: 'Lock waits',
    link: 'view/mutex',
    value: (now, before) => now.profiles.mutex.on ?
        gained(now, before, (each) => each.lock_waits.mutex.contentions) :
        null,
    words: (value) => `${value >= 100 || !value ? value.toFixed(0) : value.toFixed(1)}/s`
  },
];

/** What a counter has gained a second; null where it is not known, or has begun anew. */
function gained(now, before, of) {
  const a = before ? of(before) : null, b = of(now);
  if (a === null || b === null || b < a || now.at <= before.at) return null;
  return 1000 * (b - a) / (now.at - before.at);
}

const svg = (tag, more) => {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [key, value] of Object.entries(more)) made.setAttribute(key, value);
  return made;
};

/** Pieces of a line: where nothing is known for a while, there is none. */
function pieces(points, i) {
  const out = [];
  let last = null;
  for (const {at, values} of points) {
    if (values[i] === null) continue;
    if (last === null || at - last > apart) out.push([]);
    out[out.length - 1].push([at, values[i]]);
    last = at;
  }
  return out;
}

function ageOf(at, now) {
  const seconds = Math.round((now - at) / 1000);
  return seconds < 100 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}

function noteOf(sign, known, change, most, now) {
  const {words, level} = sign;
  if (!level) return `at most ${words(most)}`;
  const age = ageOf(known[0].at, now);
  return change ? `${change > 0 ? '+' : ''}${words(change)} in ${age}` : `the same for ${age}`;
}

function draw(card, points, i, now) {
  const {words} = signs[i], known = points.filter((each) => each.values[i] !== null);
  const latest = known.length ? known[known.length - 1] : null;
  const most = Math.max(...known.map((each) => each.values[i]), 0);
  card.value.textContent = latest && now - latest.at < apart ? words(latest.values[i]) : '–';
  const change = latest ? latest.values[i] - known[0].values[i] : 0;
  card.note.textContent = latest ? noteOf(signs[i], known, change, most, now) : '';
  const age = points.length ? now - points[0].at : 0;
  const across = Math.min(longest, Math.max(shortest, age));
  const x = (at) => (wide * (1 - (now - at) / across)).toFixed(1);
  const y = (value) => (high - 2 - (high - 4) * (most ? value / most : 0)).toFixed(1);
  card.graph.replaceChildren();
  for (const piece of pieces(points, i)) {
    const line = piece.map(([at, value]) => `${x(at)} ${y(value)}`).join('L');
    const [first, last] = [piece[0][0], piece[piece.length - 1][0]];
    card.graph.append(
        svg('path', {class: 'area', d: `M${x(first)} ${high}L${line}L${x(last)} ${high}Z`}),
        svg('path', {class: 'line', d: `M${line}L${x(last)} ${y(piece[piece.length - 1][1])}`}));
  }
  card.graph.setAttribute(
      'aria-label', `${signs[i].label}: ${card.value.textContent}, ${card.note.textContent}`);
}

function newCard({label, link}) {
  const make = (tag, className, text) => {
    const made = document.createElement(tag);
    made.className = className;
    made.textContent = text;
    return made;
  };
  const place = make('a', 'vital', ''), value = make('b', '', '…'), note = make('span', 'dim', '');
  place.href = link;
  const graph = svg(
      'svg', {viewBox: `0 0 ${wide} ${high}`, preserveAspectRatio: 'none', role: 'img'});
  place.append(make('span', 'dim', label), value, graph, note);
  return {place, value, note, graph};
}

/** What the lines say too. */
function hideFacts() {
  for (const fact of /** @type {NodeListOf<HTMLElement>} */ (
           document.querySelectorAll('.facts>div')))
    if (signs.some(({label}) => label === fact.firstElementChild.textContent)) fact.hidden = true;
}

const store = `pprofagent.vitals ${location.pathname}`;

/** Points of this tab's earlier visits of the page. */
function remembered(pid) {
  try {
    const kept = JSON.parse(sessionStorage.getItem(store) || '{}');
    return kept.pid === pid ? kept.points : [];
  } catch {
    return [];
  }
}

function start(place) {
  const cards = signs.map(newCard);
  let points = null, before = null, asking = false;

  async function look() {
    if (document.hidden || asking) return;
    asking = true;
    try {
      const answer = await fetch('health', {cache: 'no-store'});
      const now = {...await answer.json(), at: Date.now()}, {pid} = now.process;
      if (!points) {
        points = remembered(pid);
        place.replaceChildren(...cards.map((card) => card.place));
        hideFacts();
      }
      if (before && now.at - before.at > apart) before = null;
      points.push({at: now.at, values: signs.map((sign) => sign.value(now, before))});
      points = points.filter((each) => now.at - each.at < longest);
      before = now;
      sessionStorage.setItem(store, JSON.stringify({pid, points}));
    } catch {
      before = null;  // it has ended, or is busy: its line has a gap
    } finally {
      asking = false;
    }
    if (points) cards.forEach((card, i) => draw(card, points, i, Date.now()));
  }

  look();
  setTimeout(look, soon);  // a rate takes two
  setInterval(look, every);
  addEventListener('visibilitychange', look);
}

/** The form that changes how often is sampled. @param {HTMLElement} place */
function offerRates(place) {
  const form = place.querySelector('form'), says = place.querySelector('output');
  place.hidden = false;
  form.onsubmit = async (event) => {
    event.preventDefault();
    const given = new URLSearchParams();
    for (const field of form.querySelectorAll('input'))
      if (field.value.trim() !== field.defaultValue) given.set(field.name, field.value.trim());
    if (!String(given)) return;
    try {
      const answer = await fetch('rates', {method: 'POST', body: given});
      if (answer.ok) location.reload();
      else says.textContent = await answer.text();
    } catch (error) {
      says.textContent = error.message;
    }
  };
}

const vitals = document.getElementById('vitals');
if (vitals) start(vitals);
const ratesForm = document.getElementById('rates');
if (ratesForm) offerRates(ratesForm);
