#include "descriptor_table.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "allowed_calls.h"

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#endif

static bool is_private; /* written before there is another agent thread */

/* unshare() itself is one of the library's wrappers, which would pause the agent: use the system
 * call. */
static bool unshare_by_hand(unsigned first) {
  if (syscall(SYS_unshare, CLONE_FILES) != 0) return false;
  int directory = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) {
    struct rlimit limit;
    unsigned end = getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max < 65536
                       ? (unsigned)limit.rlim_max
                       : 65536;
    for (unsigned number = first; number < end; number++) close((int)number);
    return true;
  }
  struct {
    unsigned long inode, offset;
    unsigned short length;
    unsigned char type;
    char name[];
  } const *entry;
  _Alignas(16) char buffer[4096];
  long size;
  while ((size = syscall(SYS_getdents64, directory, buffer, sizeof(buffer))) > 0) {
    for (long at = 0; at < size; at += entry->length) {
      entry = (const void *)(buffer + at);
      unsigned number = 0;
      const char *digit = (const char *)entry + 19; /* d_name of struct linux_dirent64 */
      if (*digit == '.') continue;
      for (; *digit >= '0' && *digit <= '9'; digit++)
        number = number * 10 + (unsigned)(*digit - '0');
      if (number >= first && number != (unsigned)directory) close((int)number);
    }
  }
  if ((unsigned)directory >= first) close(directory);
  return true;
}

/* Every number below `end` that is free gets something harmless, so that no socket of ours ever
 * becomes 0, 1 or 2. */
static void occupy_below(int end) {
  for (;;) {
    int number = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (number < 0) number = open("/", O_PATH | O_CLOEXEC); /* chroot without /dev */
    if (number < 0) return;
    if (number >= end) {
      close(number);
      return;
    }
  }
}

static const char *leave_program_table(unsigned first) {
  if (!allowed_calls_lack(CALLS_ISOLATING) &&
      syscall(SYS_close_range, first, ~0U, CLOSE_RANGE_UNSHARE) == 0)
    return NULL;
  if (allowed_calls_lack(CALLS_UNSHARING))
    return "the agent shares the program's descriptor table: a sandbox kills for unshare";
  if (unshare_by_hand(first)) return NULL;
  return errno == EPERM
             ? "the agent shares the program's descriptor table: the kernel or a sandbox refuses "
               "close_range and unshare"
             : "the agent shares the program's descriptor table: close_range and unshare failed";
}

const char *descriptor_table_isolate(bool keep_stderr) {
  is_private = false;
  const char *fault = leave_program_table(keep_stderr ? 3 : 0);
  if (fault) return fault;
  if (keep_stderr) {
    close(0);
    close(1);
  }
  occupy_below(3);
  is_private = true;
  return NULL;
}

bool descriptor_table_is_private(void) { return is_private; }

bool descriptor_table_lend(void) {
  if (is_private) close(0);
  return is_private;
}

void descriptor_table_take_back(void) { occupy_below(1); }
