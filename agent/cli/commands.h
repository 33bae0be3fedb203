// SPDX-License-Identifier: Apache-2.0
// The table of fairleadctl's commands: what each asks the agent, and the columns in which its answer is shown.
#pragma once

#include <string>
#include <vector>

#include "agent/cli/render.h"

namespace fairlead::cli {

// What a command takes besides the common flags.
enum class Takes {
  kNothing,
  kNamespace,  // an optional --namespace
  kObject,     // NAME with --namespace, or NAMESPACE/NAME
  kName,       // NAME, handed over as it is
  kFilter,     // the filters of connections and drops
  kEnds,       // --from, --to and --port of a connection
};

// How the answer comes.
enum class Answer {
  kWhole,   // at once
  kPages,   // {items, next}: asked again from `next` on until that is null, and shown as one list
  kStream,  // {items, next, lost}: each item shown as it comes, without end
};

struct Command {
  std::string group;  // "service"; empty: the verb stands alone
  std::string verb;   // "list"
  std::string op;     // of the local protocol
  Takes takes = Takes::kNothing;
  std::string help;
  std::vector<Column> columns;  // of a list; empty: the answer is one document, shown as YAML
  Answer answer = Answer::kWhole;
};

const std::vector<Command>& commands();

// One dropped packet, as monitor.next tells it, in a line.
std::string render_drop(const Json& drop);

// One new connection, likewise.
std::string render_flow(const Json& flow);

// What `fairleadctl service get` shows: what the Service asks for, then port by port its backends.
std::string render_service(const Json& service);

// What `fairleadctl status` shows: readiness, components, maps, and what is missing, failing or refused.
std::string render_status(const Json& status);

}  // namespace fairlead::cli
