// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/runtime_reader.h"

#include <algorithm>
#include <charconv>

#include "agent/pods/cri_config.h"

namespace fairlead::pods {
namespace {

constexpr Duration kDeadline = std::chrono::seconds(10);

std::string value_of(const auto& map, const char* key) {
  const auto at = map.find(key);
  return at == map.end() ? std::string() : at->second;
}

template <class Known>
const Known* find_id(const std::vector<Known>& list, const std::string& id) {
  const auto at = std::ranges::find(list, id, &Known::id);
  return at == list.end() ? nullptr : &*at;
}

// Whether a container's status calls have told all there is to tell about the state that it is in now.
bool told(const ContainerView& known, const ContainerView& now) {
  if (known.state != now.state) return false;
  if (now.state == RunState::kExited) return known.finished != WallTime{};
  return now.state == RunState::kRunning && known.started != WallTime{};
}

}  // namespace

std::string fingerprint(const PodRuntimeView& view) {
  std::vector<std::string> parts;
  for (const SandboxView& sandbox : view.sandboxes) parts.push_back(sandbox.id + (sandbox.ready ? "+" : "-"));
  for (const ContainerView& container : view.containers) {
    parts.push_back(fmt::format("{}:{}", container.id, static_cast<int>(container.state)));
  }
  std::ranges::sort(parts);
  std::string all;
  for (const std::string& part : parts) all += part + " ";
  return all;
}

// Two lists on their way to one answer.
struct RuntimeReader::Listing {
  std::map<std::string, ListedPod> pods;
  int waiting = 2;
  std::optional<Error> failure;
  cri::Done<std::map<std::string, ListedPod>> done;

  void arrived() {
    if (--waiting != 0) return;
    if (failure) return done(std::unexpected(std::move(*failure)));
    done(std::move(pods));
  }
};

void RuntimeReader::list_labelled(const std::map<std::string, std::string>& labels,
                                  cri::Done<std::map<std::string, ListedPod>> done) {
  auto listing = std::make_shared<Listing>();
  listing->done = std::move(done);
  const auto take = [listing, alive = std::weak_ptr(alive_)](auto& result, auto each) {
    if (alive.expired()) return;
    if (result) {
      each(*result);
    } else {
      listing->failure = std::move(result).error();
    }
    listing->arrived();
  };
  cri::api::ListPodSandboxRequest sandboxes;
  cri::api::ListContainersRequest containers;
  for (const auto& [key, value] : labels) {
    (*sandboxes.mutable_filter()->mutable_label_selector())[key] = value;
    (*containers.mutable_filter()->mutable_label_selector())[key] = value;
  }
  runtime_.call(loop_, sandboxes, kDeadline, [listing, take](Result<cri::api::ListPodSandboxResponse> result) {
    take(result, [&](const cri::api::ListPodSandboxResponse& answer) {
      for (const auto& item : answer.items()) {
        ListedPod& pod = listing->pods[item.metadata().uid()];
        pod.ns = item.metadata().namespace_();
        pod.name = item.metadata().name();
        pod.view.sandboxes.push_back(sandbox_view(item));
      }
    });
  });
  runtime_.call(loop_, containers, kDeadline, [listing, take](Result<cri::api::ListContainersResponse> result) {
    take(result, [&](const cri::api::ListContainersResponse& answer) {
      for (const auto& item : answer.containers()) {
        ListedPod& pod = listing->pods[value_of(item.labels(), kPodUidLabel)];
        pod.ns = value_of(item.labels(), kPodNamespaceLabel);
        pod.name = value_of(item.labels(), kPodNameLabel);
        const std::string grace = value_of(item.annotations(), kPodGraceAnnotation);
        std::from_chars(grace.data(), grace.data() + grace.size(), pod.grace_s);
        pod.view.containers.push_back(container_view(item));
      }
    });
  });
}

void RuntimeReader::list(cri::Done<std::map<std::string, ListedPod>> done) {
  list_labelled({{kOwnerLabel, owner_}}, std::move(done));
}

// A listed pod on its way to a whole view.
struct RuntimeReader::Reading {
  PodRuntimeView view;
  std::size_t waiting = 1;
  std::optional<Error> failure;
  cri::Done<PodRuntimeView> done;

  void arrived(const Error* error) {
    // What went away between the list and its status is no failure: the next look does not list it.
    if (error != nullptr && error->code != Code::kNotFound) failure = *error;
    if (--waiting != 0) return;
    if (failure) return done(std::unexpected(std::move(*failure)));
    done(std::move(view));
  }
};

void RuntimeReader::read(const std::string& uid, const PodRuntimeView& known, cri::Done<PodRuntimeView> done) {
  list_labelled({{kOwnerLabel, owner_}, {kPodUidLabel, uid}}, [this, uid, known, done = std::move(done)](auto listed) {
    if (!listed) return done(std::unexpected(std::move(listed).error()));
    auto reading = std::make_shared<Reading>();
    reading->view = std::move((*listed)[uid].view);
    reading->done = done;
    for (SandboxView& sandbox : reading->view.sandboxes) {
      const SandboxView* before = find_id(known.sandboxes, sandbox.id);
      if (before != nullptr) sandbox.ips = before->ips;
      if (!sandbox.ready || !sandbox.ips.empty()) continue;
      cri::api::PodSandboxStatusRequest request;
      request.set_pod_sandbox_id(sandbox.id);
      ++reading->waiting;
      runtime_.call(
          loop_, request, kDeadline,
          [reading, &sandbox, alive = std::weak_ptr(alive_)](Result<cri::api::PodSandboxStatusResponse> status) {
            if (alive.expired()) return;
            if (!status) return reading->arrived(&status.error());
            const auto& network = status->status().network();
            if (auto ip = IpAddress::parse(network.ip())) sandbox.ips.push_back(*ip);
            for (const auto& more : network.additional_ips()) {
              if (auto ip = IpAddress::parse(more.ip())) sandbox.ips.push_back(*ip);
            }
            reading->arrived(nullptr);
          });
    }
    for (ContainerView& container : reading->view.containers) {
      const ContainerView* before = find_id(known.containers, container.id);
      if (before != nullptr && told(*before, container)) {
        container = *before;
        continue;
      }
      cri::api::ContainerStatusRequest request;
      request.set_container_id(container.id);
      ++reading->waiting;
      runtime_.call(
          loop_, request, kDeadline,
          [reading, &container, alive = std::weak_ptr(alive_)](Result<cri::api::ContainerStatusResponse> status) {
            if (alive.expired()) return;
            if (!status) return reading->arrived(&status.error());
            complete(container, status->status());
            reading->arrived(nullptr);
          });
    }
    reading->arrived(nullptr);
  });
}

}  // namespace fairlead::pods
