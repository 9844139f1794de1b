#include "syscall_wrappers.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

/* Arguments: i is an int (the upper half of its register means nothing), l a long or a pointer, '.'
 * stands for what follows. */
static const struct wrapper {
  int32_t number;
  char name[20], arguments[8]; /* in place: the loader has nothing to relocate at each exec */
} wrappers[] = {
#ifdef SYS_epoll_wait /* the calls that newer architectures do without */
    {SYS_epoll_wait, "epoll_wait", "ilii"},
    {SYS_poll, "poll", "lli"},
    {SYS_pause, "pause", ""},
    {SYS_select, "select", "illll"},
#endif
    {SYS_accept, "accept", "ill"},
    {SYS_accept4, "accept4", "illi"},
    {SYS_clock_nanosleep, "clock_nanosleep", "iill"},
    {SYS_connect, "connect", "ili"},
    {SYS_epoll_pwait, "epoll_pwait", "iliil"},
    {SYS_epoll_pwait, "epoll_wait", "ilii"},
    {SYS_fcntl, "fcntl", "iil"},
    {SYS_fdatasync, "fdatasync", "i"},
    {SYS_flock, "flock", "ii"},
    {SYS_fsync, "fsync", "i"},
    {SYS_getrandom, "getrandom", "lli"},
    {SYS_ioctl, "ioctl", "ill"},
    {SYS_mq_timedreceive, "mq_timedreceive", "illll"},
    {SYS_mq_timedsend, "mq_timedsend", "illil"},
    {SYS_msgrcv, "msgrcv", "illli"},
    {SYS_msgsnd, "msgsnd", "illi"},
    {SYS_nanosleep, "nanosleep", "ll"},
    {SYS_ppoll, "poll", "ll."},
    {SYS_ppoll, "ppoll", "ll."},
    {SYS_pread64, "pread", "illl"},
    {SYS_pselect6, "pselect", "illl."},
    {SYS_pselect6, "select", "illl."},
    {SYS_pwrite64, "pwrite", "illl"},
    {SYS_read, "read", "ill"},
    {SYS_readv, "readv", "ili"},
    {SYS_recvfrom, "recv", "illi"},
    {SYS_recvfrom, "recvfrom", "illill"},
    {SYS_recvmmsg, "recvmmsg", "iliil"},
    {SYS_recvmsg, "recvmsg", "ili"},
    {SYS_rt_sigsuspend, "sigsuspend", "l"},
    {SYS_rt_sigtimedwait, "sigtimedwait", "lll"},
    {SYS_semop, "semop", "ill"},
    {SYS_semtimedop, "semop", "ill"},
    {SYS_semtimedop, "semtimedop", "illl"},
    {SYS_sendfile, "sendfile", "iill"},
    {SYS_sendmmsg, "sendmmsg", "ilii"},
    {SYS_sendmsg, "sendmsg", "ili"},
    {SYS_sendto, "send", "illi"},
    {SYS_sendto, "sendto", "illili"},
    {SYS_splice, "splice", "ililli"},
    {SYS_wait4, "wait4", "ilil"},
    {SYS_wait4, "waitpid", "ili"},
    {SYS_waitid, "waitid", "iili"},
    {SYS_write, "write", "ill"},
    {SYS_writev, "writev", "ili"},
};

/* glibc: read is also __read, __libc_read and __GI___libc_read; pread64 is pread. */
static bool is_called(const char *function, const char *name) {
  static const char *const prefixes[] = {"__GI_", "__libc_", "__", "_"};
  for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
    if (strncmp(function, prefixes[i], strlen(prefixes[i])) == 0) function += strlen(prefixes[i]);
  size_t length = strlen(name);
  return strncmp(function, name, length) == 0 &&
         (function[length] == '\0' || strcmp(function + length, "64") == 0);
}

bool syscall_wrapper_arguments(int32_t number, const uint64_t arguments[6], const char *function,
                               char out[SYSCALL_ARGUMENTS_MAX]) {
  if (number < 0) return false;
  if (is_called(function, "syscall")) {
    snprintf(out, SYSCALL_ARGUMENTS_MAX, "0x%" PRIx32 ", ...",
             (uint32_t)number); /* how many follow depends on it */
    return true;
  }
  const struct wrapper *found = NULL;
  for (size_t i = 0; i < sizeof wrappers / sizeof *wrappers && !found; i++)
    if (wrappers[i].number == number && is_called(function, wrappers[i].name)) found = &wrappers[i];
  if (!found) return false;
  out[0] = '\0';
  size_t used = 0;
  for (int i = 0; found->arguments[i]; i++) {
    const char *comma = i > 0 ? ", " : "";
    uint64_t value = found->arguments[i] == 'i' ? (uint32_t)arguments[i] : arguments[i];
    if (found->arguments[i] == '.')
      snprintf(out + used, SYSCALL_ARGUMENTS_MAX - used, "%s...", comma);
    else snprintf(out + used, SYSCALL_ARGUMENTS_MAX - used, "%s0x%" PRIx64, comma, value);
    used += strlen(out + used);
  }
  return true;
}
