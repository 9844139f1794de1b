// What the page says in words: totals, losses, what stands under the pointer, what colours mean.
import {describe, moduleHue} from './flame.js';
import {element} from './table.js';
import {amount, baseName, share, signedAmount} from './units.js';

/** The hour of today, or the day too. */
function whenTaken(answer) {
  const date = new Date(answer.time_nanos / 1e6);
  const today = date.toDateString() === new Date().toDateString();
  const words = [today ? date.toLocaleTimeString() : date.toLocaleString()];
  if (answer.duration_nanos) words.push(`over ${amount(answer.duration_nanos, 'nanoseconds')}`);
  return words.join(' ');
}

/** A value, and what it is of. */
function fact(name, value, raw, answer) {
  const strong = element('b', {}, value);
  strong.dataset.value = String(raw);
  strong.dataset.fact = name;
  const words = [name];
  if (answer && answer.file) words.push(answer.file);
  if (answer && answer.time_nanos) words.push(whenTaken(answer));
  return element(
      'span', {}, strong, ' ', element('span', {className: 'dim', dir: 'auto'}, words.join(', ')));
}

/** The totals. @param {HTMLElement} place */
export function showFacts(place, look, root, answers) {
  const facts = [];
  if (look.compares) {
    const [a, b] = look.totals;
    facts.push(
        fact('A', amount(a, look.unit), a, answers[0]),
        fact('B', amount(b, look.unit), b, answers[1]),
        fact('change', signedAmount(b - a, look.unit), b - a));
  } else {
    facts.push(fact('in all', amount(look.total, look.unit), look.total, answers[0]));
    if (look.meaning) facts.push(element('span', {id: 'meaning', className: 'dim'}, look.meaning));
    const left = root.cum[0];
    if (left !== look.total)
      facts.push(fact(
          'left by the filter', `${amount(left, look.unit)}, ${share(left, look.total)}`, left));
  }
  place.replaceChildren(...facts);
}

/** What a reader must know. @param {HTMLElement} place */
export function showNotes(place, answers, folded) {
  const notes = [], latest = answers[answers.length - 1];
  for (const answer of answers)
    for (const comment of answer.comments)
      if (!notes.includes(comment)) notes.push(comment);
  const {one_in: oneIn, nodes} = latest.cut;
  if (oneIn)
    notes.push(
        `Parts below 1/${oneIn.toLocaleString('en')} of the total are not listed one by one: ` +
        `${nodes.toLocaleString('en')} places in the tree; their sums are in what called them.` +
        (answers.length > 1 ? ' One that passes this mark seems new, or gone.' : ''));
  if (folded)
    notes.push(
        `Own code only: ${folded.toLocaleString('en')} functions of libraries are folded into ` +
        'what called them.');
  if (!latest.nodes[0].cum.some((value) => value)) notes.push('Nothing was sampled.');
  place.replaceChildren(...notes.map((text) => element('li', {}, text)));
}

/** A node or a function in words. @param {HTMLElement} place */
export function showDetail(place, node, look) {
  if (!node || !look) {
    place.textContent = '';
    return;
  }
  const full = node.cut ? node : {...node, fn: node, cut: [0, 0], lines: null};
  const words = describe(full, look);
  const where = [words.place, words.module].filter(Boolean).join(' · ');
  place.replaceChildren(
      element('b', {dir: 'auto'}, words.name), ` — ${words.values}`,
      look.live ? `; ${look.live(node)}` : '', element('br', {}),
      element('span', {className: 'dim'}, where));
}

/** What the graph's colours mean. */
export function legendOf(functions, look) {
  const legend = element('div', {id: 'legend', className: 'legend'});
  const add = (color, text) => {
    const box = element('i', {});
    box.style.background = color;
    legend.append(element('span', {}, box, text));
  };
  if (look.signed) {
    add('hsl(4 85% 62%)', look.compares ? 'more in B' : 'more');
    add('hsl(214 85% 62%)', look.compares ? 'less in B' : 'less');
    legend.append(look.compares ? 'a frame is as wide as A and B together' : '');
    return legend;
  }
  const modules = new Map();
  for (const fn of functions)
    modules.set(fn.module, (modules.get(fn.module) || 0) + Math.abs(fn.flat[0]));
  const largest = [...modules].filter(([name]) => name).sort((a, b) => b[1] - a[1]).slice(0, 6);
  for (const [module] of largest)
    add(`hsl(${moduleHue(module, look.program)} 68% 71%)`, baseName(module));
  return legend;
}
