// SPDX-License-Identifier: Apache-2.0
// fl-echo: a server that says who it is and who called, two clients that say who answered, and a flood.
#include <csignal>
#include <string>

#include "test/tools/echo/net.h"

namespace fairlead::echo {
int serve(const Flags& flags);
int get(const Flags& flags);
int load(const Flags& flags);
int flood(const Flags& flags);
}  // namespace fairlead::echo

int main(int argc, char** argv) {
  using namespace fairlead::echo;
  std::signal(SIGPIPE, SIG_IGN);
  const std::string command = argc > 1 ? argv[1] : "";
  const auto flags = [&](const std::vector<std::string>& known) { return Flags(argc - 2, argv + 2, known); };
  if (command == "serve") return serve(flags({"http", "tcp", "udp", "name", "unready-file", "drain"}));
  if (command == "get") return get(flags({"timeout", "show"}));
  if (command == "load") {
    return load(flags({"url", "rate", "keepalive", "keepalive-rate", "duration", "until-file", "timeout"}));
  }
  if (command == "flood") return flood(flags({"listen", "duration"}));
  usage("unknown command '" + command + "'");
}
