// SPDX-License-Identifier: Apache-2.0
// What a container runtime asks of a CNI plugin (CNI spec 1.1, sections 2 and 3): pure functions from the environment
// and standard input to the agent's request.
#pragma once

#include <expected>
#include <functional>
#include <string>

#include "cni-plugin/cni_error.h"

namespace fairlead::cni {

// The value of an environment variable; empty where it is not set.
using Environment = std::function<std::string(const char* name)>;

struct CniRequest {
  std::string command;      // ADD, DEL, CHECK, STATUS, GC or VERSION
  std::string cni_version;  // as the configuration says
  std::string run_dir;      // the agent's
  std::string op;           // of the local protocol; empty where no agent is needed: VERSION, and as loopback
  Json args;
  bool loopback = false;  // asked as the plugin of that name (loopback.h)
  std::string container;
  std::string ifname;
  std::string netns;
  Json previous;  // prevResult: the result so far of a chain; null where there is none
  Json dns;       // the configuration's, for the result; null where it has none

  std::string socket() const { return run_dir + "/agent.sock"; }
};

// Of CNI_ARGS and of what the configuration asks for a single attachment, DEL needs nothing and refuses nothing: it is
// carried out as far as can be.
std::expected<CniRequest, CniError> parse_request(const Environment& environment, const std::string& configuration);

}  // namespace fairlead::cni
