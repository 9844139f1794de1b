/* Numbers out of bytes that may end anywhere: little-endian, as in the files of every machine that
 * is supported. What does not fit leaves the reader failed, and reads as 0. Context: any; locks:
 * none. */
#ifndef AGENT_BYTE_READER_H
#define AGENT_BYTE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct byte_reader {
  const uint8_t *at, *end;
  bool failed;
};

/* size: 8 at most. */
static inline uint64_t byte_reader_take(struct byte_reader *reader, size_t size) {
  uint64_t value = 0;
  if ((size_t)(reader->end - reader->at) < size) {
    reader->failed = true;
    return 0;
  }
  for (size_t i = 0; i < size; i++) value |= (uint64_t)reader->at[i] << (8 * i);
  reader->at += size;
  return value;
}

#endif
