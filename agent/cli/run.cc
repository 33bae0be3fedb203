// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/run.h"

#include <CLI/CLI.hpp>
#include <map>
#include <ostream>

#include "agent/base/version.h"
#include "agent/cli/commands.h"
#include "agent/cli/render_policy.h"

namespace fairlead::cli {
namespace {

constexpr auto kDeadline = std::chrono::seconds(15);  // longer than the agent takes to say that a module is silent

enum class Output { kTable, kJson, kYaml };

struct Options {
  std::string run_dir = "/run/fairlead";
  std::string output = "table";
  std::string ns;
  std::string name;
  std::map<std::string, std::string> filter;  // by the name of the flag, which is the argument's
  std::uint64_t count = 0;                    // of a stream's items; 0: without end
  const Command* command = nullptr;

  std::string socket() const { return run_dir + "/agent.sock"; }
  Output format() const { return output == "json" ? Output::kJson : output == "yaml" ? Output::kYaml : Output::kTable; }
};

struct FilterFlag {
  const char* name;
  const char* value;
  const char* help;
};
constexpr FilterFlag kEnds[] = {
    {"from", "POD|IP", "Where the connection comes from: NAMESPACE/NAME of a pod, or an address."},
    {"to", "POD|IP", "Where it goes to."},
    {"port", "N/PROTOCOL", "The port there, such as 80/TCP."},
};
constexpr FilterFlag kFilters[] = {
    {"family", "4|6", "Only IPv4, or only IPv6."},
    {"protocol", "NAME", "Only this protocol: TCP, UDP, SCTP, ICMP, ICMPv6 or a number."},
    {"address", "IP|CIDR", "Only with an end in there."},
    {"port", "PORT", "Only with an end at this port."},
    {"pod", "NAMESPACE/NAME", "Only of this pod of the node."},
    {"service", "NAMESPACE/NAME", "Only to this Service."},
    {"state", "STATE", "Connections in this state, as the list shows it."},
    {"reason", "REASON", "Drops for this reason, as monitor shows it."},
    {"kind", "drop|flow", "monitor: only drops, or only new connections."},
};

std::string synopsis(const Command& command) {
  std::string text = command.group.empty() ? command.verb : command.group + " " + command.verb;
  if (command.takes == Takes::kObject) text += " [NAMESPACE/]NAME";
  if (command.takes == Takes::kName) text += " NAME";
  if (command.takes == Takes::kEnds) text += " --from … --to … --port …";
  return text;
}

std::string help_text() {
  std::string out =
      "fairleadctl asks the Fairlead agent of this node what it knows.\n\n"
      "Usage: fairleadctl [FLAGS] COMMAND\n\nCommands:\n";
  for (const Command& command : commands()) {
    out += fmt::format("  {:<32}{}\n", synopsis(command), command.help);
  }
  const auto flag = [&](const char* term, const char* help) { out += fmt::format("  {:<32}{}\n", term, help); };
  out += "\nFilters, of conntrack and monitor; all that are given must hold:\n";
  for (const FilterFlag& each : kFilters) flag(fmt::format("--{} {}", each.name, each.value).c_str(), each.help);
  flag("--count N", "monitor: end after so many.");
  out += "\nEnds, of policy trace; all are needed:\n";
  for (const FilterFlag& each : kEnds) flag(fmt::format("--{} {}", each.name, each.value).c_str(), each.help);
  out += "\nFlags:\n";
  flag("--run-dir DIR", "The agent's run folder, where its socket is. Default: /run/fairlead.");
  flag("-o, --output FORMAT", "table, json or yaml. Default: table.");
  flag("-n, --namespace NAME", "Only this namespace. Default: lists show all, get takes \"default\".");
  flag("-h, --help", "Print this help, and exit.");
  return out + "\nExit codes: 0 success, 1 the agent is away, refuses or is not ready, 2 wrong usage.\n";
}

// Declares the command below its group, which is made at its first.
void declare(CLI::App& app, std::map<std::string, CLI::App*>& groups, const Command& command, Options& options) {
  CLI::App* parent = &app;
  if (!command.group.empty()) {
    CLI::App*& group = groups[command.group];
    if (group == nullptr) group = app.add_subcommand(command.group)->require_subcommand(1)->fallthrough();
    parent = group;
  }
  CLI::App* verb = parent->add_subcommand(command.verb)->fallthrough();
  if (command.takes == Takes::kObject || command.takes == Takes::kName) {
    verb->add_option("NAME", options.name)->required();
  }
  if (command.takes == Takes::kFilter) {
    for (const FilterFlag& each : kFilters) verb->add_option(fmt::format("--{}", each.name), options.filter[each.name]);
    if (command.answer == Answer::kStream) verb->add_option("--count", options.count);
  }
  if (command.takes == Takes::kEnds) {
    for (const FilterFlag& each : kEnds) {
      verb->add_option(fmt::format("--{}", each.name), options.filter[each.name])->required();
    }
  }
  verb->callback([&options, &command] { options.command = &command; });
}

Json arguments(const Options& options) {
  Json args = Json::object();
  const Takes takes = options.command->takes;
  if (takes == Takes::kName) args["name"] = options.name;
  if (takes == Takes::kFilter || takes == Takes::kEnds) {
    for (const auto& [name, value] : options.filter) {
      if (!value.empty()) args[name] = value;
    }
  }
  if (takes == Takes::kNamespace && !options.ns.empty()) args["namespace"] = options.ns;
  if (takes == Takes::kObject) {
    const std::size_t slash = options.name.find('/');
    const bool qualified = slash != std::string::npos;
    args["namespace"] = qualified ? options.name.substr(0, slash) : options.ns.empty() ? "default" : options.ns;
    args["name"] = qualified ? options.name.substr(slash + 1) : options.name;
  }
  return args;
}

std::string render(const Options& options, const Json& answer) {
  if (options.format() == Output::kJson) {
    return answer.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  if (options.format() == Output::kYaml) return render_yaml(answer);
  if (options.command->op == "status") return render_status(answer);
  if (options.command->op == "service.get") return render_service(answer);
  if (options.command->op == "policy.get") return render_policy(answer);
  if (options.command->op == "policy.trace") return render_trace(answer);
  if (!options.command->columns.empty()) return render_table(answer, options.command->columns);
  return render_yaml(answer);
}

// Its own version needs no agent.
int show_version(const Options& options, const Result<Json>& answer, std::ostream& out) {
  Json versions{{"fairleadctl", version()}};
  if (answer) versions["fairlead-agent"] = at(*answer, "version");
  out << render(options, versions);
  return answer ? 0 : 1;
}

void explain(const Options& options, const Error& error, std::ostream& err) {
  err << "fairleadctl: " << error.message() << "\n";
  if (error.code != Code::kUnavailable) return;
  err << fmt::format(
      "Is the agent running? Start it with \"fairlead-agent --run-dir {} …\", or say with --run-dir where its socket "
      "is.\n",
      options.run_dir);
}

// All pages as one list.
Result<Json> ask_pages(const Options& options, Json args) {
  Json all = Json::array();
  while (true) {
    FL_LET(const Json page, local_call(options.socket(), options.command->op, args, kDeadline));
    for (const Json& item : at(page, "items")) all.push_back(item);
    if (at(page, "next").is_null()) return all;
    args["cursor"] = at(page, "next");
  }
}

std::string render_item(const Options& options, const Json& item) {
  if (options.format() == Output::kJson) return item.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  if (options.format() == Output::kYaml) return "---\n" + render_yaml(item);
  return at(item, "kind") == "flow" ? render_flow(item) : render_drop(item);
}

int follow(const Options& options, std::ostream& out, std::ostream& err) {
  Json args = arguments(options);
  std::uint64_t shown = 0;
  while (true) {
    const Result<Json> answer = local_call(options.socket(), options.command->op, args, kDeadline);
    if (!answer) {
      explain(options, answer.error(), err);
      return 1;
    }
    if (at(*answer, "lost") != 0) err << "fairleadctl: " << cell_text(at(*answer, "lost")) << " missed\n";
    for (const Json& item : at(*answer, "items")) {
      out << render_item(options, item) << std::flush;
      if (++shown == options.count) return 0;
    }
    args["after"] = at(*answer, "next");
  }
}

int execute(const Options& options, std::ostream& out, std::ostream& err) {
  const Command& command = *options.command;
  if (command.answer == Answer::kStream) return follow(options, out, err);
  const Result<Json> answer = command.answer == Answer::kPages
                                  ? ask_pages(options, arguments(options))
                                  : local_call(options.socket(), command.op, arguments(options), kDeadline);
  if (!answer) explain(options, answer.error(), err);
  if (command.op == "version") return show_version(options, answer, out);
  if (!answer) return 1;
  out << render(options, *answer);
  return command.op == "status" && at(*answer, "ready") != true ? 1 : 0;
}

}  // namespace

int run(int argc, const char* const* argv, std::ostream& out, std::ostream& err) {
  Options options;
  CLI::App app;
  app.formatter_fn([](const CLI::App*, const std::string&, CLI::AppFormatMode) { return help_text(); });
  app.require_subcommand(1);
  app.add_option("--run-dir", options.run_dir);
  app.add_option("-o,--output", options.output)->check(CLI::IsMember({"table", "json", "yaml"}));
  app.add_option("-n,--namespace", options.ns);
  std::map<std::string, CLI::App*> groups;
  for (const Command& command : commands()) declare(app, groups, command, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success&) {
    out << help_text();
    return 0;
  } catch (const CLI::ParseError& error) {
    err << "fairleadctl: " << error.what() << "\nSee fairleadctl --help.\n";
    return 2;
  }
  return execute(options, out, err);
}

}  // namespace fairlead::cli
