// What the figures of a view are, in words, and what is live of what was allocated.
import {buildTree} from './tree.js';
import {amount, share} from './units.js';

/** Of a sample type; of a profile's own first. */
const meanings = {
  'block contentions': 'how often threads waited here',
  'block delay': 'how long threads waited here, all of them added up',
  'mutex contentions': 'how often others waited for a lock that was released here',
  'mutex delay': 'how long others waited for a lock that was released here, all of them added up',
  'mmap inuse_space': 'addresses that were mapped here, and are still',
  'mmap alloc_space': 'addresses that were mapped here, gone or not',
  'peak inuse_space': 'bytes that were in use at the highest moment',
  inuse_space: 'bytes that were allocated here and not freed',
  inuse_objects: 'blocks that were allocated here and not freed',
  alloc_space: 'bytes that were allocated here, freed or not',
  alloc_objects: 'blocks that were allocated here, freed or not',
  resident_space: 'what of the mappings is in memory',
  growth_space: 'bytes an hour by which what is live here grows',
  growth_objects: 'blocks an hour by which what is live here grows',
  cpu: 'time on a processor',
  wall: 'time that passed, waiting included, of all threads added up'
};

/** @param {string} profile @param {string} type @returns {string} '' where it needs no words */
export function meaningOf(profile, type) {
  return meanings[`${profile} ${type}`] || meanings[type] || '';
}

const nameOf = (fn) => [fn.name, fn.module, fn.file].join('\0');

/**
 * What a node or a function has of the other column, live or allocated; null where there is none.
 * @param {any[]} answers @param {string} type @param {string[]} types @param {Object} options
 */
export function liveOf(answers, type, types, options) {
  const found = /^(inuse|alloc)_(space|objects)$/.exec(type);
  const other = found && `${found[1] === 'inuse' ? 'alloc' : 'inuse'}_${found[2]}`;
  if (!other || !types.includes(other) || answers.length > 1) return null;
  const {root, functions} = buildTree(answers, other, options);
  const values = new Map(functions.map((fn) => [nameOf(fn), fn.cum[0]]));
  const visit = (node) => {
    values.set(node.id, node.cum[0]);
    node.children.forEach(visit);
  };
  visit(root);
  const unit = found[2] === 'space' ? 'bytes' : 'count';
  return (of) => {
    const rest = values.get(of.id || nameOf(of)) || 0;
    const [live, all] = found[1] === 'inuse' ? [of.cum[0], rest] : [rest, of.cum[0]];
    return `${amount(live, unit)} live of ${amount(all, unit)} allocated, ${share(live, all)}`;
  };
}
