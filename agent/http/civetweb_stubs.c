/* What civetweb shall not do, or never needs to: civetweb_system.h. */
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

/* SIGPIPE stays as the host has it: agent threads block it, and every send says MSG_NOSIGNAL. */
int civetweb_sigaction(int number, const struct sigaction *action, struct sigaction *old) {
  (void)number, (void)action, (void)old;
  return 0;
}

/* The thread-specific value is of use to Lua and to Windows only; pthread keys are the host's. */
int civetweb_pthread_key_create(pthread_key_t *key, void (*destructor)(void *)) {
  (void)destructor;
  *key = 0;
  return 0;
}
int civetweb_pthread_key_delete(pthread_key_t key) { return (void)key, 0; }
void *civetweb_pthread_getspecific(pthread_key_t key) { return (void)key, NULL; }
int civetweb_pthread_setspecific(pthread_key_t key, const void *value) {
  return (void)key, (void)value, 0;
}

/* It listens on a socket that nobody uses: civetweb_system.h. */
int civetweb_bind(int descriptor, const struct sockaddr *address, socklen_t size) {
  (void)descriptor, (void)address, (void)size;
  return 0;
}

int civetweb_listen(int descriptor, int backlog) {
  (void)descriptor, (void)backlog;
  return 0;
}

char *civetweb_strerror(int error) {
  (void)error;
  return "system call failed"; /* strerror translates, which allocates */
}

/* Nothing that the server does needs a date, and gmtime reads the time zone's file once. */
struct tm *civetweb_gmtime(const time_t *when) {
  return (void)when, NULL;
}

/* libc's time is an IFUNC: its resolver looks for the vdso's at each exec. */
time_t civetweb_time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}

int civetweb_getnameinfo(const struct sockaddr *address, socklen_t address_size, char *host,
                         socklen_t host_size, char *service, socklen_t service_size, int flags) {
  (void)address, (void)address_size, (void)service, (void)service_size, (void)flags;
  snprintf(host, host_size, "127.0.0.1");
  return 0;
}

/* Of code that is linked in and never runs: its HTTP client, its change of user. */
int civetweb_getaddrinfo(const char *host, const char *service, const void *hints, void *out) {
  (void)host, (void)service, (void)hints, (void)out;
  return -1;
}
void civetweb_freeaddrinfo(void *list) { (void)list; }
void *civetweb_getpwnam(const char *name) { return (void)name, NULL; }
int civetweb_setuid(uid_t id) { return (void)id, -1; }
int civetweb_setgid(gid_t id) { return (void)id, -1; }
int civetweb_setgroups(size_t count, const gid_t *list) { return (void)count, (void)list, -1; }
int civetweb_connect(int descriptor, const struct sockaddr *address, socklen_t size) {
  (void)descriptor, (void)address, (void)size;
  return -1;
}
