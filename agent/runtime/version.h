#ifndef AGENT_VERSION_H
#define AGENT_VERSION_H

#ifndef PPROFAGENT_VERSION
#define PPROFAGENT_VERSION "0.2"
#endif

#endif
