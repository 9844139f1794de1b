/* trusted_path.h: each way in which a stranger could have put something on the way to a file. */
#include "agent/runtime/trusted_path.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/runtime/allowed_calls.h"
#include "check.h"
#include "agent/runtime/unmapped_user.h"

enum { STRANGER = 61234, PEOPLE = 1500, SYSTEM = 104 };

static char directory[] = "/tmp/unit_trusted_path.XXXXXX", place[200];
static struct trusted_path_fault fault;

static const char *in(const char *name) {
  snprintf(place, sizeof place, "%s/%s", directory, name);
  return place;
}

static void make_file(const char *name, mode_t mode, uid_t user, gid_t group) {
  int file = open(in(name), O_WRONLY | O_CREAT | O_EXCL, 0600);
  CHECK(file >= 0 && fchown(file, user, group) == 0 && fchmod(file, mode) == 0);
  close(file);
}

static void make_directory(const char *name, mode_t mode, uid_t user, gid_t group) {
  CHECK(mkdir(in(name), 0700) == 0 && chown(place, user, group) == 0 && chmod(place, mode) == 0);
}

static void make_link(const char *name, const char *target, uid_t user) {
  CHECK(symlink(target, in(name)) == 0 && lchown(place, user, user) == 0);
}

static void make_second_name(const char *name, const char *second) {
  char path[200];
  snprintf(path, sizeof path, "%s", in(name));
  CHECK(link(path, in(second)) == 0);
}

static bool works(int descriptor) {
  if (descriptor >= 0) close(descriptor);
  return descriptor >= 0;
}
static bool reads(const char *name) { return works(trusted_path_open(in(name), &fault)); }
static bool appends(const char *name) { return works(trusted_path_append(in(name), &fault)); }
static bool says(const char *text) { return strstr(fault.text, text) != NULL; }

static void check_files(void) {
  make_file("own", 0600, 0, 0);
  make_file("strangers", 0644, STRANGER, STRANGER);
  make_file("others_may", 0666, 0, 0);
  make_file("people_may", 0660, 0, PEOPLE);
  make_file("system_may", 0660, 0, SYSTEM);
  make_file("two_names", 0600, 0, 0);
  make_second_name("two_names", "second_name");
  CHECK(mkfifo(in("fifo"), 0600) == 0);
  make_link("own_link", "own", 0);
  make_link("strangers_link", "own", STRANGER);
  CHECK(reads("own") && appends("own") && appends("made"));
  struct stat made;
  CHECK(stat(in("made"), &made) == 0 && (made.st_mode & 07777) == 0600);
  CHECK(!reads("strangers") && says("it belongs to user 61234") && !appends("strangers"));
  CHECK(!reads("others_may") && says("others may write it") && !appends("others_may"));
  CHECK(!reads("people_may") && reads("system_may"));
  CHECK(reads("two_names") && !appends("two_names") && says("hard link"));
  CHECK(!reads("fifo") && says("is not a regular file") && !appends("fifo"));
  CHECK(reads("own_link") && !appends("own_link") && says("is a link"));
  CHECK(!reads("strangers_link"));
  CHECK(says("the link \"strangers_link\" on its way belongs to user 61234"));
  CHECK(!reads("none") && errno == ENOENT && !*fault.text);
  CHECK(!reads("own/below") && errno == ENOTDIR && !reads("own_link/below"));
  CHECK(!works(trusted_path_open("own", &fault)) && says("is not absolute"));
  CHECK(!appends("") && !*fault.text); /* ends with a slash */
}

/* A directory of each kind, and in it what may be reached by it. */
static void check_directory(const char *name, mode_t mode, uid_t user, gid_t group, bool trusted) {
  char inner[100];
  make_directory(name, mode, user, group);
  snprintf(inner, sizeof inner, "%s/own", name);
  make_file(inner, 0600, 0, 0);
  CHECK(reads(inner) == trusted && appends(inner) == trusted);
  if (!trusted) CHECK(says(name));
  snprintf(inner, sizeof inner, "%s/new", name);
  CHECK(appends(inner) == trusted && (access(in(inner), F_OK) == 0) == trusted);
  snprintf(inner, sizeof inner, "%s/../own", name);
  CHECK(reads(inner) == trusted);
}

static void check_directories(void) {
  check_directory("private", 0700, 0, 0, true);
  check_directory("strangers_dir", 0755, STRANGER, STRANGER, false);
  check_directory("all_may", 0777, 0, 0, false);
  check_directory("sticky", 01777, 0, 0, true);
  check_directory("people_group", 0775, 0, PEOPLE, false);
  check_directory("users_group", 0775, 0, 100, false);
  check_directory("system_group", 0775, 0, SYSTEM, true);
  check_directory("strangers_sticky", 01777, STRANGER, STRANGER, false);
  make_link("way", "private", 0);
  make_link("strangers_way", "private", STRANGER);
  make_link("far", "/tmp/../tmp", 0);
  make_link("loop", "loop", 0);
  CHECK(reads("way/own") && appends("way/own"));
  CHECK(!reads("strangers_way/own") && says("link \"strangers_way\""));
  char far[200];
  snprintf(far, sizeof far, "far/%s/own", strrchr(directory, '/') + 1);
  CHECK(reads(far));
  CHECK(!reads("loop") && errno == ELOOP && !reads("loop/own"));
  make_file("sticky/strangers", 0644, STRANGER, STRANGER);
  make_file("sticky/linked", 0600, 0, 0);
  make_second_name("sticky/linked", "sticky/again");
  CHECK(!reads("sticky/strangers") && !reads("sticky/linked"));
}

static void check_contents(void) {
  unsigned long before = trusted_path_refused();
  CHECK(works(trusted_path_open_contents(in("own"), (uid_t)-1)));
  CHECK(works(trusted_path_open_contents(in("all_may/own"), (uid_t)-1)));
  CHECK(!works(trusted_path_open_contents(in("strangers"), (uid_t)-1)));
  CHECK(works(trusted_path_open_contents(in("strangers"), STRANGER)));
  CHECK(!works(trusted_path_open_contents(in("others_may"), STRANGER)));
  CHECK(!works(trusted_path_open_contents(in("fifo"), (uid_t)-1)));
  CHECK(!works(trusted_path_open_contents(in("none"), (uid_t)-1)));
  CHECK(trusted_path_refused() == before + 2);
}

static void make_socket(const char *name, uid_t user) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int descriptor = socket(AF_UNIX, SOCK_STREAM, 0);
  snprintf(address.sun_path, sizeof address.sun_path, "%s", in(name));
  CHECK(bind(descriptor, (struct sockaddr *)&address, sizeof address) == 0);
  CHECK(chown(place, user, user) == 0);
  close(descriptor);
}

static void check_sockets(void) {
  struct stat status;
  make_socket("sticky/socket", 0);
  make_socket("sticky/strangers_socket", STRANGER);
  make_socket("all_may/socket", 0);
  make_link("sticky/link", "socket", 0);
  CHECK(lstat(in("sticky/socket"), &status) == 0);
  CHECK(!trusted_path_remove_socket(place, status.st_dev, status.st_ino + 1));
  CHECK(!trusted_path_remove_socket(in("sticky/link"), 0, 0));
  CHECK(!trusted_path_remove_socket(in("sticky/own"), 0, 0));
  CHECK(!trusted_path_remove_socket(in("sticky/strangers_socket"), 0, 0));
  CHECK(!trusted_path_remove_socket(in("all_may/socket"), 0, 0));
  CHECK(trusted_path_remove_socket(in("sticky/socket"), status.st_dev, status.st_ino));
  CHECK(access(in("sticky/own"), F_OK) == 0 && access(in("all_may/socket"), F_OK) == 0);
}

/* A root program that takes on a user for a moment does not believe him meanwhile. */
static void check_as_user_for_a_moment(void) {
  CHECK(seteuid(STRANGER) == 0);
  CHECK(!reads("strangers") && !works(trusted_path_open_contents(in("strangers"), (uid_t)-1)));
  CHECK(seteuid(0) == 0 && setresuid(STRANGER, STRANGER, 0) == 0);
  CHECK(!reads("strangers"));
  CHECK(setresuid(STRANGER, STRANGER, STRANGER) == 0 && reads("strangers"));
  CHECK(works(trusted_path_open_contents(in("strangers"), (uid_t)-1)));
}

/* Where root's number means another: what a stranger owns looks as what the system's root owns. */
static void check_in_user_namespace(void) {
  if (unshare(CLONE_NEWUSER) != 0) return; /* not allowed here */
  CHECK(unmapped_user() == geteuid()); /* whatever kernel.overflowuid says */
  CHECK(!reads("own") && says("belongs to user")); /* below /tmp that is anybody */
  CHECK(works(trusted_path_open("/etc/passwd", &fault))); /* no stranger can write on its way */
  CHECK(works(trusted_path_open_contents("/etc/passwd", (uid_t)-1)));
  CHECK(!works(trusted_path_open_contents(in("strangers"), STRANGER)));
}

static void in_child(void (*check)(void)) {
  int status = 1;
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    check();
    fflush(stdout);
    _exit(failures != 0);
  }
  CHECK(waitpid(child, &status, 0) == child && status == 0);
}

int main(void) {
  if (geteuid() != 0) return 0; /* there is nobody to be protected from: no other user can be had */
  umask(022);
  allowed_calls_look();
  CHECK(mkdtemp(directory) && chmod(directory, 0755) == 0 && unmapped_user() == (uid_t)-1);
  check_files();
  check_directories();
  check_contents();
  check_sockets();
  in_child(check_in_user_namespace);
  in_child(check_as_user_for_a_moment);
  char command[100];
  snprintf(command, sizeof command, "rm -rf %s", directory);
  CHECK(system(command) == 0);
  return failures != 0;
}
