/* Who has the sampler sample: clients that wait for their profile, and recordings. */
#include "cpu_recording.h"

#include "agent/profiles/profile_builder.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/agent_thread.h"
#include "cpu_client.h"

#define SECOND INT64_C(1000000000)

struct cpu_recording {
  struct client client;
};

static struct profile *build(const struct client *client) {
  struct profile_builder *builder = profile_builder_open("profile", 2);
  if (!builder) return NULL;
  struct profile *profile = profile_builder_profile(builder);
  profile->value_types[0] = (struct profile_value_type){"samples", "count"};
  profile->value_types[1] = profile->period_type =
      (struct profile_value_type){"cpu", "nanoseconds"};
  profile->period = (int64_t)client->period;
  profile->time_nanos = client->start_wall;
  profile->duration_nanos = client->end - client->start;
  cpu_sample_table_build(&client->samples, builder); /* when it fails, finish gives NULL */
  profile = profile_builder_finish(builder);
  if (!profile ||
      cpu_coverage_describe(&client->coverage, &client->samples, client->period, profile))
    return profile;
  profile_release(profile);
  return NULL;
}

/* ---- a client that waits ---- */

/* False: the client went away. */
static bool collect(struct http_response *response, int64_t deadline) {
  for (int64_t wake = 0; wake < deadline;) {
    int64_t now = agent_monotonic_nanoseconds();
    wake = (wake > now ? wake : now) + CPU_LOOK_NANOSECONDS;
    if (wake > deadline) wake = deadline;
    if (!http_wait(response, wake)) return false;
    cpu_client_look();
  }
  return true;
}

enum cpu_profile_result cpu_profile_collect(struct http_response *response, int64_t seconds,
                                            uint32_t hz, struct profile **out,
                                            const char **reason) {
  *out = NULL;
  *reason = NULL;
  struct client *client = agent_calloc(1, sizeof *client);
  if (!client) return CPU_PROFILE_NO_MEMORY;
  client->hz = hz;
  enum cpu_profile_result result = cpu_client_join(client, reason);
  if (result == CPU_PROFILE_DONE) {
    bool stayed = collect(response, client->start + seconds * SECOND);
    cpu_client_leave(client);
    if (stayed) *out = build(client);
    if (!*out) result = stayed ? CPU_PROFILE_NO_MEMORY : CPU_PROFILE_CANCELED;
  }
  cpu_sample_table_release(&client->samples);
  agent_free(client);
  return result;
}

/* ---- recordings ---- */

struct cpu_recording *cpu_recording_start(uint32_t hz, const char **reason) {
  *reason = "out of memory";
  struct cpu_recording *recording = agent_calloc(1, sizeof *recording);
  if (!recording) return NULL;
  recording->client.hz = hz;
  recording->client.records = true;
  const char *why;
  if (cpu_client_join(&recording->client, &why) == CPU_PROFILE_DONE) return recording;
  if (why) *reason = why;
  cpu_recording_release(recording);
  return NULL;
}

void cpu_recording_stop(struct cpu_recording *recording) { cpu_client_leave(&recording->client); }

struct profile *cpu_recording_build(const struct cpu_recording *recording) {
  return build(&recording->client);
}

void cpu_recording_release(struct cpu_recording *recording) {
  if (recording) cpu_sample_table_release(&recording->client.samples);
  agent_free(recording);
}

int64_t cpu_recording_look(void) { return cpu_client_look() ? CPU_LOOK_NANOSECONDS : SECOND; }
