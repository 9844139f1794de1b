/* dump_watch.h: which moments are found, once each, and how soon is looked again. */
#include "agent/dump/dump_watch.h"

#include "agent/runtime/memory_headroom.h"
#include "agent/runtime/process_info.h"
#include "check.h"
#include "shim/allocation/heap_peak.h"
#include "shim/base/dump_config.h"

#define SECOND INT64_C(1000000000)
enum { MB = 1 << 20 };

static uint64_t rss, left, peak;
static int reads;
static int64_t now = 5 * SECOND, next;

void process_memory_read(struct process_memory *out) {
  reads++;
  *out = (struct process_memory){.rss_bytes = (int64_t)rss};
}
uint64_t memory_headroom(void) { return left; }
struct heap_levels heap_peak_levels(void) {
  return (struct heap_levels){.now = 0, .peak = peak};
}

/* The next look, when it is due. */
static enum dump_found look(void) {
  dump_watch_look(now, &next);
  CHECK(next > now && next <= now + SECOND);
  int before = reads;
  CHECK(dump_watch_look(next - 1, &next) == FOUND_NOTHING && reads == before);
  now = next;
  return dump_watch_look(now, &next);
}

static void check_nothing_asked_for(void) {
  CHECK(dump_watch_look(now, &next) == FOUND_NOTHING && next == INT64_MAX && reads == 0);
}

static void check_rss(void) {
  dump_config.rss_bytes = 100 * MB;
  left = UINT64_MAX;
  static const struct {
    uint64_t megabytes;
    enum dump_found found;
  } steps[] = {{99, FOUND_NOTHING}, {100, FOUND_RSS},     {150, FOUND_NOTHING},
               {95, FOUND_NOTHING}, {100, FOUND_NOTHING}, {89, FOUND_NOTHING},
               {99, FOUND_NOTHING}, {101, FOUND_RSS},     {0, FOUND_NOTHING}};
  for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++) {
    rss = steps[i].megabytes * MB;
    CHECK(look() == steps[i].found);
    CHECK(next == now + SECOND);
  }
  dump_config.rss_bytes = 0;
}

static void check_peak(void) {
  dump_config.peak_percent = 20;
  int before = reads;
  static const struct {
    uint64_t megabytes;
    enum dump_found found;
  } steps[] = {{0, FOUND_NOTHING},   {100, FOUND_PEAK},   {119, FOUND_NOTHING}, {121, FOUND_PEAK},
               {121, FOUND_NOTHING}, {20, FOUND_NOTHING}, {144, FOUND_NOTHING}, {146, FOUND_PEAK}};
  for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++) {
    peak = steps[i].megabytes * MB;
    CHECK(look() == steps[i].found);
  }
  CHECK(reads == before);
  dump_config.peak_percent = 0;
}

/* Two at once: one after the other. */
static void check_both(void) {
  dump_config.rss_bytes = 300 * MB, dump_config.peak_percent = 20;
  rss = 400 * MB, peak = 400 * MB;
  CHECK(look() == FOUND_RSS);
  CHECK(look() == FOUND_PEAK);
  CHECK(look() == FOUND_NOTHING);
  dump_config.rss_bytes = dump_config.peak_percent = 0;
}

static void check_shortage(void) {
  dump_config.on_shortage = true;
  rss = 80 * MB, left = 100 * MB;
  CHECK(look() == FOUND_NOTHING);
  CHECK(look() == FOUND_NOTHING && next == now + SECOND); /* it does not grow */
  left = 11 * MB;
  CHECK(look() == FOUND_NOTHING);
  left = 9 * MB;
  CHECK(look() == FOUND_SHORTAGE);
  CHECK(look() == FOUND_NOTHING);
  left = 15 * MB;
  CHECK(look() == FOUND_NOTHING);
  left = 9 * MB;
  CHECK(look() == FOUND_NOTHING); /* it was not over */
  left = 21 * MB;
  CHECK(look() == FOUND_NOTHING);
  left = 5 * MB;
  CHECK(look() == FOUND_SHORTAGE);
  rss = 0; /* not known */
  CHECK(look() == FOUND_NOTHING);
}

/* However fast it grows, the shortage is found with something left. */
static void check_growth(void) {
  for (int per_second = 10; per_second <= 1000; per_second *= 10) {
    const uint64_t limit = (uint64_t)per_second * 20 * MB;
    rss = limit / 10, left = limit - rss;
    look();
    look();
    enum dump_found found = FOUND_NOTHING;
    for (int looks = 0; found != FOUND_SHORTAGE; looks++) {
      int64_t before = now;
      found = look();
      rss += (uint64_t)((now - before) * per_second / 1000) * MB / 1000000;
      left = limit - rss;
      CHECK(rss < limit && looks < 1000);
      if (rss >= limit) break;
    }
    CHECK(left > limit / 20);
    CHECK(found == FOUND_SHORTAGE);
  }
}

int main(void) {
  check_nothing_asked_for();
  check_rss();
  check_peak();
  check_both();
  check_shortage();
  check_growth();
  return failures != 0;
}
