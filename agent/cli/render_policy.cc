// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/render_policy.h"

#include <spdlog/fmt/fmt.h>

#include "agent/cli/render.h"

namespace fairlead::cli {
namespace {

std::string line(std::string_view title, const std::string& text) {
  return text.empty() ? "" : fmt::format("{:<14}{}\n", title, text);
}

std::string joined(const Json& values) {
  std::string all;
  for (const Json& each : values) all += (all.empty() ? "" : "; ") + cell_text(each);
  return all;
}

Column field(std::string title, std::string name) {
  return {std::move(title), [name = std::move(name)](const Json& row) { return joined(at(row, name)); }};
}

std::string render_direction(std::string_view title, const char* peers, const Json& side) {
  if (at(side, "isolated") != true) return fmt::format("\n{}: not isolated, all is allowed\n", title);
  std::string out = fmt::format("\n{}: isolated by {} (rule set {})\n", title, joined(at(side, "policies")),
                                cell_text(at(side, "rule_set")));
  if (at(side, "rules").empty()) return out + "Nothing is allowed.\n";
  return out + render_table(at(side, "rules"), {field("POLICY", "policy"), field("RULE", "rule"), field(peers, "peers"),
                                                field("PORTS", "ports")});
}

std::string render_side(std::string_view title, const Json& side) {
  const char* verdict = at(side, "judged") != true    ? "not judged here"
                        : at(side, "allowed") == true ? "allowed"
                                                      : "denied";
  return line(title, fmt::format("{}: {}", verdict, cell_text(at(side, "why"))));
}

}  // namespace

std::string render_policy(const Json& policy) {
  return line("Name:", cell_text(at(policy, "namespace")) + "/" + cell_text(at(policy, "name"))) +
         line("UID:", cell_text(at(policy, "uid"))) + line("Addresses:", cell_text(at(policy, "addresses"))) +
         line("Identities:", cell_text(at(policy, "identities"))) +
         line("In force:", at(policy, "in_force") == true ? "yes" : "no, the rules before these are") +
         line("Host network:", at(policy, "host_network") == true ? "yes: no policy holds for it" : "") +
         render_direction("Ingress", "FROM", at(policy, "ingress")) +
         render_direction("Egress", "TO", at(policy, "egress"));
}

std::string render_trace(const Json& trace) {
  const auto end = [&](const char* name, const char* address) {
    const std::string text = cell_text(at(trace, name));
    const std::string ip = cell_text(at(trace, address));
    return text == ip ? text : fmt::format("{} ({})", text, ip);
  };
  return line("Verdict:", at(trace, "allowed") == true ? "allowed" : "denied") +
         line("From:", end("from", "from_address")) + line("To:", end("to", "to_address")) +
         line("Port:", cell_text(at(trace, "port"))) + render_side("Egress:", at(trace, "egress")) +
         render_side("Ingress:", at(trace, "ingress"));
}

}  // namespace fairlead::cli
