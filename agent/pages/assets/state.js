// What is shown, in the URL's fragment: it can be sent to a colleague, and is told to no server.

/**
 * @typedef {{type: string, view: string, zoom: string, pick: string, q: string, own: string,
 *   fold: string, rootdown: string, tstate: string, focus: string, ignore: string, hide: string,
 *   show: string}} State
 */

/** @type {State} */
const nothing = {
  type: '',
  view: 'flame',
  zoom: '',
  pick: '',
  q: '',
  own: '',
  fold: '',
  rootdown: '',
  tstate: '',
  focus: '',
  ignore: '',
  hide: '',
  show: ''
};

function remembered() {
  try {
    return {own: localStorage.getItem('pprofagent.own') || ''};
  } catch {
    return {};  // a page from a file, or storage that is switched off
  }
}

/** @returns {State} */
export function readState() {
  const fragment = location.hash.slice(1), given = new URLSearchParams(fragment);
  const state = {...nothing, ...(fragment ? {} : remembered())};
  for (const key of Object.keys(nothing))
    if (given.has(key)) state[key] = given.get(key);
  return state;
}

/** As a step of the browser's history, or in place of the last. @param {State} state */
export function writeState(state, step) {
  const out = new URLSearchParams();
  for (const key of Object.keys(nothing))
    if (state[key] !== nothing[key]) out.set(key, state[key]);
  const hash = '#' + out.toString();
  if (hash === (location.hash || '#')) return;
  try {
    if (step) history.pushState(null, '', hash);
    else history.replaceState(null, '', hash);
    localStorage.setItem('pprofagent.own', state.own);
  } catch {
    // nothing is lost but the memory of it
  }
}

/** @returns {State} */
export function emptyState(type) { return {...nothing, type}; }
