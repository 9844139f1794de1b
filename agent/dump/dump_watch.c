#include "dump_watch.h"

#include <stdbool.h>

#include "agent/runtime/memory_headroom.h"
#include "agent/runtime/process_info.h"
#include "shim/allocation/heap_peak.h"
#include "shim/base/dump_config.h"

#define MILLISECONDS INT64_C(1000000)
enum {
  LONGEST_MILLISECONDS = 1000,
  SHORTEST_MILLISECONDS = 20,
  FIRST_MILLISECONDS = 100,
  /* Memory is short when less than so much of what the program has is left; and again, after it has
   * been more than the second. */
  SHORT_SHARE = 8,
  ENOUGH_SHARE = 4,
  RSS_AGAIN_SHARE = 10 /* a bound is passed again after resident memory was that much below */
};

/* Of the last look. */
static int64_t looked_ns;
static uint64_t rss_before;
static int64_t next_look_ns;

static bool is_above, is_short;
static uint64_t written_peak;

static bool is_asked_for(void) {
  return dump_config.rss_bytes || dump_config.peak_percent || dump_config.on_shortage;
}

static bool passes_rss(uint64_t rss) {
  uint64_t bound = dump_config.rss_bytes;
  bool passes = bound && rss >= bound && !is_above;
  if (passes) is_above = true;
  else if (rss < bound - bound / RSS_AGAIN_SHARE) is_above = false;
  return passes;
}

/* A peak that has been written counts for the next, however long it has been freed. */
static bool passes_peak(void) {
  if (!dump_config.peak_percent) return false;
  uint64_t peak = heap_peak_levels().peak;
  if (peak == 0 || peak < written_peak + written_peak / 100 * dump_config.peak_percent)
    return false;
  written_peak = peak;
  return true;
}

static bool becomes_short(uint64_t rss, uint64_t left) {
  bool now = left < rss / SHORT_SHARE, becomes = now && !is_short;
  if (now) is_short = true;
  else if (left > rss / ENOUGH_SHARE) is_short = false;
  return becomes;
}

/* At the rate at which it has grown since the last look, before half of the way to the shortage. */
static int64_t pause_before_shortage(int64_t now, uint64_t rss, uint64_t left) {
  int64_t pause = LONGEST_MILLISECONDS * MILLISECONDS;
  uint64_t bound = rss / SHORT_SHARE, way = left > bound ? left - bound : 0;
  if (rss > rss_before && looked_ns && !is_short) {
    double rate = (double)(rss - rss_before) / (double)(now - looked_ns); /* bytes a nanosecond */
    double half = (double)way / rate / 2;
    if (half < (double)pause) pause = (int64_t)half;
  }
  int64_t shortest = SHORTEST_MILLISECONDS * MILLISECONDS;
  return pause > shortest ? pause : shortest;
}

enum dump_found dump_watch_look(int64_t now, int64_t *next_ns) {
  *next_ns = INT64_MAX;
  if (!is_asked_for()) return FOUND_NOTHING;
  if (!next_look_ns) next_look_ns = now + FIRST_MILLISECONDS * MILLISECONDS;
  *next_ns = next_look_ns;
  if (now < next_look_ns) return FOUND_NOTHING;
  struct process_memory memory = {0};
  if (dump_config.rss_bytes || dump_config.on_shortage) process_memory_read(&memory);
  uint64_t rss = memory.rss_bytes > 0 ? (uint64_t)memory.rss_bytes : 0;
  uint64_t left = dump_config.on_shortage && rss ? memory_headroom() : UINT64_MAX;
  bool shortage = becomes_short(rss, left);
  *next_ns = next_look_ns = now + pause_before_shortage(now, rss, left);
  looked_ns = now;
  rss_before = rss;
  if (shortage) return FOUND_SHORTAGE; /* what else there is waits for the next look */
  return passes_rss(rss) ? FOUND_RSS : passes_peak() ? FOUND_PEAK : FOUND_NOTHING;
}
