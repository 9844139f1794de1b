/* Every symbol that libpprofagent.so exports, once: the list yields the typedefs, the pointers to
 * the next definitions, their resolution (next_functions.c) and the linker's export list
 * (Makefile).
 *
 * To add an interposer: add a line here, write the wrapper in the *_interposers.c of its family,
 * and give it a test. Context of the pointers: any, once the library is relocated; never NULL for
 * INTERPOSED_ALWAYS.
 */
#ifndef SHIM_INTERPOSED_H
#define SHIM_INTERPOSED_H

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <termios.h>
#include <threads.h>
#include <time.h>

typedef void (*interposed_handler)(int);

/* X(return type, name, (parameters)) */

/* libc always has these. */
#define INTERPOSED_ALWAYS(X)                                                       \
  X(void *, malloc, (size_t))                                                      \
  X(void *, calloc, (size_t, size_t))                                              \
  X(void *, realloc, (void *, size_t))                                             \
  X(void, free, (void *))                                                          \
  X(int, posix_memalign, (void **, size_t, size_t))                                \
  X(void *, aligned_alloc, (size_t, size_t))                                       \
  X(void *, memalign, (size_t, size_t))                                            \
  X(void *, valloc, (size_t))                                                      \
  X(void *, pvalloc, (size_t))                                                     \
  X(int, dlclose, (void *))                                                        \
  X(int, unshare, (int))                                                           \
  X(int, setns, (int, int))                                                        \
  X(int, prctl, (int, unsigned long, unsigned long, unsigned long, unsigned long)) \
  X(long, syscall, (long, long, long, long, long, long, long))                     \
  X(void, pthread_exit, (void *))                                                  \
  X(void, thrd_exit, (int))

/* libc always has these too; rarely called, so each wrapper starts the library itself
 * (startup_ensure) and there is no stand-in. */
#define INTERPOSED_RARE(X)                                                                 \
  X(int, pthread_create, (pthread_t *, const pthread_attr_t *, void *(*)(void *), void *)) \
  X(int, thrd_create, (thrd_t *, int (*)(void *), void *))                                 \
  X(pid_t, fork, (void))                                                                   \
  X(pid_t, __fork, (void))                                                                 \
  X(pid_t, _Fork, (void))                                                                  \
  X(int, daemon, (int, int))                                                               \
  X(int, capset, (void *, const void *))                                                   \
  X(int, mlockall, (int))                                                                  \
  X(int, forkpty, (int *, char *, const struct termios *, const struct winsize *))         \
  X(int, sigaction, (int, const struct sigaction *, struct sigaction *))                   \
  X(int, __sigaction, (int, const struct sigaction *, struct sigaction *))                 \
  X(interposed_handler, signal, (int, interposed_handler))                                 \
  X(interposed_handler, bsd_signal, (int, interposed_handler))                             \
  X(interposed_handler, ssignal, (int, interposed_handler))                                \
  X(interposed_handler, sysv_signal, (int, interposed_handler))                            \
  X(interposed_handler, __sysv_signal, (int, interposed_handler))                          \
  X(interposed_handler, sigset, (int, interposed_handler))                                 \
  X(int, sigignore, (int))                                                                 \
  X(int, siginterrupt, (int, int))                                                         \
  X(int, system, (const char *))                                                           \
  X(int, sigaltstack, (const stack_t *, stack_t *))                                        \
  X(int, sigwait, (const sigset_t *, int *))                                               \
  X(int, sigwaitinfo, (const sigset_t *, siginfo_t *))                                     \
  X(int, sigtimedwait, (const sigset_t *, siginfo_t *, const struct timespec *))           \
  X(int, sigpending, (sigset_t *))                                                         \
  X(int, sigprocmask, (int, const sigset_t *, sigset_t *))                                 \
  X(int, pthread_sigmask, (int, const sigset_t *, sigset_t *))                             \
  X(int, signalfd, (int, const sigset_t *, int))

/* Waits and releases, and longjmp, which ends waits (lock_functions.h). libc always has these too;
 * found at the first call of any of them, because most processes make none. */
#define INTERPOSED_LOCKS(X)                                                                    \
  X(int, pthread_mutex_lock, (pthread_mutex_t *))                                              \
  X(int, pthread_mutex_unlock, (pthread_mutex_t *))                                            \
  X(int, pthread_mutex_timedlock, (pthread_mutex_t *, const struct timespec *))                \
  X(int, pthread_mutex_clocklock, (pthread_mutex_t *, clockid_t, const struct timespec *))     \
  X(int, pthread_rwlock_rdlock, (pthread_rwlock_t *))                                          \
  X(int, pthread_rwlock_wrlock, (pthread_rwlock_t *))                                          \
  X(int, pthread_rwlock_unlock, (pthread_rwlock_t *))                                          \
  X(int, pthread_rwlock_timedrdlock, (pthread_rwlock_t *, const struct timespec *))            \
  X(int, pthread_rwlock_timedwrlock, (pthread_rwlock_t *, const struct timespec *))            \
  X(int, pthread_rwlock_clockrdlock, (pthread_rwlock_t *, clockid_t, const struct timespec *)) \
  X(int, pthread_rwlock_clockwrlock, (pthread_rwlock_t *, clockid_t, const struct timespec *)) \
  X(int, pthread_spin_lock, (pthread_spinlock_t *))                                            \
  X(int, pthread_spin_unlock, (pthread_spinlock_t *))                                          \
  X(int, pthread_barrier_wait, (pthread_barrier_t *))                                          \
  X(int, pthread_cond_clockwait,                                                               \
    (pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *))                 \
  X(int, sem_wait, (sem_t *))                                                                  \
  X(int, sem_timedwait, (sem_t *, const struct timespec *))                                    \
  X(int, sem_clockwait, (sem_t *, clockid_t, const struct timespec *))                         \
  X(int, sem_post, (sem_t *))                                                                  \
  X(int, pthread_join, (pthread_t, void **))                                                   \
  X(int, pthread_timedjoin_np, (pthread_t, void **, const struct timespec *))                  \
  X(int, pthread_clockjoin_np, (pthread_t, void **, clockid_t, const struct timespec *))       \
  X(int, mtx_lock, (mtx_t *))                                                                  \
  X(int, mtx_timedlock, (mtx_t *, const struct timespec *))                                    \
  X(int, mtx_unlock, (mtx_t *))                                                                \
  X(int, cnd_wait, (cnd_t *, mtx_t *))                                                         \
  X(int, cnd_timedwait, (cnd_t *, mtx_t *, const struct timespec *))                           \
  X(int, cnd_signal, (cnd_t *))                                                                \
  X(int, cnd_broadcast, (cnd_t *))                                                             \
  X(int, thrd_join, (thrd_t, int *))                                                           \
  X(void, longjmp, (struct __jmp_buf_tag *, int))                                              \
  X(void, _longjmp, (struct __jmp_buf_tag *, int))                                             \
  X(void, siglongjmp, (struct __jmp_buf_tag *, int))                                           \
  X(void, __longjmp_chk, (struct __jmp_buf_tag *, int))

/* The same, in two versions: the older ones take condition variables of another layout. exports.map
 * gives the versions. */
#define INTERPOSED_COND(X)                                         \
  X(int, pthread_cond_signal, (pthread_cond_t *))                  \
  X(int, pthread_cond_broadcast, (pthread_cond_t *))               \
  X(int, pthread_cond_wait, (pthread_cond_t *, pthread_mutex_t *)) \
  X(int, pthread_cond_timedwait, (pthread_cond_t *, pthread_mutex_t *, const struct timespec *))
#define INTERPOSED_COND_OLD(X) /* named NAME_old, exported as NAME@GLIBC_2.2.5 */ \
  X(int, pthread_cond_signal, (pthread_cond_t *))                                 \
  X(int, pthread_cond_broadcast, (pthread_cond_t *))                              \
  X(int, pthread_cond_wait, (pthread_cond_t *, pthread_mutex_t *))                \
  X(int, pthread_cond_timedwait, (pthread_cond_t *, pthread_mutex_t *, const struct timespec *))

/* Not anybody else's: what the library offers to programs (include/pprof_trace.h). */
#define OWN_FUNCTIONS(X)                     \
  X(void, pprof_trace_mark, (const char *))  \
  X(void, pprof_trace_begin, (const char *)) \
  X(void, pprof_trace_end, (void))

/* Not exported. The wrappers of the locks take it for granted that all the others are there when
 * one of the second list is. */
#define NEXT_ALSO(X) X(void, pthread_testcancel, (void))
#define NEXT_ONLY(X)                                     \
  X(int, pthread_mutex_trylock, (pthread_mutex_t *))     \
  X(int, pthread_rwlock_tryrdlock, (pthread_rwlock_t *)) \
  X(int, pthread_rwlock_trywrlock, (pthread_rwlock_t *)) \
  X(int, pthread_spin_trylock, (pthread_spinlock_t *))   \
  X(int, sem_trywait, (sem_t *))                         \
  X(int, pthread_tryjoin_np, (pthread_t, void **))       \
  X(int, mtx_trylock, (mtx_t *))

/* Found at the first call of each, and called directly: credential_interposers.c. */
#define INTERPOSED_CREDENTIALS(X)            \
  X(int, setuid, (uid_t))                    \
  X(int, seteuid, (uid_t))                   \
  X(int, setreuid, (uid_t, uid_t))           \
  X(int, setresuid, (uid_t, uid_t, uid_t))   \
  X(int, setgid, (gid_t))                    \
  X(int, setegid, (gid_t))                   \
  X(int, setregid, (gid_t, gid_t))           \
  X(int, setresgid, (gid_t, gid_t, gid_t))   \
  X(int, setgroups, (size_t, const gid_t *)) \
  X(int, initgroups, (const char *, gid_t))  \
  X(int, setfsuid, (uid_t))                  \
  X(int, setfsgid, (gid_t))

/* Found at the first call of each, and called directly: thread_count_interposers.c. */
struct stat;
struct stat64;
struct statx;
struct dirent;
struct dirent64;
typedef int (*dirent_filter)(const struct dirent *);
typedef int (*dirent_order)(const struct dirent **, const struct dirent **);
typedef int (*dirent64_filter)(const struct dirent64 *);
typedef int (*dirent64_order)(const struct dirent64 **, const struct dirent64 **);
#define INTERPOSED_COUNTING(X)                                                            \
  X(int, stat, (const char *, struct stat *))                                             \
  X(int, stat64, (const char *, struct stat64 *))                                         \
  X(int, lstat, (const char *, struct stat *))                                            \
  X(int, lstat64, (const char *, struct stat64 *))                                        \
  X(int, fstatat, (int, const char *, struct stat *, int))                                \
  X(int, fstatat64, (int, const char *, struct stat64 *, int))                            \
  X(int, statx, (int, const char *, int, unsigned, struct statx *))                       \
  X(int, __xstat, (int, const char *, struct stat *)) /* of before glibc 2.33 */          \
  X(int, __xstat64, (int, const char *, struct stat64 *))                                 \
  X(int, __lxstat, (int, const char *, struct stat *))                                    \
  X(int, __lxstat64, (int, const char *, struct stat64 *))                                \
  X(int, __fxstatat, (int, int, const char *, struct stat *, int))                        \
  X(int, __fxstatat64, (int, int, const char *, struct stat64 *, int))                    \
  X(int, open, (const char *, int, mode_t))                                               \
  X(int, open64, (const char *, int, mode_t))                                             \
  X(int, openat, (int, const char *, int, mode_t))                                        \
  X(int, openat64, (int, const char *, int, mode_t))                                      \
  X(int, __open_2, (const char *, int)) /* of _FORTIFY_SOURCE */                          \
  X(int, __open64_2, (const char *, int))                                                 \
  X(int, __openat_2, (int, const char *, int))                                            \
  X(int, __openat64_2, (int, const char *, int))                                          \
  X(struct _IO_FILE *, fopen, (const char *, const char *))                               \
  X(struct _IO_FILE *, fopen64, (const char *, const char *))                             \
  X(struct __dirstream *, opendir, (const char *))                                        \
  X(int, scandir, (const char *, struct dirent ***, dirent_filter, dirent_order))         \
  X(int, scandir64, (const char *, struct dirent64 ***, dirent64_filter, dirent64_order)) \
  X(int, close, (int))                                                                    \
  X(int, fclose, (struct _IO_FILE *))                                                     \
  X(int, closedir, (struct __dirstream *))

/* Found at the first call of each, and called directly: exit_interposers.c. */
#define INTERPOSED_ENDS(X) \
  X(void, exit, (int))     \
  X(void, _exit, (int))    \
  X(void, _Exit, (int))

/* Found at the first call of each, and called directly: mmap_interposers.c. */
#define INTERPOSED_MAPPINGS(X)                              \
  X(void *, mmap, (void *, size_t, int, int, int, off_t))   \
  X(void *, mmap64, (void *, size_t, int, int, int, off_t)) \
  X(int, munmap, (void *, size_t))                          \
  X(void *, mremap, (void *, size_t, size_t, int, void *))

/* Of libgcc or LLVM's libunwind. Found at the first call of each, and called directly:
 * frame_interposers.c. */
#define INTERPOSED_FRAMES(X)          \
  X(void, __register_frame, (void *)) \
  X(void, __deregister_frame, (void *))

/* Newer or wrapped in terms of the ones above: NULL where the next definition does not exist. */
#define INTERPOSED_OPTIONAL(X)                      \
  X(void *, reallocarray, (void *, size_t, size_t)) \
  X(void, free_sized, (void *, size_t))             \
  X(void, free_aligned_sized, (void *, size_t, size_t))

/* Not exported. Of the same object as the program's malloc, as a rule. */
#define NEXT_ALLOCATOR(X) X(size_t, malloc_usable_size, (void *))

/* operator new and delete, Itanium C++ ABI names; looked up when a C++ runtime is loaded at start.
 */
#define INTERPOSED_CXX(X)                                                                   \
  X(void *, _Znwm, (size_t)) /* new(size_t) */                                              \
  X(void *, _Znam, (size_t)) /* new[] */                                                    \
  X(void *, _ZnwmRKSt9nothrow_t, (size_t, const void *)) /* new, nothrow */                 \
  X(void *, _ZnamRKSt9nothrow_t, (size_t, const void *))                                    \
  X(void *, _ZnwmSt11align_val_t, (size_t, size_t)) /* new, aligned */                      \
  X(void *, _ZnamSt11align_val_t, (size_t, size_t))                                         \
  X(void *, _ZnwmSt11align_val_tRKSt9nothrow_t, (size_t, size_t, const void *))             \
  X(void *, _ZnamSt11align_val_tRKSt9nothrow_t, (size_t, size_t, const void *))             \
  X(void, _ZdlPv, (void *)) /* delete */                                                    \
  X(void, _ZdaPv, (void *))                                                                 \
  X(void, _ZdlPvm, (void *, size_t)) /* delete, sized */                                    \
  X(void, _ZdaPvm, (void *, size_t))                                                        \
  X(void, _ZdlPvRKSt9nothrow_t, (void *, const void *))                                     \
  X(void, _ZdaPvRKSt9nothrow_t, (void *, const void *))                                     \
  X(void, _ZdlPvSt11align_val_t, (void *, size_t)) /* delete, aligned */                    \
  X(void, _ZdaPvSt11align_val_t, (void *, size_t))                                          \
  X(void, _ZdlPvmSt11align_val_t, (void *, size_t, size_t)) /* delete, sized and aligned */ \
  X(void, _ZdaPvmSt11align_val_t, (void *, size_t, size_t))                                 \
  X(void, _ZdlPvSt11align_val_tRKSt9nothrow_t, (void *, size_t, const void *))              \
  X(void, _ZdaPvSt11align_val_tRKSt9nothrow_t, (void *, size_t, const void *))

/* jemalloc's non-standard interface. */
#define INTERPOSED_JEMALLOC(X)                      \
  X(void *, mallocx, (size_t, int))                 \
  X(void *, rallocx, (void *, size_t, int))         \
  X(size_t, xallocx, (void *, size_t, size_t, int)) \
  X(void, dallocx, (void *, int))                   \
  X(void, sdallocx, (void *, size_t, int))

/* gperftools tcmalloc's second names for the standard calls. */
#define INTERPOSED_TCMALLOC(X)                           \
  X(void *, tc_malloc, (size_t))                         \
  X(void *, tc_malloc_skip_new_handler, (size_t))        \
  X(void *, tc_calloc, (size_t, size_t))                 \
  X(void *, tc_realloc, (void *, size_t))                \
  X(void, tc_free, (void *))                             \
  X(void, tc_cfree, (void *))                            \
  X(void, tc_free_sized, (void *, size_t))               \
  X(int, tc_posix_memalign, (void **, size_t, size_t))   \
  X(void *, tc_memalign, (size_t, size_t))               \
  X(void *, tc_valloc, (size_t))                         \
  X(void *, tc_pvalloc, (size_t))                        \
  X(void *, tc_new, (size_t))                            \
  X(void *, tc_newarray, (size_t))                       \
  X(void *, tc_new_nothrow, (size_t, const void *))      \
  X(void *, tc_newarray_nothrow, (size_t, const void *)) \
  X(void, tc_delete, (void *))                           \
  X(void, tc_deletearray, (void *))                      \
  X(void, tc_delete_sized, (void *, size_t))             \
  X(void, tc_deletearray_sized, (void *, size_t))        \
  X(void, tc_delete_nothrow, (void *, const void *))     \
  X(void, tc_deletearray_nothrow, (void *, const void *))

#define INTERPOSED_SYMBOLS(X) \
  INTERPOSED_ALWAYS(X)        \
  INTERPOSED_RARE(X)          \
  INTERPOSED_OPTIONAL(X)      \
  INTERPOSED_CXX(X)           \
  INTERPOSED_JEMALLOC(X)      \
  INTERPOSED_TCMALLOC(X)

#define X(type, name, parameters) typedef type(*real_##name##_function) parameters;
INTERPOSED_SYMBOLS(X)
INTERPOSED_LOCKS(X)
INTERPOSED_COND(X)
NEXT_ALSO(X)
NEXT_ONLY(X)
NEXT_ALLOCATOR(X)
INTERPOSED_CREDENTIALS(X)
INTERPOSED_COUNTING(X)
INTERPOSED_ENDS(X)
INTERPOSED_FRAMES(X)
INTERPOSED_MAPPINGS(X)
#undef X

#define X(type, name, parameters) type name parameters;
OWN_FUNCTIONS(X)
#undef X

/* The next definition of each symbol. Written once by next_functions_resolve, before which the
 * pointers that a hot path uses hold functions that resolve first; all NULL until the dynamic
 * loader has relocated this library. */
struct real_functions {
#define X(type, name, parameters) real_##name##_function name;
  INTERPOSED_SYMBOLS(X)
  NEXT_ALLOCATOR(X)
#undef X
};
extern struct real_functions real __attribute__((visibility("hidden")));

/* NULL until lock_functions_find. Apart, because most processes write none of them. */
struct real_lock_functions {
#define X(type, name, parameters) real_##name##_function name;
  NEXT_ONLY(X)
  NEXT_ALSO(X)
  INTERPOSED_LOCKS(X)
  INTERPOSED_COND(X)
#undef X
#define X(type, name, parameters) real_##name##_function name##_old;
  INTERPOSED_COND_OLD(X)
#undef X
};
extern struct real_lock_functions real_locks __attribute__((visibility("hidden")));
/* Published by release stores, those of NEXT_ONLY last. */
#define NEXT_LOCK(name) __atomic_load_n(&real_locks.name, __ATOMIC_ACQUIRE)

#define EXPORTED __attribute__((visibility("default")))
#define LIKELY(condition) __builtin_expect(!!(condition), 1)
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

#endif
