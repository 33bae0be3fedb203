// SPDX-License-Identifier: Apache-2.0
#include "bench/pods/watched_pods.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "test/kit/process.h"

namespace fairlead::bench {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::json;

constexpr auto kPatience = 180s;
constexpr std::size_t kAtOnce = 100;
constexpr auto kPods = "/api/v1/namespaces/default/pods";

kube::HttpRequest json_request(const std::string& method, const std::string& path, const Json& body) {
  kube::HttpRequest request;
  request.method = method;
  request.path = path;
  request.headers = {"Content-Type: application/json", "Accept: application/json"};
  if (!body.is_null()) request.body = body.dump();
  return request;
}

bool is_ready(const Json& status) {
  const Json conditions = status.value("conditions", Json::array());
  return std::ranges::any_of(conditions,
                             [](const Json& each) { return each["type"] == "Ready" && each["status"] == "True"; });
}

}  // namespace

Result<std::unique_ptr<WatchedPods>> WatchedPods::open(const std::filesystem::path& kubeconfig, const std::string& node,
                                                       const std::string& image, const std::vector<std::string>& args) {
  std::unique_ptr<WatchedPods> pods(new WatchedPods);
  pods->node_ = node;
  pods->image_ = image;
  pods->args_ = args;
  FL_LET(pods->api_, ApiClient::open(kubeconfig));
  pods->api_->watch(fmt::format("{}?watch=1", kPods),
                    [self = pods.get()](const std::string& line, Moment at) { self->note(line, at); });
  return pods;
}

void WatchedPods::note(const std::string& line, Moment at) {
  const Json event = Json::parse(line, nullptr, false);
  if (!event.is_object() || !event["object"].contains("metadata")) return;
  const Json& object = event["object"];
  Seen& seen = seen_[object["metadata"].value("name", "")];
  const Json status = object.value("status", Json::object());
  if (seen.bound == Moment() && object["spec"].contains("nodeName")) seen.bound = at;
  if (seen.running == Moment() && status.value("phase", "") == "Running") seen.running = at;
  seen.ready = is_ready(status);
}

Result<> WatchedPods::wait(const std::string& what, const std::function<bool(const Seen&)>& until) {
  std::string missing;
  const bool done = testkit::eventually(
      [&] {
        api_->on_thread([&] {
          const auto found =
              std::ranges::find_if(running_, [&](const std::string& name) { return !until(seen_[name]); });
          missing = found == running_.end() ? "" : *found;
        });
        return missing.empty();
      },
      kPatience);
  if (!done) return fail(Code::kTimeout, "pod {} is not {}", missing, what);
  return {};
}

WatchedPods::Names WatchedPods::new_names(int count) {
  ++rounds_;
  Names names;
  for (int i = 0; i < count; ++i) names.push_back(fmt::format("{}-{}-{}", node_, rounds_, i));
  return names;
}

Result<> WatchedPods::create(const Names& names) {
  return api_->send_all(names.size(), kAtOnce, [&](std::size_t i) {
    const Json probe{{"tcpSocket", {{"port", 8080}}}, {"periodSeconds", 1}};
    return json_request("POST", kPods,
                        {{"apiVersion", "v1"},
                         {"kind", "Pod"},
                         {"metadata", {{"name", names[i]}}},
                         {"spec",
                          {{"terminationGracePeriodSeconds", 1},
                           {"automountServiceAccountToken", false},
                           {"containers",
                            {{{"name", "main"},
                              {"image", image_},
                              {"imagePullPolicy", "IfNotPresent"},
                              {"args", args_},
                              {"readinessProbe", probe}}}}}}});
  });
}

Result<> WatchedPods::bind(const Names& names) {
  return api_->send_all(names.size(), kAtOnce, [&](std::size_t i) {
    return json_request("POST", fmt::format("{}/{}/binding", kPods, names[i]),
                        {{"apiVersion", "v1"},
                         {"kind", "Binding"},
                         {"metadata", {{"name", names[i]}}},
                         {"target", {{"apiVersion", "v1"}, {"kind", "Node"}, {"name", node_}}}});
  });
}

Result<std::vector<WatchedPods::Identity>> WatchedPods::ended(int count) {
  const Names names = new_names(count);
  ended_.insert(ended_.end(), names.begin(), names.end());
  FL_TRY(create(names));
  FL_TRY(api_->send_all(names.size(), kAtOnce, [&](std::size_t i) {
    kube::HttpRequest request =
        json_request("PATCH", fmt::format("{}/{}/status", kPods, names[i]), {{"status", {{"phase", "Succeeded"}}}});
    request.headers.front() = "Content-Type: application/merge-patch+json";
    return request;
  }));
  FL_TRY(bind(names));
  std::vector<Identity> identities;
  for (const std::string& name : names) {
    FL_LET(const auto answer, api_->send(json_request("GET", fmt::format("{}/{}", kPods, name), {})));
    identities.push_back({name, Json::parse(answer.body)["metadata"]["uid"]});
  }
  return identities;
}

Result<double> WatchedPods::run(int count) {
  const Names names = new_names(count);
  running_.insert(running_.end(), names.begin(), names.end());
  FL_TRY(create(names));
  FL_TRY(bind(names));
  FL_TRY(wait("Running", [](const Seen& seen) { return seen.running != Moment(); }));
  Moment begin = Moment::max(), end = Moment::min();
  api_->on_thread([&] {
    for (const std::string& name : names) {
      begin = std::min(begin, seen_[name].bound);
      end = std::max(end, seen_[name].running);
    }
  });
  return ms_between(begin, end);
}

Result<> WatchedPods::wait_ready() {
  return wait("Ready", [](const Seen& seen) { return seen.ready; });
}

Result<> WatchedPods::remove() {
  Names all = std::exchange(running_, {});
  all.insert(all.end(), ended_.begin(), ended_.end());
  ended_.clear();
  FL_TRY(api_->send_all(all.size(), kAtOnce, [&](std::size_t i) {
    kube::HttpRequest request;
    request.method = "DELETE";
    request.path = fmt::format("{}/{}", kPods, all[i]);
    return request;
  }));
  // Asked, not watched: a watch that is begun anew tells of nothing that went meanwhile.
  const bool gone = testkit::eventually(
      [&] {
        kube::HttpRequest request;
        request.path = kPods;
        const auto answer = api_->send(request);
        return answer && Json::parse(answer->body, nullptr, false).value("items", Json(0)) == Json::array();
      },
      kPatience);
  if (!gone) return fail(Code::kTimeout, "pods of {} do not go", node_);
  return {};
}

}  // namespace fairlead::bench
