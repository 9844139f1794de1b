/* LD_PRELOAD without our own entry: what stays is byte for byte what was there. */
#include "shim/base/preload_variable.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "check.h"

enum { VARIABLES = 8, LENGTH = 200 };

/* One variable: what becomes of it; NULL: it goes. */
static void check_value(const char *value, const char *expected) {
  char before[LENGTH] = "A=1", text[LENGTH], after[LENGTH] = "B=2";
  memset(text, 'x', sizeof text); /* what is behind the string is not ours */
  int length = sprintf(text, "LD_PRELOAD=%s", value);
  char *environment[] = {before, text, after, NULL, (char *)1};
  preload_variable_remove(environment, "/opt/lib/libpprofagent.so");
  char *const *rest = environment + 1;
  CHECK(environment[0] == before && environment[4] == (char *)1 && strcmp(before, "A=1") == 0 &&
        strcmp(after, "B=2") == 0);
  if (expected) {
    bool same = rest[0] == text && strncmp(text, "LD_PRELOAD=", 11) == 0 &&
                strcmp(text + 11, expected) == 0;
    if (!same) printf("\"%s\" gave \"%s\"\n", value, text);
    CHECK(same);
    for (int i = (int)strlen(text); i <= length; i++) CHECK(text[i] == 0);
    rest++;
  }
  CHECK(rest[0] == after && rest[1] == NULL);
  CHECK(text[length + 1] == 'x');
}

static void check_several_variables(void) {
  char strings[VARIABLES][LENGTH] = {
      "LD_PRELOAD=libpprofagent.so",          "PATH=/x/libpprofagent.so",
      "LD_PRELOAD=/a.so:/b/libpprofagent.so", "LD_PRELOAD",
      "LD_PRELOADED=libpprofagent.so",        "LD_PRELOAD=",
      "XLD_PRELOAD=libpprofagent.so",         "LD_PRELOAD= libpprofagent.so"};
  static const char *const expected[] = {
      "PATH=/x/libpprofagent.so",      "LD_PRELOAD=/a.so", "LD_PRELOAD",
      "LD_PRELOADED=libpprofagent.so", "LD_PRELOAD=",      "XLD_PRELOAD=libpprofagent.so"};
  char *environment[VARIABLES + 1] = {NULL};
  for (int i = 0; i < VARIABLES; i++) environment[i] = strings[i];
  preload_variable_remove(environment, "libpprofagent.so");
  for (int i = 0; i < 6; i++) CHECK(environment[i] && strcmp(environment[i], expected[i]) == 0);
  CHECK(environment[6] == NULL);
}

int main(void) {
  static const char *const cases[][2] = {
      {"/opt/lib/libpprofagent.so", NULL},
      {"libpprofagent.so", NULL},
      {":libpprofagent.so", NULL},
      {"libpprofagent.so:", NULL},
      {" :libpprofagent.so: ", NULL},
      {"/a.so:/other/libpprofagent.so", "/a.so"},
      {"/opt/lib/libpprofagent.so:/a.so", "/a.so"},
      {"/a.so:/opt/lib/libpprofagent.so:/b.so", "/a.so:/b.so"},
      {"/a.so /opt/lib/libpprofagent.so:/b.so", "/a.so /b.so"},
      {"/a.so:/opt/lib/libpprofagent.so /b.so", "/a.so:/b.so"},
      {"/a.so::libpprofagent.so", "/a.so:"},
      {"/a.so:libpprofagent.so:", "/a.so:"},
      {"libpprofagent.so:libpprofagent.so /a.so libpprofagent.so", "/a.so"},
      {"libpprofagent.so libpprofagent.so", NULL},
      {"$ORIGIN/libpprofagent.so:/a.so", "/a.so"},
      {"./libpprofagent.so", NULL},
      {"/x/libpprofagent.so.1:/x/mylibpprofagent.so:/libpprofagent.so/a.so",
       "/x/libpprofagent.so.1:/x/mylibpprofagent.so:/libpprofagent.so/a.so"},
      {"", ""},
      {" : ", " : "},
      {"/a.so: :/b.so ", "/a.so: :/b.so "},
      {"/a.so", "/a.so"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_value(cases[i][0], cases[i][1]);
  check_several_variables();
  char *nothing[] = {NULL};
  preload_variable_remove(nothing, "libpprofagent.so");
  char text[] = "LD_PRELOAD=:/a.so", *one[] = {text, NULL};
  preload_variable_remove(one, ""); /* the own path is not known: nothing is touched */
  CHECK(one[0] == text && strcmp(text, "LD_PRELOAD=:/a.so") == 0);
  return failures != 0;
}
