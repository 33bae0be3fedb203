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
  request.body = body.dump();
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
          const auto found = std::ranges::find_if(names_, [&](const std::string& name) { return !until(seen_[name]); });
          missing = found == names_.end() ? "" : *found;
        });
        return missing.empty();
      },
      kPatience);
  if (!done) return fail(Code::kTimeout, "pod {} is not {}", missing, what);
  return {};
}

Result<double> WatchedPods::run(int count) {
  ++rounds_;
  const std::size_t first = names_.size();
  for (int i = 0; i < count; ++i) names_.push_back(fmt::format("{}-{}-{}", node_, rounds_, i));
  const auto name = [&](std::size_t i) { return names_[first + i]; };
  const auto pods = static_cast<std::size_t>(count);
  FL_TRY(api_->send_all(pods, kAtOnce, [&](std::size_t i) {
    const Json probe{{"tcpSocket", {{"port", 8080}}}, {"periodSeconds", 1}};
    return json_request("POST", kPods,
                        {{"apiVersion", "v1"},
                         {"kind", "Pod"},
                         {"metadata", {{"name", name(i)}}},
                         {"spec",
                          {{"terminationGracePeriodSeconds", 1},
                           {"automountServiceAccountToken", false},
                           {"containers",
                            {{{"name", "main"},
                              {"image", image_},
                              {"imagePullPolicy", "IfNotPresent"},
                              {"args", args_},
                              {"readinessProbe", probe}}}}}}});
  }));
  FL_TRY(api_->send_all(pods, kAtOnce, [&](std::size_t i) {
    return json_request("POST", fmt::format("{}/{}/binding", kPods, name(i)),
                        {{"apiVersion", "v1"},
                         {"kind", "Binding"},
                         {"metadata", {{"name", name(i)}}},
                         {"target", {{"apiVersion", "v1"}, {"kind", "Node"}, {"name", node_}}}});
  }));
  FL_TRY(wait("Running", [](const Seen& seen) { return seen.running != Moment(); }));
  Moment begin = Moment::max(), end = Moment::min();
  api_->on_thread([&] {
    for (std::size_t i = 0; i < pods; ++i) {
      begin = std::min(begin, seen_[name(i)].bound);
      end = std::max(end, seen_[name(i)].running);
    }
  });
  return ms_between(begin, end);
}

Result<> WatchedPods::wait_ready() {
  return wait("Ready", [](const Seen& seen) { return seen.ready; });
}

Result<> WatchedPods::remove() {
  FL_TRY(api_->send_all(names_.size(), kAtOnce, [&](std::size_t i) {
    kube::HttpRequest request;
    request.method = "DELETE";
    request.path = fmt::format("{}/{}", kPods, names_[i]);
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
  names_.clear();
  return {};
}

}  // namespace fairlead::bench
