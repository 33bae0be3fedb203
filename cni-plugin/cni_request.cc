// SPDX-License-Identifier: Apache-2.0
#include "cni-plugin/cni_request.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <string_view>

#include "agent/base/cni_spool.h"

namespace fairlead::cni {
namespace {

template <class... Args>
std::unexpected<CniError> refuse(CniCode code, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(CniError{code, fmt::format(format, std::forward<Args>(args)...)});
}

// What the agent is asked for a command, and since which version of the protocol there is one.
struct Operation {
  const char* op;
  std::string_view since;
};
const std::map<std::string, Operation> kOperations{{"ADD", {"cni.add", "0.3.0"}},
                                                   {"DEL", {"cni.del", "0.3.0"}},
                                                   {"CHECK", {"cni.check", "0.4.0"}},
                                                   {"STATUS", {"cni.status", "1.1.0"}},
                                                   {"GC", {"cni.gc", "1.1.0"}}};

bool about_an_attachment(const std::string& command) {
  return command == "ADD" || command == "DEL" || command == "CHECK";
}

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

using Args = std::map<std::string, std::string>;

// CNI_ARGS: "KEY=VALUE;KEY=VALUE". A key that we do not know is refused, unless IgnoreUnknown says otherwise.
std::expected<Args, CniError> parse_args(const std::string& variable) {
  Args args;
  std::string_view text = variable;
  while (!text.empty()) {
    const std::string_view pair = text.substr(0, text.find(';'));
    text.remove_prefix(std::min(text.size(), pair.size() + 1));
    if (pair.empty()) continue;
    const std::size_t equals = pair.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      return refuse(CniCode::kInvalidEnvironment, "CNI_ARGS: \"{}\" is no KEY=VALUE", pair);
    }
    args[std::string(pair.substr(0, equals))] = pair.substr(equals + 1);
  }
  const std::string lenient = lower(args["IgnoreUnknown"]);
  if (lenient == "1" || lenient == "true") return args;
  for (const auto& [key, value] : args) {
    constexpr std::string_view kKnown[] = {
        "IgnoreUnknown", "IP", "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_NAME", "K8S_POD_NAMESPACE", "K8S_POD_UID", "MAC"};
    if (std::ranges::find(kKnown, key) == std::end(kKnown)) {
      return refuse(CniCode::kInvalidEnvironment, "CNI_ARGS: \"{}\" is not known, and IgnoreUnknown is not set", key);
    }
  }
  return args;
}

// A member of an object; null where there is none, or no object.
Json member(const Json& json, const char* name) {
  if (!json.is_object()) return {};
  const auto at = json.find(name);
  return at == json.end() ? Json() : *at;
}

std::expected<std::string, CniError> text_of(const Json& json, const char* name) {
  const Json value = member(json, name);
  if (!value.is_string()) return refuse(CniCode::kInvalidConfig, "network configuration, {}: want a string", name);
  return value.get<std::string>();
}

// Null or of the type that is wanted.
std::expected<Json, CniError> object_of(const Json& json, const char* name) {
  Json value = member(json, name);
  if (value.is_null() || value.is_object()) return value;
  return refuse(CniCode::kInvalidConfig, "network configuration, {}: want an object", name);
}

bool is_network_name(const std::string& text) {
  return !text.empty() && std::isalnum(static_cast<unsigned char>(text[0])) != 0 &&
         std::ranges::all_of(text,
                             [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '.' || c == '-'; });
}

std::expected<Json, CniError> parse_configuration(const std::string& text, CniRequest& request) {
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return refuse(CniCode::kDecode, "the network configuration is not JSON");
  if (!json.is_object()) return refuse(CniCode::kDecode, "the network configuration is not a JSON object");
  FL_LET(request.cni_version, text_of(json, "cniVersion"));
  if (std::ranges::find(kVersions, request.cni_version) == kVersions.end()) {
    return refuse(CniCode::kIncompatibleVersion, "CNI version \"{}\" is not supported", request.cni_version);
  }
  const Operation& operation = kOperations.at(request.command);
  if (request.cni_version < operation.since) {
    return refuse(CniCode::kIncompatibleVersion, "CNI version \"{}\" has no {}: it came with {}", request.cni_version,
                  request.command, operation.since);
  }
  FL_LET(const std::string name, text_of(json, "name"));
  if (!is_network_name(name)) {
    return refuse(CniCode::kInvalidConfig, "network configuration, name: \"{}\" is no network name", name);
  }
  request.loopback = member(json, "type") == "loopback";
  if (request.loopback) return json;
  FL_LET(request.run_dir, text_of(json, "runDir"));
  if (!request.run_dir.starts_with('/')) {
    return refuse(CniCode::kInvalidConfig, "network configuration, runDir: \"{}\" is no absolute path",
                  request.run_dir);
  }
  return json;
}

std::expected<void, CniError> parse_attachment(const Environment& environment, CniRequest& request) {
  request.container = environment("CNI_CONTAINERID");
  request.ifname = environment("CNI_IFNAME");
  request.netns = environment("CNI_NETNS");
  if (!is_container_id(request.container)) {
    return refuse(CniCode::kInvalidEnvironment, "CNI_CONTAINERID: \"{}\" is no container id", request.container);
  }
  if (!is_interface_name(request.ifname)) {
    return refuse(CniCode::kInvalidEnvironment, "CNI_IFNAME: \"{}\" is no name of an interface", request.ifname);
  }
  if (request.command != "DEL" && !request.netns.starts_with('/')) {
    return refuse(CniCode::kInvalidEnvironment, "CNI_NETNS: \"{}\" is no absolute path", request.netns);
  }
  return {};
}

// What is asked for this attachment alone: capabilities, and by older conventions an address and a MAC.
std::expected<Json, CniError> runtime_config(const Json& configuration, const Args& args) {
  FL_LET(const Json given, object_of(configuration, "runtimeConfig"));
  Json out = Json::object();
  for (const char* capability : {"portMappings", "bandwidth", "ips", "mac"}) {
    if (Json value = member(given, capability); !value.is_null()) out[capability] = std::move(value);
  }
  const Json conventional = member(member(member(configuration, "args"), "cni"), "ips");
  if (!out.contains("ips") && !conventional.is_null()) out["ips"] = conventional;
  if (const auto at = args.find("IP"); !out.contains("ips") && at != args.end()) out["ips"] = Json::array({at->second});
  if (const auto at = args.find("MAC"); !out.contains("mac") && at != args.end()) out["mac"] = at->second;
  return out;
}

std::expected<void, CniError> fill_args(const Environment& environment, const Json& configuration,
                                        CniRequest& request) {
  request.args = {{"network", configuration["name"]}};
  if (request.command == "GC") {
    const Json valid = member(configuration, "cni.dev/valid-attachments");
    if (!valid.is_null() && !valid.is_array()) {
      return refuse(CniCode::kInvalidConfig, "network configuration, cni.dev/valid-attachments: want a list");
    }
    request.args["valid"] = valid.is_null() ? Json::array() : valid;
  }
  if (!about_an_attachment(request.command)) return {};
  request.args["container"] = request.container;
  request.args["ifname"] = request.ifname;
  request.args["netns"] = request.netns;
  if (request.command == "DEL") return {};
  FL_LET(request.previous, object_of(configuration, "prevResult"));
  FL_LET(request.dns, object_of(configuration, "dns"));
  if (request.command == "CHECK") {
    if (request.previous.is_null()) return refuse(CniCode::kInvalidConfig, "CHECK needs prevResult");
    request.args["prevResult"] = request.previous;
    return {};
  }
  FL_LET(const Args args, parse_args(environment("CNI_ARGS")));
  for (const auto& [key, name] :
       {std::pair{"K8S_POD_NAMESPACE", "podNamespace"}, {"K8S_POD_NAME", "podName"}, {"K8S_POD_UID", "podUid"}}) {
    const auto at = args.find(key);
    request.args[name] = at == args.end() ? "" : at->second;
  }
  FL_LET(Json asked, runtime_config(configuration, args));
  if (!asked.empty()) request.args["runtimeConfig"] = std::move(asked);
  return {};
}

}  // namespace

std::expected<CniRequest, CniError> parse_request(const Environment& environment, const std::string& configuration) {
  CniRequest request;
  request.command = environment("CNI_COMMAND");
  if (request.command == "VERSION") {
    const Json version = member(Json::parse(configuration, nullptr, false), "cniVersion");
    request.cni_version = version.is_string() ? version.get<std::string>() : std::string(kVersions.back());
    return request;
  }
  const auto operation = kOperations.find(request.command);
  if (operation == kOperations.end()) {
    return refuse(CniCode::kInvalidEnvironment, "CNI_COMMAND: \"{}\" is not supported", request.command);
  }
  if (about_an_attachment(request.command)) FL_TRY(parse_attachment(environment, request));
  FL_LET(const Json parsed, parse_configuration(configuration, request));
  if (request.loopback) return request;
  request.op = operation->second.op;
  FL_TRY(fill_args(environment, parsed, request));
  return request;
}

}  // namespace fairlead::cni
