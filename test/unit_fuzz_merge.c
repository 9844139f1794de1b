/* links: test/agent_memory_libc.c */
/* fuzz: bytes */
/* Any bytes as a process's profile: it is left out, or what comes of it and of a good one is a
 * whole profile, in which every reference is to something that is there. */
#include <stdio.h>
#include <zlib.h>

#include "agent/http/byte_sink.h"
#include "agent/profiles/profile_merge.h"
#include "fuzz.h"
#include "profile.pb-c.h"

struct kept {
  struct byte_sink base;
  uint8_t *bytes;
  size_t size;
};

static bool keep(struct byte_sink *sink, const void *bytes, size_t size) {
  struct kept *kept = (struct kept *)sink;
  kept->bytes = realloc(kept->bytes, kept->size + size + 1);
  memcpy(kept->bytes + kept->size, bytes, size);
  kept->size += size;
  return true;
}

static size_t zip(const uint8_t *bytes, size_t size, uint8_t **out) {
  z_stream stream = {.next_in = (Bytef *)(uintptr_t)bytes, .avail_in = (uInt)size};
  if (deflateInit2(&stream, 1, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK) abort();
  size_t capacity = deflateBound(&stream, size) + 32;
  *out = malloc(capacity);
  stream.next_out = *out;
  stream.avail_out = (uInt)capacity;
  if (deflate(&stream, Z_FINISH) != Z_STREAM_END) abort();
  deflateEnd(&stream);
  return stream.total_out;
}

static Perftools__Profiles__Profile *unzip(const struct kept *kept) {
  enum { PLAIN = 1 << 22 };
  uint8_t *plain = malloc(PLAIN);
  z_stream stream = {
      .next_in = kept->bytes, .avail_in = (uInt)kept->size, .next_out = plain, .avail_out = PLAIN};
  if (inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK) abort();
  if (inflate(&stream, Z_FINISH) != Z_STREAM_END) abort();
  inflateEnd(&stream);
  Perftools__Profiles__Profile *profile =
      perftools__profiles__profile__unpack(NULL, stream.total_out, plain);
  free(plain);
  if (!profile) abort();
  return profile;
}

static void check(bool holds) {
  if (!holds) abort();
}

static void check_profile(const Perftools__Profiles__Profile *p) {
  int64_t strings = (int64_t)p->n_string_table;
  check(strings > 0 && !*p->string_table[0] && p->n_sample_type > 0);
  for (size_t i = 0; i < p->n_mapping; i++)
    check(p->mapping[i]->id == i + 1 && p->mapping[i]->filename < strings);
  for (size_t i = 0; i < p->n_function; i++)
    check(p->function[i]->id == i + 1 && p->function[i]->name < strings);
  for (size_t i = 0; i < p->n_location; i++) {
    check(p->location[i]->id == i + 1 && p->location[i]->mapping_id <= p->n_mapping);
    for (size_t k = 0; k < p->location[i]->n_line; k++) {
      uint64_t function = p->location[i]->line[k]->function_id;
      check(function > 0 && function <= p->n_function);
    }
  }
  for (size_t i = 0; i < p->n_sample; i++) {
    const Perftools__Profiles__Sample *sample = p->sample[i];
    check(sample->n_value == p->n_sample_type && sample->n_label >= 2);
    for (size_t k = 0; k < sample->n_location_id; k++)
      check(sample->location_id[k] > 0 && sample->location_id[k] <= p->n_location);
    for (size_t k = 0; k < sample->n_label; k++)
      check(sample->label[k]->key > 0 || k + 2 < sample->n_label),
          check(sample->label[k]->key < strings && sample->label[k]->str < strings);
  }
}

static void add(struct profile_merge *merge, const uint8_t *bytes, size_t size, int32_t pid) {
  const struct profile_merge_source source = {pid, "a process"};
  uint8_t *zipped;
  size_t zipped_size = zip(bytes, size, &zipped);
  const char *fault = profile_merge_add(merge, zipped, zipped_size, &source);
  if (fault) profile_merge_comment(merge, fault);
  /* and as if it were zipped already */
  check(profile_merge_add(merge, zipped, zipped_size / 2, &source) != NULL);
  free(zipped);
}

static void fuzz_one(const uint8_t *bytes, size_t size) {
  struct kept kept = {.base = {keep}};
  struct profile_merge *merge = profile_merge_open(&kept.base);
  if (!merge) abort();
  add(merge, bytes, size, 1);
  profile_merge_add(merge, bytes, size, &(struct profile_merge_source){2, "raw"});
  add(merge, bytes, size, 3);
  uint32_t count = profile_merge_count(merge);
  check(profile_merge_close(merge, count > 0) == (count > 0));
  if (count > 0) {
    Perftools__Profiles__Profile *profile = unzip(&kept);
    check_profile(profile);
    perftools__profiles__profile__free_unpacked(profile, NULL);
  }
  free(kept.bytes);
}
