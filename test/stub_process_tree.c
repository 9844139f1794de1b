#include "stub_process_tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/dump/dump_status.h"
#include "agent/http/localhost_twin.h"
#include "agent/http/request_process.h"
#include "agent/tls/tls_front.h"

struct stub_process_tree stub_process_tree = {.role = TREE_HOLDER, .tls_address = ""};

enum tree_role process_tree_role(void) { return stub_process_tree.role; }
const char *process_tree_off_reason(char out[SHARED_TEXT_MAX]) { return (void)out, NULL; }
unsigned process_tree_size(void) {
  return stub_process_tree.count ? (unsigned)stub_process_tree.count : 1;
}
const char *process_tree_fault(void) { return stub_process_tree.fault; }
unsigned process_tree_refusals(char last[PROCESS_REFUSAL_MAX]) {
  snprintf(last, PROCESS_REFUSAL_MAX, "%s",
           stub_process_tree.refused ? stub_process_tree.refusal : "");
  return stub_process_tree.refused;
}
struct process_entry *process_tree_list(size_t *count) {
  stub_process_tree.lists++;
  if (!stub_process_tree.count) return NULL;
  struct process_entry *entries = calloc(stub_process_tree.count, sizeof *entries);
  *count = stub_process_tree.count;
  memcpy(entries, stub_process_tree.entries, *count * sizeof *entries);
  return entries;
}

const char *tls_front_address(void) { return stub_process_tree.tls_address; }
const char *tls_front_off_reason(char out[SHARED_TEXT_MAX]) {
  return (void)out, stub_process_tree.tls_off_reason;
}

const char *localhost_twin_fault(void) { return NULL; }

/* agent/http/request_process.h */
int http_path_process(const char *path, const char **rest) {
  if (strncmp(path, "/pid/", 5) != 0 || path[5] < '1' || path[5] > '9') return 0;
  char *end;
  long pid = strtol(path + 5, &end, 10);
  if ((*end && *end != '/') || pid > 4 * 1024 * 1024) return 0;
  *rest = *end ? end : "/";
  return (int)pid;
}

/* dump_status.h */
uint64_t dump_status_written(void) { return 0; }
uint64_t dump_status_failed(void) { return 0; }
const char *dump_status_last_file(char out[SHARED_TEXT_MAX]) { return strcpy(out, ""); }
const char *dump_status_last_error(char out[SHARED_TEXT_MAX]) { return strcpy(out, ""); }

/* log.h */
const char *log_fault(char *text) { return text ? NULL : text; }
uint64_t log_lines_left_out(void) { return 0; }
void log_event(const char *format, ...) { (void)format; }
