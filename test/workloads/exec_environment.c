/* exec_environment WAY: executes itself or a shell in one of the ways that there are; what is
 * executed prints its environment, in order, and whether the agent is in it. exec_environment
 * print: only that. With -DLIBRARY: a preloaded library whose constructor changes the
 * environment. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "workload.h"

extern char **environ;

#ifdef LIBRARY
__attribute__((constructor)) static void set_variables(void) {
  setenv("FROM_CONSTRUCTOR", "1", 1); /* environ is libc's own copy from here on */
  unsetenv("REMOVED_BY_CONSTRUCTOR");
}
#else

static int mapped(const char *name) {
  char line[4096];
  int found = 0;
  FILE *maps = fopen("/proc/self/maps", "r");
  while (fgets(line, sizeof line, maps)) found |= strstr(line, name) != NULL;
  fclose(maps);
  return found;
}

static void print(char **environment) {
  for (; *environment; environment++) printf("%s\n", *environment);
  const char *names = getenv("LOOK_FOR"); /* in what is mapped */
  for (char *all = names ? strdup(names) : NULL, *name = all ? strtok(all, ",") : NULL; name;
       name = strtok(NULL, ","))
    printf("%s %s\n", name, mapped(name) ? "is mapped" : "is absent");
  fflush(stdout);
}

static char *self, *arguments[] = {"exec_environment", "print", NULL};

/* As programs do that keep their own list: envp of main, in new memory. */
static char **copied(char **environment) {
  size_t count = 0;
  while (environment[count]) count++;
  char **copy = calloc(count + 1, sizeof *copy);
  for (size_t i = 0; i < count; i++) copy[i] = strdup(environment[i]);
  return copy;
}

static void wait_for(pid_t child) {
  int status;
  CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

/* In a child made by fork, vfork or clone. */
static void execute(const char *way, char **envp) {
  if (strcmp(way, "execve") == 0) execve(self, arguments, environ);
  if (strcmp(way, "execve_envp") == 0) execve(self, arguments, envp);
  if (strcmp(way, "execve_copied") == 0) execve(self, arguments, copied(envp));
  if (strcmp(way, "execve_syscall") == 0) syscall(SYS_execve, self, arguments, environ);
  if (strcmp(way, "execveat") == 0) execveat(AT_FDCWD, self, arguments, environ, 0);
  if (strcmp(way, "fexecve") == 0) fexecve(open(self, O_RDONLY | O_CLOEXEC), arguments, environ);
  if (strcmp(way, "execv") == 0) execv(self, arguments);
  if (strcmp(way, "execvp") == 0) execvp(self, arguments);
  if (strcmp(way, "execvpe") == 0) execvpe(self, arguments, environ);
  if (strcmp(way, "execl") == 0) execl(self, "exec_environment", "print", (char *)NULL);
  if (strcmp(way, "execlp") == 0) execlp(self, "exec_environment", "print", (char *)NULL);
  if (strcmp(way, "execle") == 0) execle(self, "exec_environment", "print", (char *)NULL, envp);
  if (strcmp(way, "setenv") == 0) setenv("ANOTHER", "variable", 1), execv(self, arguments);
  _exit(96);
}

static const char *const ways[] = {
    "execve", "execve_envp", "execve_copied", "execve_syscall", "execveat", "fexecve", "execv",
    "execvp", "execvpe",     "execl",         "execlp",         "execle",   "setenv"};

int main(int argc, char **argv, char **envp) {
  char command[4200];
  CHECK(argc == 2);
  self = realpath("/proc/self/exe", NULL);
  snprintf(command, sizeof command, "'%s' print", self);
  if (strcmp(argv[1], "print") == 0) return print(envp), envp != environ;
  if (strcmp(argv[1], "replaced") == 0) execve(self, arguments, environ); /* without a fork */
  for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
    say("-- %s\n", ways[i]);
    pid_t child = fork();
    if (child == 0) execute(ways[i], envp);
    wait_for(child);
  }
  say("-- vfork\n");
  pid_t child = vfork();
  if (child == 0) {
    execv(self, arguments);
    _exit(96);
  }
  wait_for(child);
  say("-- posix_spawn\n");
  CHECK(posix_spawn(&child, self, NULL, NULL, arguments, environ) == 0);
  wait_for(child);
  say("-- posix_spawnp\n");
  CHECK(posix_spawnp(&child, self, NULL, NULL, arguments, envp) == 0);
  wait_for(child);
  say("-- system\n");
  CHECK(system(command) == 0);
  say("-- popen\n");
  FILE *pipe = popen(command, "r");
  for (int c; (c = getc(pipe)) != EOF;) putchar(c);
  fflush(stdout);
  CHECK(pclose(pipe) == 0);
  return 0;
}
#endif
