#include "index_questions.h"

#include <stddef.h>
#include <string.h>

#include "agent/trace/trace_recording.h"
#include "routes.h"

/* Links are relative to /debug/pprof/. What is off has none. */
static const struct question {
  char question[40];
  struct {
    char profile[16], link[40], words[40];
  } answers[2];
} questions[] = {
    {"Memory grows",
     {{"heap", "view/heap#record=30", "what stays of the next 30 s"},
      {"leaks", "view/leaks", "what has kept growing"}}},
    {"Memory is large",
     {{"heap", "view/heap", "what is in use"}, {"peak", "view/peak", "what was at the peak"}}},
    {"It is busy",
     {{"profile", "view/profile#record=10", "CPU time of the next 10 s"},
      {"allocs", "view/allocs#record=10", "what it allocates"}}},
    {"It is slow, and not busy",
     {{"wall", "view/wall#record=10", "the next 10 s, waiting included"},
      {"trace", "trace?seconds=2", "a trace of 2 s"}}},
    {"It hangs",
     {{"goroutine", "view/goroutine#view=threads", "what each thread waits for"},
      {"goroutineleak", "goroutineleak?debug=2", "deadlocks"}}},
    {"Threads wait for locks",
     {{"mutex", "view/mutex", "who held them"}, {"block", "view/block", "who waited"}}},
    {"There are many threads",
     {{"threadcreate", "view/threadcreate", "who created them"},
      {"goroutine", "view/goroutine", "where they are"}}},
};

static bool is_off(const char *profile) {
  size_t count;
  const struct route *routes = routes_all(&count);
  for (size_t i = 0; i < count; i++)
    if (strcmp(routes[i].name, profile) == 0) return route_off_reason(&routes[i]);
  return false;
}

static void write_question(struct text_sink *text, const struct question *question) {
  const char *before = "";
  for (int i = 0; i < 2; i++) {
    if (is_off(question->answers[i].profile)) continue;
    if (!*before) text_sink_format(text, "<li><b>%s</b> <span>", question->question);
    text_sink_format(text, "%s<a href='%s'>%s</a>", before, question->answers[i].link,
                     question->answers[i].words);
    before = " &middot; ";
  }
  if (*before) text_sink_text(text, "</span></li>\n");
}

void index_questions_write(struct text_sink *text) {
  text_sink_text(text, "<h2>What is wrong?</h2>\n<ul class=questions>\n");
  for (size_t i = 0; i < sizeof questions / sizeof *questions; i++)
    write_question(text, &questions[i]);
  if (trace_recording_status().flight.runs)
    text_sink_text(text,
                   "<li><b>It was slow a moment ago</b> <span><a href='trace?last=5s' download>a "
                   "trace of the last 5 s</a></span></li>\n");
  text_sink_text(text, "</ul>\n");
}
