#include "trace_stacks.h"

#include "agent/profiles/profile_builder.h"
#include "agent/runtime/agent_memory.h"

/* A profile in which each stack is a sample of its own, by a label with its number. */
static struct profile *profile_of(const struct trace_gather *gather) {
  const struct trace_taken_stack *stacks = gather->stacks.items;
  struct profile_builder *builder = profile_builder_open("trace", 1);
  if (!builder) return NULL;
  for (uint32_t i = 0; i < gather->stacks.count; i++) {
    struct profile_stack stack = {
        .frame_count = stacks[i].frame_count, .epoch = stacks[i].epoch, .frames = stacks[i].frames};
    struct profile_label number = {.key = "stack", .number = i, .unit = "number"};
    double one = 1;
    if (!profile_builder_add(builder, &stack, &number, 1, &one)) break; /* finish gives NULL */
  }
  return profile_builder_finish(builder);
}

static uint32_t frames_of(const struct profile_location *location) {
  uint32_t count = location->symbol ? location->symbol->frame_count : 0;
  return count ? count : 1;
}

static size_t count_frames(const struct profile *profile) {
  size_t count = 0;
  for (size_t i = 0; i < profile->sample_count; i++)
    for (uint32_t k = 0; k < profile->samples[i].location_count; k++)
      count += frames_of(&profile->locations[profile->samples[i].locations[k]]);
  return count;
}

static struct trace_frame *add_location(struct trace_frame *out,
                                        const struct profile_location *location) {
  const struct symbol_location *symbol = location->symbol;
  if (!symbol || symbol->frame_count == 0) {
    const char *name = location->marker ? location->marker : "[unknown]";
    if (!location->marker && location->map && *location->map->path) name = location->map->path;
    *out++ = (struct trace_frame){.pc = location->address, .function = name, .file = ""};
    return out;
  }
  for (uint32_t i = 0; i < symbol->frame_count; i++) {
    const struct symbol_frame *frame = &symbol->frames[i];
    *out++ = (struct trace_frame){.pc = location->address,
                                  .function = frame->function ? frame->function : "[unknown]",
                                  .file = frame->filename ? frame->filename : "",
                                  .line = frame->line};
  }
  return out;
}

static void add_sample(struct trace_stacks *stacks, const struct profile_sample *sample,
                       uint32_t stack_count, struct trace_frame **next) {
  for (uint32_t i = 0; i < sample->label_count; i++) {
    const struct profile_label *label = &sample->labels[i];
    if (label->text || label->unit[0] != 'n' || label->number >= stack_count) continue;
    struct trace_frame *frames = *next;
    for (uint32_t k = 0; k < sample->location_count; k++)
      *next = add_location(*next, &stacks->profile->locations[sample->locations[k]]);
    stacks->items[label->number] = (struct trace_stack){frames, (uint32_t)(*next - frames)};
    return;
  }
}

bool trace_stacks_name(const struct trace_gather *gather, struct trace_stacks *out) {
  *out = (struct trace_stacks){0};
  uint32_t count = gather->stacks.count;
  if (count == 0) return true;
  out->profile = profile_of(gather);
  if (!out->profile) return false;
  out->items = agent_calloc(count, sizeof *out->items);
  out->frames = agent_calloc(count_frames(out->profile) + 1, sizeof *out->frames);
  if (!out->items || !out->frames) return false;
  struct trace_frame *next = out->frames;
  for (size_t i = 0; i < out->profile->sample_count; i++)
    add_sample(out, &out->profile->samples[i], count, &next);
  return true;
}

void trace_stacks_release(struct trace_stacks *stacks) {
  profile_release(stacks->profile);
  agent_free(stacks->items);
  agent_free(stacks->frames);
  *stacks = (struct trace_stacks){0};
}
