/* A host for the admin thread to be a good guest of. First argument: what to try. Prints what it
 * sees, one fact a line. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "workload.h"

static void sleep_ms(long ms) {
  struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&pause, NULL);
}

static void say_descriptors(void) {
  DIR *directory = opendir("/proc/self/fd");
  for (struct dirent *entry; (entry = readdir(directory));) {
    char path[300], target[300] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
    if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(directory) &&
        readlink(path, target, sizeof target - 1) > 0) {
      say("fd %s %s\n", entry->d_name, target);
    }
  }
  closedir(directory);
}

/* What the host's descriptor table looks like, then after closing everything that the host does not
 * know. */
static void descriptors(void) {
  say_descriptors();
  say("next %d\n", open("/dev/null", O_RDONLY));
  syscall(SYS_close_range, 3, ~0U, 0);
  say("next %d\n", open("/dev/null", O_RDONLY));
  ready();
}

static void signals(void) {
  struct sigaction pipe_action, urgent_action;
  sigset_t mask;
  sigaction(SIGPIPE, NULL, &pipe_action);
  sigaction(SIGURG, NULL, &urgent_action);
  sigprocmask(SIG_SETMASK, NULL, &mask);
  say("SIGPIPE %s\n", pipe_action.sa_handler == SIG_DFL ? "default" : "changed");
  say("SIGURG %s\n", urgent_action.sa_handler == SIG_DFL ? "default" : "changed");
  for (int number = 1; number < 65; number++) {
    if (sigismember(&mask, number) == 1) say("blocked %d\n", number);
  }
  ready();
}

static int user_namespace(void *unused) { return (void)unused, pause(); }

static void new_namespace(void) {
  say("unshare files %d\n", unshare(CLONE_FILES) ? errno : 0);
  say("unshare user %d\n", unshare(CLONE_NEWUSER) ? errno : 0);
  ready();
}

static void other_namespace(void) {
  static char stack[64 * 1024];
  int child = clone(user_namespace, stack + sizeof stack, CLONE_NEWUSER | SIGCHLD, NULL);
  if (child > 0) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/user", child);
    int space = open(path, O_RDONLY | O_CLOEXEC);
    say("setns user %d\n", setns(space, 0) ? errno : 0);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
  }
  ready();
}

static void mount_namespace(void) {
  int space = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
  say("setns mount %d\n", setns(space, CLONE_NEWNS) ? errno : 0);
  ready();
}

static void at_exit(void) {
  printf("atexit ran\n"); /* buffered: exit must flush it to the host's own stdout */
}

static void *last_thread(void *unused) {
  sleep_ms(300);
  say("last thread ends\n");
  return unused;
}

static void main_ends(int with_thread) {
  pthread_t thread;
  atexit(at_exit);
  if (with_thread) pthread_create(&thread, NULL, last_thread, NULL);
  pthread_exit(NULL);
}

static void *wait_for_urgent(void *mask) {
  int number = 0;
  sigwait(mask, &number);
  say("sigwait %d\n", number);
  return NULL;
}

/* A host that keeps the agent's wake signal pending for the whole process, then takes it. */
static void pending_signal(void) {
  sigset_t mask;
  pthread_t thread;
  sigemptyset(&mask);
  sigaddset(&mask, SIGURG);
  pthread_sigmask(SIG_BLOCK, &mask, NULL);
  kill(getpid(), SIGURG);
  ready();
  pthread_create(&thread, NULL, wait_for_urgent, &mask);
  pthread_join(thread, NULL);
  say("unshare user %d\n", unshare(CLONE_NEWUSER) ? errno : 0);
  ready();
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  ready();
  if (strcmp(what, "descriptors") == 0) descriptors();
  else if (strcmp(what, "signals") == 0) signals();
  else if (strcmp(what, "new_namespace") == 0) new_namespace();
  else if (strcmp(what, "other_namespace") == 0) other_namespace();
  else if (strcmp(what, "mount_namespace") == 0) mount_namespace();
  else if (strcmp(what, "main_ends") == 0) main_ends(0);
  else if (strcmp(what, "main_ends_first") == 0) main_ends(1);
  else if (strcmp(what, "pending_signal") == 0) pending_signal();
  else if (strcmp(what, "exec") == 0) execl(argv[0], argv[0], "wait", (char *)NULL);
  else if (strcmp(what, "fork") == 0) {
    pid_t child = fork();
    if (child == 0) {
      say("child unshare %d\n", unshare(CLONE_NEWUSER) ? errno : 0);
      fclose(stdin);
      exit(7);
    }
    int status = 0;
    waitpid(child, &status, 0);
    say("child exit %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    ready();
  } else {
    wait_for_line();
  }
  return 0;
}
