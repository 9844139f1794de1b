/* The index page's list of questions, each with the one click that answers it. Context: HTTP
 * workers; locks: none. */
#ifndef AGENT_INDEX_QUESTIONS_H
#define AGENT_INDEX_QUESTIONS_H

#include "agent/http/text_sink.h"

void index_questions_write(struct text_sink *text);

#endif
