#include "sample_buffer.h"

#include <string.h>

#include "shim/base/at_fork.h"
#include "shim/base/raw_syscall.h"
#include "shim/base/table_memory.h"

/* In the ring. `state` is 0 where nothing is finished yet: the reader clears what it gives back
 * before others may reserve it again. */
struct ring_entry {
  _Atomic uint32_t state; /* ENTRY_*: a release store by the writer when the rest is written */
  uint32_t size; /* bytes, this header included */
  struct stack_sample sample;
};
enum { ENTRY_SAMPLE = 1, ENTRY_PADDING = 2, ALIGNMENT = 16, PADDING_MIN = 16 };

static struct ring_entry *entry_at(const struct sample_buffer *buffer, char *memory,
                                   uint64_t position) {
  return (struct ring_entry *)(memory + (position & (buffer->capacity - 1)));
}

bool sample_buffer_open(struct sample_buffer *buffer, uint64_t capacity) {
  char *memory = table_memory_map(capacity);
  if (!memory) return false;
  buffer->capacity = capacity;
  buffer->unread = 0;
  atomic_store_explicit(&buffer->reserved, 0, memory_order_relaxed);
  atomic_store_explicit(&buffer->consumed, 0, memory_order_relaxed);
  atomic_store(&buffer->memory, memory);
  return true;
}

void sample_buffer_close(struct sample_buffer *buffer) {
  char *memory = atomic_exchange(&buffer->memory, NULL);
  if (!memory) return;
  while (atomic_load(&buffer->writers))
    raw_nap(); /* a writer counts itself before it looks at memory */
  table_memory_unmap(memory, buffer->capacity);
}

/* Writes only what is not as it should be: a page that a child writes is copied first. */
AT_FORK void sample_buffer_forget(struct sample_buffer *buffer) {
  char *memory = atomic_load(&buffer->memory);
  if (memory) {
    atomic_store(&buffer->memory, NULL);
    table_memory_unmap(memory, buffer->capacity);
  }
  if (atomic_load(&buffer->writers)) atomic_store(&buffer->writers, 0);
}

/* UINT64_MAX: no room. *padding: bytes to skip at the ring's end, so that an entry lies in one
 * piece. */
static uint64_t reserve(struct sample_buffer *buffer, uint32_t size, uint32_t *padding) {
  uint64_t start = atomic_load_explicit(&buffer->reserved, memory_order_relaxed), total;
  do {
    uint64_t left = buffer->capacity - (start & (buffer->capacity - 1));
    *padding = left < size ? (uint32_t)left : 0;
    total = size + *padding;
    /* Acquire: what the reader gave back has been cleared. */
    int64_t used =
        (int64_t)(start + total -
                  atomic_load_explicit(&buffer->consumed,
                                       memory_order_acquire)); /* below 0: start is old */
    if (used > (int64_t)buffer->capacity) return UINT64_MAX;
  } while (!atomic_compare_exchange_weak_explicit(&buffer->reserved, &start, start + total,
                                                  memory_order_relaxed, memory_order_relaxed));
  return start;
}

static bool write_entry(struct sample_buffer *buffer, char *memory, const struct stack_sample *head,
                        const uint64_t *frames) {
  uint32_t size = (uint32_t)(offsetof(struct ring_entry, sample.frames) +
                             head->frame_count * sizeof *frames),
           padding;
  size = (size + ALIGNMENT - 1) & ~(uint32_t)(ALIGNMENT - 1);
  uint64_t start = reserve(buffer, size, &padding);
  if (start == UINT64_MAX) return false;
  if (padding) {
    struct ring_entry *skipped = entry_at(buffer, memory, start);
    skipped->size = padding;
    atomic_store_explicit(&skipped->state, ENTRY_PADDING, memory_order_release);
  }
  struct ring_entry *entry = entry_at(buffer, memory, start + padding);
  entry->size = size;
  entry->sample = *head;
  memcpy(entry->sample.frames, frames, head->frame_count * sizeof *frames);
  atomic_store_explicit(&entry->state, ENTRY_SAMPLE, memory_order_release);
  return true;
}

bool sample_buffer_write(struct sample_buffer *buffer, const struct stack_sample *head,
                         const uint64_t *frames) {
  atomic_fetch_add(
      &buffer->writers,
      1); /* seq_cst, as the load that follows: sample_buffer_close sees us or we see its NULL */
  char *memory = atomic_load(&buffer->memory);
  bool written = memory && write_entry(buffer, memory, head, frames);
  if (memory && !written) atomic_fetch_add_explicit(&buffer->dropped, 1, memory_order_relaxed);
  atomic_fetch_sub(&buffer->writers, 1);
  return written;
}

static void give_back(struct sample_buffer *buffer, struct ring_entry *entry) {
  uint32_t size = entry->size;
  memset((void *)entry, 0, size);
  atomic_store_explicit(&buffer->consumed,
                        atomic_load_explicit(&buffer->consumed, memory_order_relaxed) + size,
                        memory_order_release);
}

const struct stack_sample *sample_buffer_next(struct sample_buffer *buffer) {
  char *memory = atomic_load_explicit(&buffer->memory, memory_order_relaxed);
  if (!memory) return NULL;
  for (;;) {
    struct ring_entry *entry =
        entry_at(buffer, memory, atomic_load_explicit(&buffer->consumed, memory_order_relaxed));
    if (buffer->unread) {
      buffer->unread = false;
      give_back(buffer, entry);
      continue;
    }
    switch (atomic_load_explicit(&entry->state, memory_order_acquire)) {
      case ENTRY_SAMPLE: buffer->unread = true; return &entry->sample;
      case ENTRY_PADDING: give_back(buffer, entry); break;
      default: return NULL;
    }
  }
}
