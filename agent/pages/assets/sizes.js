// How large the blocks are that a function has allocated: the profile's label `bytes`.
import {element} from './table.js';
import {amount} from './units.js';

const shownSizes = 50;
const kindOf = (type) => /^(alloc|inuse)_(objects|space)$/.exec(type);

/** Whether a sample type is one of blocks. @param {string} type */
export const hasSizes = (type) => !!kindOf(type);

/**
 * Of a profile that was read whole (file.js): sizes with counts and bytes, largest sums first.
 * @param {Object} answer @param {string} name of a function @param {string} type
 * @returns {{size: number, count: number, bytes: number}[]}
 */
export function sizesOf({blocks, sample_types: types, functions}, name, type) {
  const [counts, sums] =
      ['objects', 'space'].map((each) => `${kindOf(type)[1]}_${each}`)
          .map((wanted) => types.findIndex((each) => each.type === wanted));
  const isIt = ({fn}) => functions[fn].name === name, at = new Set(), found = new Map();
  for (const [id, frames] of blocks.places)
    if (frames.some(isIt)) at.add(id);
  for (const {size, locations, values, process} of blocks.samples) {
    if (!(process && isIt(process)) && !locations.some((id) => at.has(id))) continue;
    if (!values[counts] && !values[sums]) continue;
    const row = found.get(size) || {size, count: 0, bytes: 0};
    row.count += values[counts];
    row.bytes += values[sums];
    found.set(size, row);
  }
  return [...found.values()].sort((a, b) => b.bytes - a.bytes || b.size - a.size);
}

/** @param {HTMLElement} place */
export function drawSizes(place, answer, name, type) {
  const rows = sizesOf(answer, name, type), live = kindOf(type)[1] === 'inuse';
  if (!rows.length) return place.replaceChildren();
  const sum = (list, key) => list.reduce((all, row) => all + row[key], 0);
  const line = (what, list) => {
    const cells = [amount(sum(list, 'count'), 'count'), amount(sum(list, 'bytes'), 'bytes')];
    const row = element(
        'tr', {}, element('td', {className: 'size'}, what),
        ...cells.map((text) => element('td', {}, text)));
    row.dataset.value = JSON.stringify([sum(list, 'count'), sum(list, 'bytes')]);
    return row;
  };
  const body = rows.slice(0, shownSizes).map((row) => line(amount(row.size, 'bytes'), [row]));
  const others = rows.slice(shownSizes);
  if (others.length) body.push(line(`${others.length.toLocaleString('en')} other sizes`, others));
  if (rows.length > 1) body.push(line('all', rows));
  const words = live ? 'Sizes of what is live in it' : 'Sizes of what was allocated in it';
  const head = ['Block', 'Count', 'Bytes'].map((text) => element('th', {scope: 'col'}, text));
  place.replaceChildren(
      element('h2', {}, words),
      element(
          'table', {className: 'sizes'}, element('thead', {}, element('tr', {}, ...head)),
          element('tbody', {}, ...body)));
}
