#include "perf_ring.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <asm/perf_regs.h>
/* The 64-bit registers but flags and segments, in the order of their bits. */
static const uint64_t register_mask = 0xff01ff;
static const uint8_t register_numbers[] = {
    REMOTE_RAX, REMOTE_RBX, REMOTE_RCX, REMOTE_RDX, REMOTE_RSI, REMOTE_RDI,
    REMOTE_RBP, REMOTE_RSP, REMOTE_PC,  REMOTE_R8,  REMOTE_R9,  REMOTE_R10,
    REMOTE_R11, REMOTE_R12, REMOTE_R13, REMOTE_R14, REMOTE_R15};
_Static_assert(sizeof register_numbers == REMOTE_REGISTERS, "each has its bit");
_Static_assert(PERF_REG_X86_BX == 1 && PERF_REG_X86_SP == 7 && PERF_REG_X86_R8 == 16, "as listed");
#else
#error "perf_ring.c is not written for this architecture yet"
#endif

enum { PAGE = 4096 };

static struct perf_event_attr attributes_of(uint64_t counter) {
  struct perf_event_attr attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.size = sizeof attributes;
  attributes.type = PERF_TYPE_SOFTWARE;
  attributes.config = counter;
  attributes.disabled = 1;
  attributes.comm = 1;
  attributes.use_clockid = 1;
  attributes.clockid = CLOCK_MONOTONIC;
  return attributes;
}

static struct perf_event_attr attributes_of_samples(uint64_t first, uint32_t stack_bytes,
                                                    bool wakes) {
  struct perf_event_attr attributes = attributes_of(PERF_COUNT_SW_TASK_CLOCK);
  attributes.sample_period = first;
  attributes.sample_type =
      PERF_SAMPLE_TIME | PERF_SAMPLE_READ | PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER;
  attributes.sample_regs_user = register_mask;
  attributes.sample_stack_user = stack_bytes;
  attributes.wakeup_events = wakes;
  return attributes;
}

/* User mode alone: so perf_event_paranoid 2 allows it. */
static struct perf_event_attr attributes_of_switches(void) {
  struct perf_event_attr attributes = attributes_of(PERF_COUNT_SW_DUMMY);
  attributes.context_switch = attributes.task = 1;
  attributes.exclude_kernel = attributes.exclude_hv = 1;
  attributes.sample_id_all = 1;
  attributes.sample_type =
      PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU; /* struct trailer */
  return attributes;
}

static int open_ring(struct perf_ring *ring, struct perf_event_attr *attributes, int32_t tid,
                     uint32_t pages) {
  *ring = (struct perf_ring){.descriptor = -1};
  int descriptor = (int)syscall(SYS_perf_event_open, attributes, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
  if (descriptor < 0) return errno;
  size_t bytes = (size_t)(pages + 1) * PAGE;
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  int fault = memory == MAP_FAILED ? errno : 0;
  if (!fault && ioctl(descriptor, PERF_EVENT_IOC_ENABLE, 0) != 0) {
    fault = errno;
    munmap(memory, bytes);
  }
  if (fault) close(descriptor);
  else *ring = (struct perf_ring){.descriptor = descriptor, .memory = memory, .bytes = bytes};
  return fault;
}

int perf_ring_open(struct perf_ring *ring, int32_t tid, uint64_t first, uint32_t stack_bytes,
                   uint32_t pages, bool wakes) {
  struct perf_event_attr attributes = attributes_of_samples(first, stack_bytes, wakes);
  return open_ring(ring, &attributes, tid, pages);
}

int perf_ring_open_switches(struct perf_ring *ring, int32_t tid, uint32_t pages) {
  struct perf_event_attr attributes = attributes_of_switches();
  int fault = open_ring(ring, &attributes, tid, pages);
  ring->has_trailers = !fault;
  return fault;
}

const char *perf_ring_describe(int fault) {
  switch (fault) {
    case EACCES:
    case EPERM:
      return "the kernel does not let this process use perf_event_open for kernel time"
             " (perf_event_paranoid, RLIMIT_MEMLOCK, a sandbox)";
    case ENOSYS:
    case ENOENT:
    case EOPNOTSUPP: return "the kernel has no perf_event_open";
    default: return "perf_event_open fails";
  }
}

void perf_ring_give_up_descriptor(struct perf_ring *ring) {
  if (ring->descriptor >= 0) close(ring->descriptor);
  ring->descriptor = -1;
}

void perf_ring_close(struct perf_ring *ring) {
  perf_ring_give_up_descriptor(ring);
  if (ring->memory) munmap(ring->memory, ring->bytes);
  ring->memory = NULL;
}

bool perf_ring_set_period(struct perf_ring *ring, uint64_t period) {
  return ring->descriptor >= 0 && ioctl(ring->descriptor, PERF_EVENT_IOC_PERIOD, &period) == 0;
}

bool perf_ring_total(const struct perf_ring *ring, uint64_t *nanoseconds) {
  return ring->descriptor >= 0 &&
         read(ring->descriptor, nanoseconds, sizeof *nanoseconds) == sizeof *nanoseconds;
}

/* ---- records ---- */

static bool read_word(const char **at, const char *end, uint64_t *word) {
  if ((size_t)(end - *at) < sizeof *word) return false;
  memcpy(word, *at, sizeof *word);
  *at += sizeof *word;
  return true;
}

static bool read_sample(const char *at, const char *end, struct perf_ring_record *out) {
  uint64_t abi, size, valid, time;
  out->registers = (struct remote_registers){.known = REMOTE_ALL_KNOWN, .exact = true};
  if (!read_word(&at, end, &time) || !read_word(&at, end, &out->nanoseconds) ||
      !read_word(&at, end, &abi))
    return false;
  out->at = (int64_t)time;
  if (abi != PERF_SAMPLE_REGS_ABI_64) return false; /* the thread has no user mode any more */
  for (size_t i = 0; i < sizeof register_numbers; i++)
    if (!read_word(&at, end, &out->registers.value[register_numbers[i]])) return false;
  if (!read_word(&at, end, &size)) return false;
  out->stack = at;
  valid = 0;
  if (size > (size_t)(end - at)) return false;
  at += size;
  if (size && (!read_word(&at, end, &valid) || valid > size)) return false;
  out->stack_size = valid & ~(uint64_t)7;
  out->stack_is_cut = valid == size;
  out->kind = PERF_RING_SAMPLE;
  return true;
}

/* What every record of a ring of switches ends with. */
struct trailer {
  uint32_t pid, tid;
  uint64_t time;
  uint32_t cpu, reserved;
};

/* pid, parent's pid, tid, parent's tid, time: of a thread that was born to this one. */
static bool read_birth(const char *at, const char *end, struct perf_ring_record *out) {
  uint32_t numbers[4];
  if ((size_t)(end - at) < sizeof numbers) return false;
  memcpy(numbers, at, sizeof numbers);
  out->kind = PERF_RING_BIRTH;
  out->child = (int32_t)numbers[2];
  return numbers[0] == numbers[1]; /* else it is a process */
}

/* What only a ring of switches has. misc: of the header. */
static bool read_switch(uint32_t type, uint16_t misc, const char *at, const char *end,
                        struct perf_ring_record *out) {
  uint64_t id;
  switch (type) {
    case PERF_RECORD_SWITCH:
      out->kind = misc & PERF_RECORD_MISC_SWITCH_OUT ? PERF_RING_OFF_CPU : PERF_RING_ON_CPU;
      out->preempted = misc & PERF_RECORD_MISC_SWITCH_OUT_PREEMPT;
      return true;
    case PERF_RECORD_LOST:
      out->kind = PERF_RING_LOST;
      return read_word(&at, end, &id) && read_word(&at, end, &out->lost);
    case PERF_RECORD_FORK: return read_birth(at, end, out);
    case PERF_RECORD_EXIT: out->kind = PERF_RING_END; return true;
    default: return false;
  }
}

/* length: of the record; its header may change under our eyes. False: it says nothing here. */
static bool read_record(const struct perf_event_header *header, uint16_t length, bool has_trailer,
                        struct perf_ring_record *out) {
  const char *at = (const char *)(header + 1), *end = (const char *)header + length;
  uint32_t type = header->type;
  if (has_trailer) {
    struct trailer trailer;
    if ((size_t)(end - at) < sizeof trailer) return false;
    end -= sizeof trailer;
    memcpy(&trailer, end, sizeof trailer);
    out->at = (int64_t)trailer.time;
    out->cpu = (int32_t)trailer.cpu;
    if (type != PERF_RECORD_COMM) return read_switch(type, header->misc, at, end, out);
  }
  switch (type) {
    case PERF_RECORD_SAMPLE: return read_sample(at, end, out);
    case PERF_RECORD_COMM:
      out->kind = PERF_RING_NAME; /* behind pid and tid, NUL-terminated */
      out->name = at + sizeof(uint64_t);
      return end > out->name && memchr(out->name, 0, (size_t)(end - out->name));
    default: return false;
  }
}

/* A record may go round the end of the ring: then it is put together in scratch. */
static const struct perf_event_header *whole_record(const char *data, size_t size, uint64_t tail,
                                                    uint16_t length, char *scratch) {
  size_t room = size - tail % size;
  if (length <= room) return (const void *)(data + tail % size); /* 8-byte units */
  memcpy(scratch, data + tail % size, room);
  memcpy(scratch + room, data, length - room);
  return (const void *)scratch;
}

bool perf_ring_is_full(const struct perf_ring *ring) {
  const struct perf_event_mmap_page *page = ring->memory;
  if (!page) return false;
  uint64_t used = page->data_head - ring->tail, room = ring->bytes - PAGE;
  return used > room - room / 4;
}

bool perf_ring_next(struct perf_ring *ring, char *scratch, struct perf_ring_record *out) {
  struct perf_event_mmap_page *page = ring->memory;
  if (!page) return false;
  const char *data = (const char *)page + PAGE;
  /* The kernel writes data_head after the records before it (acquire), and reuses what lies before
   * data_tail, which only this function writes (release): so a record that was handed out is given
   * back at the next call. */
  for (;;) {
    ring->tail += ring->unread;
    ring->unread = 0;
    atomic_store_explicit((_Atomic __u64 *)&page->data_tail, ring->tail, memory_order_release);
    uint64_t left =
        atomic_load_explicit((_Atomic __u64 *)&page->data_head, memory_order_acquire) - ring->tail;
    if (left < sizeof(struct perf_event_header)) return false;
    size_t size = ring->bytes - PAGE;
    uint16_t length = ((const struct perf_event_header *)(data + ring->tail % size))->size;
    if (length < sizeof(struct perf_event_header) || length % 8 || length > left || left > size) {
      ring->tail += left; /* the program has written into it: what is there means nothing */
      continue;
    }
    ring->unread = length;
    if (read_record(whole_record(data, size, ring->tail, length, scratch), length,
                    ring->has_trailers, out))
      return true;
  }
}
