/* For test/unit_fuzz_NAME.c, whose inputs are bytes: it defines fuzz_one. Among the unit tests it
 * is given what lies in test/corpus/NAME, and that changed by chance for FUZZ_SECONDS (2); built by
 * `make fuzz`, whatever libFuzzer makes of it. Arguments: files, instead of all that. */
#ifndef TEST_FUZZ_H
#define TEST_FUZZ_H

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Whatever the bytes are, it comes back; what is wrong ends the program (abort, a sanitizer). */
static void fuzz_one(const uint8_t *bytes, size_t size);

/* ---- an input read piece by piece; after its end comes zero ---- */

struct fuzz_input {
  const uint8_t *at, *end;
};

static inline size_t fuzz_left(const struct fuzz_input *input) {
  return (size_t)(input->end - input->at);
}

static inline unsigned fuzz_byte(struct fuzz_input *input) {
  return input->at < input->end ? *input->at++ : 0;
}

/* At most `most` bytes, of which the input says how many; they stay where they are. */
static inline const uint8_t *fuzz_piece(struct fuzz_input *input, size_t most, size_t *size) {
  size_t said = fuzz_byte(input);
  if (said >= 128) said = (said & 127) << 8 | fuzz_byte(input);
  const uint8_t *piece = input->at;
  *size = said < most ? said : most;
  if (*size > fuzz_left(input)) *size = fuzz_left(input);
  input->at += *size;
  return piece;
}

/* How many descriptors are open, of those that a test has. */
static inline int fuzz_descriptors(void) {
  int count = 0;
  for (int descriptor = 0; descriptor < 128; descriptor++) count += fcntl(descriptor, F_GETFD) >= 0;
  return count;
}
/* None is left. Threads of a sanitizer's or of libFuzzer's have one for a moment. */
static inline void fuzz_check_descriptors(int before) {
  for (int tries = 0; fuzz_descriptors() > before; tries++) {
    if (tries == 1000) abort();
    usleep(1000);
  }
}

#ifdef LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  fuzz_one(bytes, size);
  return 0;
}
#else

#include <dirent.h>
#include <stdio.h>

#include "fuzz_budget.h"

enum { FUZZ_INPUT_MAX = 1 << 16, FUZZ_CORPUS_MAX = 256 };

static struct {
  uint8_t *bytes;
  size_t size;
} fuzz_corpus[FUZZ_CORPUS_MAX];
static unsigned fuzz_corpus_count;
static uint64_t fuzz_state;
static const uint8_t *fuzz_now_bytes; /* the input that is being tried */
static size_t fuzz_now_size;
static char fuzz_name[64];

static inline uint64_t fuzz_below(uint64_t limit) {
  fuzz_state ^= fuzz_state << 13;
  fuzz_state ^= fuzz_state >> 7;
  fuzz_state ^= fuzz_state << 17;
  return fuzz_state % limit;
}

static void fuzz_add_file(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file || fuzz_corpus_count == FUZZ_CORPUS_MAX) abort();
  uint8_t *bytes = malloc(FUZZ_INPUT_MAX);
  size_t size = fread(bytes, 1, FUZZ_INPUT_MAX, file);
  fclose(file);
  fuzz_corpus[fuzz_corpus_count].bytes = bytes;
  fuzz_corpus[fuzz_corpus_count++].size = size;
}

static void fuzz_add_directory(const char *path) {
  char file[512];
  DIR *directory = opendir(path);
  if (!directory) printf("no directory %s\n", path), exit(1);
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    if (entry->d_name[0] == '.') continue;
    snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
    fuzz_add_file(file);
  }
  closedir(directory);
}

static size_t fuzz_change(uint8_t *bytes, size_t size) {
  static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff, 0x20, 0x0a, '_'};
  size_t at = fuzz_below(size + 1), count = 1 + fuzz_below(16);
  if (size + count > FUZZ_INPUT_MAX || (at == size && size > 0)) at = 0;
  switch (fuzz_below(6)) {
    case 0: /* a piece comes in, by chance or from another input */
      if (size + count > FUZZ_INPUT_MAX) return size;
      memmove(bytes + at + count, bytes + at, size - at);
      unsigned other = (unsigned)fuzz_below(fuzz_corpus_count);
      size_t has = fuzz_corpus[other].size, from = fuzz_below(has + 1);
      for (size_t i = 0; i < count; i++)
        bytes[at + i] =
            from + i < has ? fuzz_corpus[other].bytes[from + i] : (uint8_t)fuzz_below(256);
      return size + count;
    case 1: /* one goes */
      if (at + count > size) return size;
      memmove(bytes + at, bytes + at + count, size - at - count);
      return size - count;
    case 2: /* one comes twice */
      if (at + count > size || size + count > FUZZ_INPUT_MAX) return size;
      memmove(bytes + at + count, bytes + at, size - at);
      return size + count;
    case 3:
      if (at < size) bytes[at] ^= (uint8_t)(1 << fuzz_below(8));
      return size;
    case 4:
      if (at < size) bytes[at] = values[fuzz_below(sizeof values)];
      return size;
    default:
      if (at < size) bytes[at] = (uint8_t)fuzz_below(256);
      return size;
  }
}

/* Exactly as much memory as bytes, so that a sanitizer sees what reads beyond. */
static void fuzz_try(const uint8_t *bytes, size_t size) {
  uint8_t *copy = malloc(size ? size : 1);
  memcpy(copy, bytes, size);
  fuzz_now_bytes = copy, fuzz_now_size = size;
  fuzz_one(copy, size);
  fuzz_now_bytes = NULL;
  free(copy);
}

void __sanitizer_set_death_callback(void (*)(void));
static void fuzz_keep_input(void) {
  char path[128];
  if (!fuzz_now_bytes) return;
  snprintf(path, sizeof path, "/tmp/fuzz-%s.input", fuzz_name);
  FILE *file = fopen(path, "wb");
  if (!file) return;
  fwrite(fuzz_now_bytes, 1, fuzz_now_size, file);
  fclose(file);
  fprintf(stderr, "the input: %s\n", path);
}
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "handle_abort=1:detect_leaks=0"; }

int main(int count, char **words) {
  const char *slash = strrchr(words[0], '/');
  const char *name = slash ? slash + 1 : words[0];
  snprintf(fuzz_name, sizeof fuzz_name, "%s", strncmp(name, "unit_fuzz_", 10) ? name : name + 10);
  __sanitizer_set_death_callback(fuzz_keep_input);
  char corpus[128];
  snprintf(corpus, sizeof corpus, "test/corpus/%s", fuzz_name);
  if (count == 1) fuzz_add_directory(corpus);
  for (int i = 1; i < count; i++) fuzz_add_file(words[i]);
  for (unsigned i = 0; i < fuzz_corpus_count; i++)
    fuzz_try(fuzz_corpus[i].bytes, fuzz_corpus[i].size);
  fuzz_state = fuzz_seed(88172645463325252u);
  static uint8_t bytes[FUZZ_INPUT_MAX];
  unsigned long tried = 0;
  double end = fuzz_now() + (count == 1 ? fuzz_seconds(2) : 0);
  for (; fuzz_now() < end; tried++) {
    unsigned which = (unsigned)fuzz_below(fuzz_corpus_count);
    size_t size = fuzz_corpus[which].size;
    memcpy(bytes, fuzz_corpus[which].bytes, size);
    for (uint64_t changes = 1 + fuzz_below(8); changes > 0; changes--)
      size = fuzz_change(bytes, size);
    fuzz_try(bytes, size);
  }
  for (unsigned i = 0; i < fuzz_corpus_count; i++) free(fuzz_corpus[i].bytes);
  printf("%u inputs of the corpus, %lu changed\n", fuzz_corpus_count, tried);
  return 0;
}
#endif

#endif
