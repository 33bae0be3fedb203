// SPDX-License-Identifier: Apache-2.0
#include "cni-plugin/cni_request.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <map>
#include <string_view>

namespace fairlead::cni {
namespace {

constexpr std::string_view kVersions[] = {"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};

template <class... Args>
std::unexpected<CniError> refuse(CniCode code, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(CniError{code, fmt::format(format, std::forward<Args>(args)...), {}});
}

// CNI_ARGS: "KEY=VALUE;KEY=VALUE". What we do not know is left alone (IgnoreUnknown is how runtimes ask for it anyway).
std::map<std::string, std::string> parse_args(std::string_view text) {
  std::map<std::string, std::string> args;
  while (!text.empty()) {
    const std::string_view pair = text.substr(0, text.find(';'));
    text.remove_prefix(std::min(text.size(), pair.size() + 1));
    const std::size_t equals = pair.find('=');
    if (equals != std::string_view::npos) args[std::string(pair.substr(0, equals))] = pair.substr(equals + 1);
  }
  return args;
}

struct Configuration {
  std::string version;
  bool loopback = false;
  std::string run_dir;  // not for loopback
};

std::expected<std::string, CniError> text_of(const Json& json, const char* name) {
  const auto at = json.find(name);
  if (at == json.end() || !at->is_string()) {
    return refuse(CniCode::kInvalidConfig, "network configuration, {}: want a string", name);
  }
  return at->get<std::string>();
}

std::expected<Configuration, CniError> parse_configuration(const std::string& text) {
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return refuse(CniCode::kDecode, "the network configuration is not JSON");
  if (!json.is_object()) return refuse(CniCode::kDecode, "the network configuration is not a JSON object");
  Configuration out;
  FL_LET(out.version, text_of(json, "cniVersion"));
  if (std::ranges::find(kVersions, out.version) == std::end(kVersions)) {
    return refuse(CniCode::kIncompatibleVersion, "CNI version \"{}\" is not supported", out.version);
  }
  out.loopback = json.value("type", Json()) == "loopback";
  if (out.loopback) return out;
  FL_LET(out.run_dir, text_of(json, "runDir"));
  if (!out.run_dir.starts_with('/')) {
    return refuse(CniCode::kInvalidConfig, "network configuration, runDir: \"{}\" is no absolute path", out.run_dir);
  }
  return out;
}

}  // namespace

std::expected<CniRequest, CniError> parse_request(const Environment& environment, const std::string& configuration) {
  CniRequest request;
  request.command = environment("CNI_COMMAND");
  if (request.command == "VERSION") {
    const Json json = Json::parse(configuration, nullptr, false);
    request.cni_version = *std::prev(std::end(kVersions));
    if (json.is_object() && json.contains("cniVersion") && json["cniVersion"].is_string()) {
      request.cni_version = json["cniVersion"].get<std::string>();
    }
    return request;
  }
  const std::map<std::string, std::string> ops{{"ADD", "cni.add"}, {"DEL", "cni.del"}, {"CHECK", "cni.check"}};
  const auto op = ops.find(request.command);
  if (op == ops.end()) {
    return refuse(CniCode::kInvalidEnvironment, "CNI_COMMAND: \"{}\" is not supported", request.command);
  }
  const std::string container = environment("CNI_CONTAINERID");
  const std::string ifname = environment("CNI_IFNAME");
  const std::string netns = environment("CNI_NETNS");
  if (container.empty()) return refuse(CniCode::kInvalidEnvironment, "CNI_CONTAINERID is not set");
  if (ifname.empty()) return refuse(CniCode::kInvalidEnvironment, "CNI_IFNAME is not set");
  if (netns.empty() && request.command != "DEL") return refuse(CniCode::kInvalidEnvironment, "CNI_NETNS is not set");
  auto parsed = parse_configuration(configuration);
  if (!parsed) return std::unexpected(std::move(parsed).error());
  request.cni_version = parsed->version;
  request.netns = netns;
  request.loopback = parsed->loopback;
  if (request.loopback) return request;
  auto args = parse_args(environment("CNI_ARGS"));
  request.socket = parsed->run_dir + "/agent.sock";
  request.op = op->second;
  request.args = {{"container", container},
                  {"ifname", ifname},
                  {"netns", netns},
                  {"podNamespace", args["K8S_POD_NAMESPACE"]},
                  {"podName", args["K8S_POD_NAME"]},
                  {"podUid", args["K8S_POD_UID"]},
                  {"cniVersion", parsed->version}};
  return request;
}

Json version_result(const std::string& cni_version) {
  Json supported = Json::array();
  for (const std::string_view version : kVersions) supported.push_back(version);
  return {{"cniVersion", cni_version}, {"supportedVersions", supported}};
}

CniError from_agent(const std::string& command, const Error& error) {
  CniError out{CniCode::kInternal, error.message(), fmt::format("the agent's error is \"{}\"", to_string(error.code))};
  switch (error.code) {
    case Code::kUnavailable:
    case Code::kTimeout:
    case Code::kCancelled:
    case Code::kExhausted:  // addresses rest, pods end
      out.code = CniCode::kTryAgain;
      break;
    case Code::kNotFound:
      out.code = command == "CHECK" ? CniCode::kUnknownContainer : CniCode::kInvalidEnvironment;
      break;
    case Code::kInvalid:
      out.code = CniCode::kInvalidEnvironment;
      break;
    default:
      break;
  }
  return out;
}

Json error_result(const std::string& cni_version, const CniError& error) {
  Json json{{"cniVersion", cni_version.empty() ? std::string(*std::prev(std::end(kVersions))) : cni_version},
            {"code", static_cast<int>(error.code)},
            {"msg", error.message}};
  if (!error.details.empty()) json["details"] = error.details;
  return json;
}

}  // namespace fairlead::cni
