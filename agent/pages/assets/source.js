// Answers of the agent: asked for, waited for, given up.
import {readProfileFile} from './file.js';

/** What the page shows: the profile whose name ends its URL. */
export const profileName = decodeURIComponent(location.pathname.split('/').pop() || '');
/** All processes that share the port, as one; there is no text of it, and no merged tree. */
export const ofTree = location.pathname.includes('/tree/debug/pprof/view/');
/** It says nothing of now, only of so many seconds. */
export const isRecorded = ['profile', 'wall'].includes(profileName);

/** @param {string} query @param {AbortSignal=} signal */
export async function fetchAnswer(query, signal) {
  const response =
      await fetch(`../${encodeURIComponent(profileName)}?${query}`, {signal, cache: 'no-store'});
  if (!response.ok) throw new Error((await response.text()).trim() || `status ${response.status}`);
  return response;
}

/** @param {number} seconds 0: as it is now @param {AbortSignal=} signal */
export async function fetchProfile(seconds, signal) {
  const window = seconds ? [`seconds=${seconds}`] : [];
  if (!ofTree) return (await fetchAnswer(['format=json', ...window].join('&'), signal)).json();
  const blob = await (await fetchAnswer(window.join(), signal)).blob();
  const answer = await readProfileFile(new File([blob], 'The answer'));
  delete answer.file;
  return {...answer, profile: profileName, process: {name: 'All processes', pid: null}};
}

/** The profile as it is now with what its answer in JSON has not: sizes of blocks. */
export async function fetchWhole() {
  const blob = await (await fetchAnswer('')).blob();
  return readProfileFile(new File([blob], 'The answer'));
}

/** A recording: its progress, its end, its cancellation. The agent sees the connection close. */
export class Recording {
  /** @param {number} seconds @param {(part: number, left: number) => void} progress */
  constructor(seconds, progress) {
    this.abort = new AbortController();
    const start = performance.now();
    this.timer = setInterval(() => {
      const gone = (performance.now() - start) / 1000;
      progress(Math.min(1, gone / seconds), Math.max(0, Math.ceil(seconds - gone)));
    }, 100);
    progress(0, seconds);
    this.done = fetchProfile(seconds, this.abort.signal).finally(() => clearInterval(this.timer));
  }

  cancel() { this.abort.abort(); }
}
