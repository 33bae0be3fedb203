// SPDX-License-Identifier: Apache-2.0
#include "cni-plugin/cni_result.h"

#include <spdlog/fmt/fmt.h>

#include <array>
#include <string_view>

namespace fairlead::cni {
namespace {

// Lists of a result, in 1.1 form, and what their elements may not say in earlier versions.
constexpr std::array kOfInterfaces{"mtu", "socketPath", "pciID"};
constexpr std::array kOfRoutes{"mtu", "advmss", "priority", "table", "scope"};

std::unexpected<CniError> bad_previous(std::string_view field, std::string_view want) {
  return std::unexpected(CniError{CniCode::kDecode, fmt::format("prevResult, {}: want {}", field, want)});
}

// `list` of the chain's result so far: a list of objects, or nothing.
std::expected<Json, CniError> list_of(const Json& previous, const char* list) {
  if (!previous.is_object()) return Json::array();
  const auto at = previous.find(list);
  if (at == previous.end() || at->is_null()) return Json::array();
  if (!at->is_array()) return bad_previous(list, "a list");
  for (const Json& element : *at) {
    if (!element.is_object()) return bad_previous(list, "objects");
  }
  return *at;
}

template <std::size_t size>
void strip(Json& list, const std::array<const char*, size>& names) {
  for (Json& element : list) {
    for (const char* name : names) element.erase(name);
  }
}

// Until 0.4.0 an address says its family.
void name_family(Json& ips, bool named) {
  for (Json& ip : ips) {
    ip.erase("version");
    const auto address = ip.find("address");
    if (!named || address == ip.end() || !address->is_string()) continue;
    ip["version"] = address->get<std::string>().contains(':') ? "6" : "4";
  }
}

}  // namespace

std::expected<Json, CniError> add_result(const CniRequest& request, const Json& ours) {
  Json result = request.previous.is_object() ? request.previous : Json::object();
  FL_LET(Json interfaces, list_of(request.previous, "interfaces"));
  FL_LET(Json ips, list_of(request.previous, "ips"));
  FL_LET(Json routes, list_of(request.previous, "routes"));
  const std::size_t before = interfaces.size();
  for (const Json& interface : ours.value("interfaces", Json::array())) interfaces.push_back(interface);
  for (Json ip : ours.value("ips", Json::array())) {
    ip["interface"] = ip.value("interface", std::size_t{0}) + before;
    ips.push_back(std::move(ip));
  }
  for (const Json& route : ours.value("routes", Json::array())) routes.push_back(route);
  if (request.cni_version < kVersions.back()) {
    strip(interfaces, kOfInterfaces);
    strip(routes, kOfRoutes);
  }
  name_family(ips, request.cni_version.starts_with("0."));
  result["cniVersion"] = request.cni_version;
  result["interfaces"] = std::move(interfaces);
  result["ips"] = std::move(ips);
  result["routes"] = std::move(routes);
  if (!request.dns.is_null()) result["dns"] = request.dns;
  if (!result.contains("dns")) result["dns"] = Json::object();
  return result;
}

std::expected<void, CniError> status_result(const Json& answer) {
  const Json problems = answer.is_object() ? answer.value("problems", Json::array()) : Json::array();
  if (problems.empty()) return {};
  std::string text;
  for (const Json& problem : problems) {
    if (problem.is_string()) text += (text.empty() ? "" : "; ") + problem.get<std::string>();
  }
  const bool cut_off = answer.value("limitedConnectivity", Json(false)) == true;
  return std::unexpected(CniError{cut_off ? CniCode::kLimitedConnectivity : CniCode::kNotAvailable, text});
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
      out.code = command == "STATUS" ? CniCode::kNotAvailable : CniCode::kTryAgain;
      break;
    case Code::kNotFound:
      out.code = command == "CHECK" ? CniCode::kUnknownContainer : CniCode::kInvalidEnvironment;
      break;
    case Code::kInvalid:
    case Code::kExists:
      // What is asked for one attachment is part of the configuration; all else came by the environment.
      out.code = out.message.contains("runtimeConfig") ? CniCode::kInvalidConfig : CniCode::kInvalidEnvironment;
      break;
    default:
      break;
  }
  return out;
}

Json error_result(const std::string& cni_version, const CniError& error) {
  Json json{{"cniVersion", cni_version.empty() ? std::string(kVersions.back()) : cni_version},
            {"code", static_cast<int>(error.code)},
            {"msg", error.message}};
  if (!error.details.empty()) json["details"] = error.details;
  return json;
}

}  // namespace fairlead::cni
