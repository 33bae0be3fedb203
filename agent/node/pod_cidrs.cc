// SPDX-License-Identifier: Apache-2.0
#include "agent/node/pod_cidrs.h"

#include "agent/base/loop.h"
#include "agent/kube/api/http.h"
#include "agent/kube/api/json_api.h"

namespace fairlead::node {
namespace {

Result<std::vector<Cidr>> pod_cidrs_of(const Json& node, const std::string& name) {
  std::vector<Cidr> cidrs;
  for (const Json& text : node.value(Json::json_pointer("/spec/podCIDRs"), Json::array())) {
    FL_LET(const Cidr cidr, Cidr::parse(text.get<std::string>()));
    cidrs.push_back(cidr);
  }
  if (cidrs.empty()) return fail(Code::kNotFound, "Node {}: spec.podCIDRs is empty", name);
  return cidrs;
}

}  // namespace

Result<std::vector<Cidr>> wait_for_pod_cidrs(const kube::ClusterAccess& access, const std::string& name,
                                             const Json& node, Duration patience) {
  Loop loop;
  kube::HttpClient http(loop, access);
  kube::JsonApi api(http);
  Result<std::vector<Cidr>> found = fail(Code::kTimeout, "the API server did not answer in time");
  Subscription retry;
  std::function<void()> ask = [&] {
    api.get("/api/v1/nodes/" + name, [&](Result<Json> answer) {
      if (answer) {
        found = pod_cidrs_of(*answer, name);
        if (found) return loop.stop();
      } else {
        found = std::unexpected(answer.error());
        if (answer.error().code == Code::kNotFound && !node.is_null()) {
          api.create("/api/v1/nodes", node, [&](const Result<Json>& made) {
            if (!made) found = std::unexpected(made.error());
          });
        }
      }
      retry = loop.after(std::chrono::milliseconds(500), ask);
    });
  };
  const Subscription limit = loop.after(patience, [&] { loop.stop(); });
  ask();
  loop.run();
  if (!found) return fail_with(std::move(found).error(), "pod CIDRs of this node (say --pod-cidr to set them)");
  return found;
}

}  // namespace fairlead::node
