// SPDX-License-Identifier: Apache-2.0
// Short ways to write rows down in the tests of this folder.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/model/rows.h"

namespace fairlead::services {

inline IpAddress ip(std::string_view text) {
  return IpAddress::parse(text).value();
}

template <class Row>
std::shared_ptr<const Row> shared(Row row) {
  return std::make_shared<const Row>(std::move(row));
}

// "default/NAME" at 10.96.0.10, port 80 → 8080.
inline model::Service service(const std::string& name, std::vector<std::string> addresses = {"10.96.0.10"}) {
  model::Service row;
  row.id = {"default", name, name + "-uid"};
  for (const auto& address : addresses) row.cluster_ips.push_back(ip(address));
  row.ports = {{"", 80, Protocol::kTcp, std::uint16_t{8080}, 0}};
  row.selector = {{"app", name}};
  return row;
}

inline model::Endpoint endpoint(std::string_view address, std::string uid = "", bool ready = true, bool serving = true,
                                bool terminating = false) {
  return {ip(address), ready, serving, terminating, "node-1", "", std::move(uid)};
}

// A slice of "default/SERVICE" with the one port 8080/TCP.
inline model::EndpointSlice slice(const std::string& service, const std::string& name,
                                  std::vector<model::Endpoint> endpoints, Family family = Family::kV4) {
  return {{"default", name, ""}, service, family, {{"", 8080, Protocol::kTcp}}, std::move(endpoints)};
}

// A ready pod "default/UID" that `service(app)` selects.
inline model::LocalPod pod(const std::string& uid, const std::string& app, std::vector<std::string> addresses) {
  model::LocalPod row;
  row.id = {"default", uid, uid};
  row.labels = {{"app", app}};
  for (const auto& address : addresses) row.ips.push_back(ip(address));
  row.ready = row.serving = true;
  return row;
}

}  // namespace fairlead::services
